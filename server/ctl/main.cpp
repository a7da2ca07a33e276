// SPDX-License-Identifier: MIT
// cricketctl: what a user, or a script, says to a running cricket-server. Exit status 0 means done, 1 that it
// could not be done and why on stderr, in one line.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "command.h"
#include "criu_action.h"
#include "paths.h"
#include "prune.h"
#include "run.h"
#include "series.h"
#include "verdict.h"

namespace {

using namespace cricket::ctl;
using cricket::server::ControlClient;

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

    // What follows "--" is for criu, or the program to run.
    std::vector<std::string> for_criu;
    for (int i = 1; i < argc; ++i) {
        if (std::string(argv[i]) != "--") continue;
        for_criu.assign(argv + i + 1, argv + argc);
        argc = i;
    }

    CLI::App app{"cricketctl: talks to a running cricket-server", "cricketctl"};
    app.set_version_flag("--version", "cricket " CRICKET_VERSION);
    app.require_subcommand(1);
    app.fallthrough();
    app.footer(
        "SESSION is a session as status names it (s1), PID the process id of its program.\n"
        "Exit status: 0 done; 1 not done, and why; 2 verify: not good; 3 --dry-run: it would be refused.");
    std::string socket;
    app.add_option("--socket", socket, "the server's socket, as given to cricket-server")
        ->envname("CRICKET_SOCKET");
    // The default is worked out only when it is needed: verify needs no server.
    const auto control_socket = [&] {
        return cricket::server::control_path(socket.empty() ? cricket::server::default_socket_path()
                                                            : socket);
    };
    const auto connect = [&] { return ControlClient::connect(control_socket()); };

    bool as_json = false, force = false, dry_run = false;
    std::string target, directory;
    CheckpointOptions options;

    const auto add_dry_run = [&](CLI::App* command) {
        auto* dry = command->add_flag("--dry-run", dry_run,
                                      "say what would be refused, how much would be written and how long the program "
                                      "would stand still; exit status 3 when it would be refused");
        command->add_flag("--json", as_json, "with --dry-run: for programs")->needs(dry);
    };

    StoreOptions store;
    const auto add_store = [&](CLI::App* command) {
        command->add_flag("--series", store.series,
                          "one of a row: chunks that the newest one of the session in the same folder has are shared with it");
        command->add_option("--base", store.base, "an earlier snapshot or checkpoint, whose unchanged chunks are shared");
        command->add_option("--compress", store.compress, "level of zstd")->check(CLI::Range(0, 19))->expected(0, 1)->default_str("1");
    };
    const auto stored = [&] {
        if (!store.base.empty()) store.base = absolute_path(store.base);
        return store;
    };

    std::string devices;
    const auto add_devices = [&](CLI::App* command) {
        command->add_option("--devices", devices,
                            "the GPUs to use in place of those it had, as for CUDA_VISIBLE_DEVICES: 1, or 1,0, or GPU-uuid");
    };

    CLI::App* status_command = app.add_subcommand("status", "show the server and its sessions");
    status_command->add_flag("--json", as_json, "for programs");
    status_command->callback([&] { show_status(control_socket(), as_json); });

    CLI::App* snapshot_command = app.add_subcommand("snapshot", "save a parked or quiesced session");
    snapshot_command->add_option("session", target, "SESSION or PID")->required();
    snapshot_command
        ->add_option("directory", directory, "folder to make; an older snapshot there is replaced")
        ->required();
    bool of_running = false;
    snapshot_command->add_flag("--running", of_running,
                               "also of a running session, which stands still until its content is secured; for criu's half "
                               "somebody else sees");
    add_store(snapshot_command);
    add_dry_run(snapshot_command);
    snapshot_command->callback([&] {
        if (dry_run) return dry_snapshot(control_socket(), {target, absolute_path(directory), false, as_json, {}, false});
        snapshot(control_socket(), target, absolute_path(directory), stored(), of_running);
    });

    CLI::App* load_command = app.add_subcommand("load", "bring a snapshot back; its session is then parked");
    load_command->add_option("directory", directory, "of the snapshot")->required();
    add_devices(load_command);
    load_command->callback([&] {
        const cricket::server::LoadResult loaded = connect().load(absolute_path(directory), devices);
        require(loaded.result);
        std::cout << describe(loaded.session) << " is parked\n";
    });

    CLI::App* checkpoint_command = app.add_subcommand(
        "checkpoint", "save a running program and its session; arguments after -- go to criu");
    checkpoint_command->add_option("pid", options.target, "PID or SESSION")->required();
    checkpoint_command
        ->add_option("directory", options.directory, "folder to make; an older checkpoint there is replaced")
        ->required();
    checkpoint_command->add_flag("--leave-running", options.leave_running,
                                 "let the program go on; else it is ended");
    add_store(checkpoint_command);
    checkpoint_command->add_flag("--without-gpu", options.without_gpu,
                                 "the program alone: restored, its calls answer CUDA_ERROR_CONTEXT_IS_DESTROYED until it "
                                 "resets the device");
    checkpoint_command
        ->add_option("--timeout", options.timeout, "seconds to wait for what runs on the GPU, before nothing is done")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    add_dry_run(checkpoint_command);
    checkpoint_command->callback([&] {
        options.directory = absolute_path(options.directory);
        if (dry_run)
            return dry_checkpoint(control_socket(),
                                  {options.target, options.directory, options.leave_running, as_json, for_criu,
                                   options.without_gpu});
        options.criu_arguments = for_criu;
        options.store = stored();
        checkpoint(control_socket(), options);
    });

    CLI::App* restore_command = app.add_subcommand(
        "restore", "bring a checkpoint's program and session back; arguments after -- go to criu");
    restore_command->add_option("directory", directory, "of the checkpoint")->required();
    add_devices(restore_command);
    bool truncate = false;
    restore_command->add_flag("--truncate", truncate,
                              "cut what the program has written to its files since, which it will write again: criu wants them "
                              "as long as they were");
    restore_command->add_flag("--without-gpu", options.without_gpu,
                              "the program alone: its calls answer CUDA_ERROR_CONTEXT_IS_DESTROYED until it resets the device");
    restore_command->callback([&] { restore(control_socket(), {absolute_path(directory), devices, truncate, options.without_gpu, for_criu}); });

    RunOptions run_options;
    int exit_status = 0;
    CLI::App* run_command = app.add_subcommand(
        "run", "run a program (the words after --) with a server of its own and a checkpoint now and then; after SIGTERM, or whatever "
               "ended it, the same command goes on. Exit status: the program's, or 75 after SIGTERM: saved");
    run_command->add_option("directory", run_options.directory, "where output, checkpoints and the server's socket are")->required();
    run_command->add_option("--every", run_options.every, "seconds from checkpoint to checkpoint")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    run_command->add_option("--keep", run_options.keep, "how many checkpoints stay")->check(CLI::Range(1, 1000000))->capture_default_str();
    run_command->add_option("--driver", run_options.driver, "as for cricket-server");
    run_command->add_option("--devices", run_options.devices, "as for restore");
    run_command->callback([&] {
        if (for_criu.empty()) throw CLI::RequiredError("-- PROGRAM");
        run_options.directory = absolute_path(run_options.directory);
        run_options.program = for_criu;
        exit_status = run(run_options);
    });

    CLI::App* verify_command =
        app.add_subcommand("verify",
                           "read a snapshot or checkpoint and check every byte of it, or a session against one; exit "
                           "status 2 when it is not good");
    std::string live;
    verify_command->add_option("directory", directory, "of the snapshot or checkpoint");
    CLI::Option* live_option = verify_command->add_option(
        "--live", live,
        "SESSION or PID: compare its memory with the snapshot (if none is named: the one it was loaded from), run a probe "
        "kernel, ask its streams and events; it stands still meanwhile");
    verify_command->add_flag("--json", as_json, "with --live: for programs")->needs(live_option);
    verify_command->callback([&] {
        if (!live.empty())
            return verify_live(control_socket(), live, directory.empty() ? "" : absolute_path(directory), as_json);
        if (directory.empty()) throw CLI::RequiredError("directory");
        verify(absolute_path(directory));
    });

    CLI::App* list_command = app.add_subcommand("list", "show the snapshots and checkpoints in a folder");
    list_command->add_option("directory", directory, "that holds them, each in a folder of its own")->required();
    list_command->add_flag("--json", as_json, "for programs");
    list_command->callback([&] { list_series(absolute_path(directory), as_json); });

    PruneOptions prune;
    CLI::App* prune_command = app.add_subcommand(
        "prune", "remove all but the newest snapshots and checkpoints in a folder, and what was left half-written there");
    prune_command->add_option("directory", directory, "that holds them, each in a folder of its own")->required();
    prune_command->add_option("--keep", prune.keep, "how many of each session stay")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    prune_command->add_flag("--dry-run", prune.dry_run, "only say what would go");
    prune_command->callback([&] {
        prune.directory = absolute_path(directory);
        prune_series(prune);
    });

    CLI::App* quiesce_command =
        app.add_subcommand("quiesce", "stop a session at a call boundary until resume");
    uint32_t seconds = 60;
    quiesce_command->add_option("session", target, "SESSION or PID")->required();
    quiesce_command->add_option("--timeout", seconds, "seconds to wait for what runs on the GPU")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    quiesce_command->callback([&] { require(connect().quiesce(target, seconds * 1000, true)); });

    CLI::App* resume_command = app.add_subcommand("resume", "let a quiesced session go on");
    resume_command->add_option("session", target, "SESSION or PID")->required();
    resume_command->callback([&] { require(connect().resume(target)); });

    CLI::App* drop_command = app.add_subcommand("drop", "forget a session and free its memory");
    drop_command->add_option("session", target, "SESSION or PID")->required();
    drop_command->add_flag("--force", force, "even while its program runs, which then gets errors");
    drop_command->callback([&] { require(connect().drop(target, force)); });

    try {
        CLI11_PARSE(app, argc, argv);
        return exit_status;
    } catch (const ExitWith& end) {
        if (!end.why.empty()) std::cerr << "cricketctl: " << one_line(end.why) << "\n";
        return static_cast<int>(end.status);
    } catch (const std::exception& error) {
        std::cerr << "cricketctl: " << one_line(error.what()) << "\n";
        return 1;
    }
}
