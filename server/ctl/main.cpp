// SPDX-License-Identifier: MIT
// cricketctl: what a user, or a script, says to a running cricket-server. Exit status 0 means done, 1 that it
// could not be done and why on stderr, in one line.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>

#include "command.h"
#include "command_line.h"
#include "criu_action.h"
#include "paths.h"
#include "prune.h"
#include "run.h"
#include "series.h"
#include "verdict.h"

namespace {

using namespace cricket::ctl;
using cricket::server::add_number;
using cricket::server::ControlClient;

constexpr unsigned most = 1000000;  // of seconds and of counts

constexpr char footer[] =
    "SESSION is a session as status names it (s1), PID the process id of its program.\n"
    "Exit status: 0 done; 1 not done, and why; 2 verify: not good; 3 --dry-run: it would be refused; 75 run: saved, to go on\n"
    "with the same command; 100 and more: this command line is wrong.";
constexpr char criu_footer[] =
    "\nThe criu is that of CRICKET_CRIU, else the first in PATH; both are to be run as root.\n";

// Shows what may come after "--", which the parser does not know of.
class Usage : public CLI::Formatter {
  public:
    explicit Usage(std::string after) : after_(std::move(after)) {}
    std::string make_usage(const CLI::App* app, std::string name) const override {
        std::string text = CLI::Formatter::make_usage(app, std::move(name));
        return text.insert(text.find_last_not_of('\n') + 1, " " + after_);
    }

  private:
    const std::string after_;
};

// The commands' descriptions, and what their words are read into.
class CommandLine {
  public:
    // `after`: what follows "--", for criu or the program to run.
    explicit CommandLine(std::vector<std::string> after) : after_(std::move(after)) {
        app_.set_version_flag("--version", "cricket " CRICKET_VERSION);
        app_.require_subcommand(1);
        app_.fallthrough();
        app_.failure_message(cricket::server::failure_line);
        app_.footer(footer);
        app_.add_option("--socket", socket_,
                        "the server's, as given to cricket-server (default: $XDG_RUNTIME_DIR/cricket/server.sock, for root "
                        "/run/cricket/server.sock)")
            ->type_name("PATH")
            ->envname("CRICKET_SOCKET");
        add_run();
        add_status();
        add_checkpoint();
        add_restore();
        add_snapshot();
        add_load();
        add_verify();
        add_list();
        add_prune();
        add_quiesce();
        add_resume();
        add_drop();
        add_shim();
    }

    int parse(int argc, char** argv) {
        CLI11_PARSE(app_, argc, argv);
        return exit_status_;
    }

  private:
    CLI::App* add(const std::string& name, const std::string& text, const std::string& example, std::function<void()> job,
                  const std::string& after = "") {
        CLI::App* command = app_.add_subcommand(name, text);
        const std::string criu = after.empty() ? "" : criu_footer;
        command->footer("Example: cricketctl " + name + " " + example + "\n" + criu + "\n" + footer);
        if (!after.empty()) command->formatter(std::make_shared<Usage>(after));
        command->callback([this, job = std::move(job), takes_more = !after.empty()] {
            if (!takes_more && !after_.empty()) throw CLI::ExtrasError({"-- " + after_.front()});
            job();
        });
        return command;
    }
    void add_directory(CLI::App* command, const std::string& text) {
        command->add_option("directory", directory_, text)->type_name("DIR")->required();
    }
    void add_target(CLI::App* command) {
        command->add_option("session", target_, "SESSION or PID")->type_name("")->required();
    }
    void add_dry_run(CLI::App* command) {
        auto* dry = command->add_flag("--dry-run", dry_run_,
                                      "say what would be refused, how much would be written and how long the program "
                                      "would stand still; exit status 3 when it would be refused");
        command->add_flag("--json", as_json_, "with --dry-run: for programs")->needs(dry);
    }
    void add_store(CLI::App* command) {
        command->add_flag("--series", store_.series,
                          "one of a row: chunks that the newest one of the session in the same folder has are shared with it");
        command->add_option("--base", store_.base, "an earlier snapshot or checkpoint, whose unchanged chunks are shared")->type_name("DIR");
        command->add_option("--compress", store_.compress, "pack with zstd of LEVEL 1 to 19; without a LEVEL 1; 0: do not")
            ->check(CLI::Range(0, 19).description(""))
            ->type_name("LEVEL")
            ->expected(0, 1)
            ->default_str("1");
    }
    void add_devices(CLI::App* command) {
        command->add_option("--devices", devices_,
                            "the GPUs to use in place of those it had, as for CUDA_VISIBLE_DEVICES: 1, or 1,0, or GPU-uuid")
            ->type_name("LIST");
    }

    // Worked out only when it is needed: verify needs no server.
    std::string control_socket() const {
        return cricket::server::control_path(socket_.empty() ? cricket::server::default_socket_path() : socket_);
    }
    ControlClient connect() const { return ControlClient::connect(control_socket()); }
    std::string directory() const { return absolute_path(directory_); }
    StoreOptions stored() const {
        StoreOptions store = store_;
        if (!store.base.empty()) store.base = absolute_path(store.base);
        return store;
    }

    void add_run() {
        CLI::App* command = add(
            "run",
            "run a program with a server of its own and a checkpoint now and then; after SIGTERM, or whatever ended it, the same "
            "command goes on. Exit status: the program's, or 75 after SIGTERM: saved",
            "job -- python3 train.py",
            [this] {
                if (after_.empty()) throw CLI::RequiredError("-- PROGRAM");
                run_.directory = directory();
                run_.devices = devices_;
                run_.program = after_;
                exit_status_ = run(run_);
            },
            "-- PROGRAM ARGS...");
        add_directory(command, "where output, checkpoints and the server's socket are");
        add_number(command, "--every", run_.every, "SECONDS", "from checkpoint to checkpoint", 1u, most);
        add_number(command, "--keep", run_.keep, "COUNT", "how many checkpoints stay", 1u, most);
        command->add_option("--driver", run_.driver, "real (the NVIDIA driver), soft (the software GPU), or the path of a libcuda.so.1")
            ->capture_default_str();
        command->add_option("--devices", devices_, "the GPUs to use, as CUDA_VISIBLE_DEVICES: 1, or 1,0, or GPU-uuid; where it goes on, "
                                                   "in place of those it had")
            ->type_name("LIST");
        command->add_option("--criu-option", run_.criu_arguments, "for criu, each time: --criu-option=--tcp-established, or =--file-locks; may be repeated")
            ->type_name("OPTION")
            ->allow_extra_args(false);
    }

    void add_status() {
        CLI::App* command = add("status", "show the server and its sessions", "--json", [this] { show_status(control_socket(), as_json_); });
        command->add_flag("--json", as_json_, "for programs");
    }

    void add_checkpoint() {
        CLI::App* command = add(
            "checkpoint", "save a running program and its session; arguments after -- go to criu", "4711 ck --leave-running",
            [this] {
                checkpoint_.directory = directory();
                if (dry_run_)
                    return dry_checkpoint(control_socket(), {checkpoint_.target, checkpoint_.directory, checkpoint_.leave_running, as_json_,
                                                             after_, checkpoint_.without_gpu});
                checkpoint_.criu_arguments = after_;
                checkpoint_.store = stored();
                checkpoint(control_socket(), checkpoint_);
            },
            "[-- CRIU-OPTIONS...]");
        command->add_option("pid", checkpoint_.target, "PID or SESSION")->type_name("")->required();
        add_directory(command, "folder to make; an older checkpoint there is replaced");
        command->add_flag("--leave-running", checkpoint_.leave_running, "let the program go on; else it is ended");
        add_store(command);
        command->add_flag("--without-gpu", checkpoint_.without_gpu,
                          "the program alone: restored, its calls answer CUDA_ERROR_CONTEXT_IS_DESTROYED until it resets the device");
        add_number(command, "--timeout", checkpoint_.timeout, "SECONDS",
                   "to wait for what runs on the GPU; when they are over, nothing is done", 1u, most);
        add_dry_run(command);
    }

    void add_restore() {
        CLI::App* command = add(
            "restore", "bring a checkpoint's program and session back; arguments after -- go to criu", "ck",
            [this] { restore(control_socket(), {directory(), devices_, truncate_, checkpoint_.without_gpu, after_}); },
            "[-- CRIU-OPTIONS...]");
        add_directory(command, "of the checkpoint");
        add_devices(command);
        command->add_flag("--truncate", truncate_,
                          "cut what the program has written to its files since, which it will write again: criu wants them "
                          "as long as they were");
        command->add_flag("--without-gpu", checkpoint_.without_gpu,
                          "the program alone: its calls answer CUDA_ERROR_CONTEXT_IS_DESTROYED until it resets the device");
    }

    void add_snapshot() {
        CLI::App* command = add("snapshot", "save a parked or quiesced session", "s1 gpu", [this] {
            if (dry_run_) return dry_snapshot(control_socket(), {target_, directory(), false, as_json_, {}, false});
            snapshot(control_socket(), target_, directory(), stored(), of_running_);
        });
        add_target(command);
        add_directory(command, "folder to make; an older snapshot there is replaced");
        command->add_flag("--running", of_running_,
                          "also of a running session, which stands still until its content is secured; for criu's half somebody "
                          "else sees");
        add_store(command);
        add_dry_run(command);
    }

    void add_load() {
        CLI::App* command = add("load", "bring a snapshot back; its session is then parked", "gpu", [this] {
            const cricket::server::LoadResult loaded = connect().load(directory(), devices_);
            require(loaded.result);
            std::cout << describe(loaded.session) << " is parked\n";
        });
        add_directory(command, "of the snapshot");
        add_devices(command);
    }

    void add_verify() {
        CLI::App* command = add(
            "verify", "read a snapshot or checkpoint and check every byte of it, or a session against one; exit status 2 when it is not good",
            "ck", [this] {
                if (*live_option_) return verify_live(control_socket(), live_, directory_.empty() ? "" : directory(), as_json_);
                if (directory_.empty()) throw CLI::RequiredError("directory");
                verify(directory());
            });
        command->add_option("directory", directory_, "of the snapshot or checkpoint")->type_name("DIR");
        live_option_ = command
                           ->add_option("--live", live_,
                                        "SESSION or PID: compare its memory with the snapshot (if none is named: the one it was loaded "
                                        "from), run a probe kernel, ask its streams and events; it stands still meanwhile")
                           ->type_name("SESSION");
        command->add_flag("--json", as_json_, "with --live: for programs")->needs(live_option_);
    }

    void add_list() {
        CLI::App* command =
            add("list", "show the snapshots and checkpoints in a folder", "checkpoints", [this] { list_series(directory(), as_json_); });
        add_directory(command, "that holds them, each in a folder of its own");
        command->add_flag("--json", as_json_, "for programs");
    }

    void add_prune() {
        CLI::App* command =
            add("prune", "remove all but the newest snapshots and checkpoints in a folder, and what was left half-written there",
                "checkpoints --keep 3", [this] {
                    prune_.directory = directory();
                    prune_series(prune_);
                });
        add_directory(command, "that holds them, each in a folder of its own");
        add_number(command, "--keep", prune_.keep, "COUNT", "how many of each session stay", 1u, most);
        command->add_flag("--dry-run", prune_.dry_run, "only say what would go");
    }

    void add_quiesce() {
        CLI::App* command = add("quiesce", "stop a session at a call boundary until resume", "s1",
                                [this] { require(connect().quiesce(target_, quiesce_seconds_ * 1000, true)); });
        add_target(command);
        add_number(command, "--timeout", quiesce_seconds_, "SECONDS",
                   "to wait for what runs on the GPU; when they are over, the session goes on", 1u, most);
    }

    void add_resume() {
        add_target(add("resume", "let a quiesced session go on", "s1", [this] { require(connect().resume(target_)); }));
    }

    void add_drop() {
        CLI::App* command =
            add("drop", "forget a session and free its memory", "s1", [this] { require(connect().drop(target_, force_)); });
        add_target(command);
        command->add_flag("--force", force_, "even while its program runs, which then gets errors");
    }

    void add_shim() {
        add("shim", "print the path of the libcudashim.so to preload", "", [] { std::cout << shim_path() << "\n"; });
    }

    CLI::App app_{"cricketctl: talks to a running cricket-server", "cricketctl"};
    const std::vector<std::string> after_;
    std::string socket_, target_, directory_, devices_, live_;
    bool as_json_ = false, force_ = false, dry_run_ = false, of_running_ = false, truncate_ = false;
    CLI::Option* live_option_ = nullptr;
    CheckpointOptions checkpoint_;
    StoreOptions store_;
    RunOptions run_;
    PruneOptions prune_;
    uint32_t quiesce_seconds_ = 60;
    int exit_status_ = 0;
};

// One line, whatever was quoted in it.
std::string one_line(std::string text) {
    for (char& c : text)
        if (static_cast<unsigned char>(c) < ' ') c = ' ';
    return text;
}

}  // namespace

int main(int argc, char** argv) {
    int status = 0;
    if (is_action_script(&status) || is_criu_action(&status)) return status;
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit of files fails, as on a full disk
    std::vector<std::string> after;
    for (int i = 1; i < argc; ++i) {
        if (std::string(argv[i]) != "--") continue;
        after.assign(argv + i + 1, argv + argc);
        argc = i;
    }
    try {
        return CommandLine(std::move(after)).parse(argc, argv);
    } catch (const ExitWith& end) {
        if (!end.why.empty()) std::cerr << "cricketctl: " << one_line(end.why) << "\n";
        return static_cast<int>(end.status);
    } catch (const std::exception& error) {
        std::cerr << "cricketctl: " << one_line(error.what()) << "\n";
        return 1;
    }
}
