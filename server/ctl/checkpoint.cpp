// SPDX-License-Identifier: MIT
// The coordinated checkpoint. The session is stopped at a call boundary; criu dumps the application while the
// server writes the GPU's half. Where both are to end afterwards, criu is kept waiting in its post-dump
// script until the whole checkpoint is under its name: only then may it end the application, and until then
// every failure lets it go on.
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <future>
#include <iostream>

#include "checkpoint_folder.h"
#include "command.h"
#include "criu.h"
#include "interrupts.h"
#include "partial_directory.h"
#include "progress.h"
#include "series.h"
#include "session_names.h"
#include "snapshot_store.h"
#include "verdict.h"

namespace cricket::ctl {
namespace {

using server::ControlClient;
using server::OpResult;
using server::SessionStatus;
using server::SnapshotState;

constexpr auto look_again = std::chrono::milliseconds(20);

std::string version_of(const std::string& criu) {
    std::string text;
    if (FILE* pipe = ::popen(("'" + criu + "' --version 2>/dev/null").c_str(), "re")) {
        char line[256];
        if (std::fgets(line, sizeof line, pipe)) text = line;
        ::pclose(pipe);
    }
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    return text;
}

// Resumes the session unless it was let go of.
class Quiesced {
  public:
    Quiesced(ControlClient& control, std::string session, uint32_t quiesce_ms, Interrupts& interrupts)
        : control_(control), session_(std::move(session)) {
        // As long as a kernel runs. What is not waited for any more is not done, either.
        const Interrupts::Ends ends(interrupts, Interrupts::First, control_);
        try {
            require(control_.quiesce(session_, quiesce_ms, false));
        } catch (const server::ControlError&) {
            interrupts.check();
            throw;
        }
    }
    ~Quiesced() {
        try {
            resume();
        } catch (const std::exception&) {
            // The server resumes it as soon as this connection ends.
        }
    }
    void resume() {
        if (std::exchange(stopped_, false)) require(control_.resume(session_));
    }
    void release() { stopped_ = false; }

  private:
    ControlClient& control_;
    const std::string session_;
    bool stopped_ = true;
};

}  // namespace

void checkpoint(const std::string& socket, const CheckpointOptions& options) {
    // Everything that can be known beforehand is, before anything stops.
    ControlClient control = ControlClient::connect(socket);
    const Tree tree = find_tree(control, options.target);
    const SessionStatus& session = tree.session;
    const std::string name = server::session_name(session.id);
    const std::string criu = find_criu();
    CheckpointInfo info{new_epoch_id(), server::token_text(session.token), session.program, tree.root,
                        version_of(criu)};

    Interrupts interrupts;
    require(control.guard(options.directory));
    server::PartialDirectory partial(options.directory, checkpoint_file);
    require(control.guard(partial.path()));
    const std::string app = partial.path() + "/app", log = app + "/dump.log", work = partial.path();
    if (::mkdir(app.c_str(), 0700) != 0)
        throw CommandError("cannot create '" + app + "': " + std::strerror(errno));
    // Not the connection that guards the folders: once that has ended, the server takes us for dead.
    ControlClient saver = ControlClient::connect(socket), stopper = ControlClient::connect(socket);
    const Interrupts::Ends saving(interrupts, Interrupts::Second, saver), stopping(interrupts, Interrupts::Second, stopper);
    std::vector<std::string> arguments = {"dump", "-t",      std::to_string(tree.root), "-D", app,
                                          "-o",   "dump.log"};
    arguments.insert(arguments.end(), options.criu_arguments.begin(), options.criu_arguments.end());

    Quiesced quiesced(stopper, name, options.timeout * 1000, interrupts);
    server::SnapshotRequest request = snapshot_request(options.store, info.session, work + "/gpu", options.directory);
    request.checkpoint = info.epoch_id;
    request.without_gpu = options.without_gpu;
    // First the content is secured, while criu dumps; then the program may go on.
    SnapshotState snapshot;
    std::future<OpResult> securing = std::async(std::launch::async, [&]() -> OpResult {
        try {
            snapshot = saver.begin_snapshot(name, request);
        } catch (const std::exception& error) {
            return OpResult::failure(error.what());
        }
        return snapshot.error.empty() ? OpResult{} : OpResult::failure(snapshot.error);
    });
    const auto wait_complete = [&] {
        if (securing.valid()) require(securing.get());
        Progress progress("writing " + options.directory);
        while (!interrupts.any() && snapshot.phase == server::SnapshotPhase::Writing) {
            // Looked at in between, so that an interrupt is noticed.
            const SnapshotState now = saver.snapshot_state(name, snapshot.id);
            if (now.phase != server::SnapshotPhase::Writing) break;
            progress.update(now.done, now.total);
            std::this_thread::sleep_for(look_again);
        }
        interrupts.check();
        snapshot = saver.wait_snapshot(name, snapshot.id);
        if (!snapshot.error.empty()) throw CommandError(snapshot.error);
    };
    // Nothing may be written into a folder that is being removed.
    const auto give_up = [&]() noexcept {
        try {
            if (securing.valid()) securing.wait();
            if (snapshot.id) saver.abort_snapshot(name, snapshot.id);
        } catch (const std::exception&) {
            // the server has gone, and its worker with it
        }
    };
    std::chrono::steady_clock::time_point criu_began;
    // While all stand still: a process of the tree may have begun to use CUDA meanwhile.
    const auto note_criu = [&] {
        ControlClient asking = ControlClient::connect(socket);
        check_alone(asking, tree);
        info.outputs = outputs_of(tree.root);
        info.criu = std::chrono::duration<double>(std::chrono::steady_clock::now() - criu_began).count();
    };
    const auto finish = [&] {
        info.device_bytes = snapshot.total;
        info.secured = static_cast<double>(snapshot.secured) / 1e6;
        info.complete = static_cast<double>(snapshot.complete) / 1e6;
        mark_app(partial.path(), info.epoch_id);
        seal_checkpoint(partial.path(), info);
        interrupts.check();
        partial.publish();
    };
    // A full disk takes criu's log, too, and the other half may not have noticed it yet.
    const auto room = [&]() -> std::string {
        constexpr uint64_t little = 1 << 20;
        std::error_code error;
        const uint64_t left = std::filesystem::space(work, error).available;
        return error || left >= little ? "" : "; '" + options.directory + "' has " + bytes_text(left) + " of space left";
    };
    // What made criu fail may have made the other half fail, with better words.
    const auto other_half = [&]() -> std::string {
        try {
            if (securing.valid())
                if (const OpResult secured = securing.get(); !secured.ok) return "; the GPU's half: " + secured.error;
            const SnapshotState now = snapshot.id ? saver.snapshot_state(name, snapshot.id) : SnapshotState{};
            return now.error.empty() ? "" : "; the GPU's half: " + now.error;
        } catch (const std::exception& error) {
            return std::string("; the GPU's half: ") + error.what();
        }
    };
    const auto dump_error = [&](const CriuResult& dump) {
        return CommandError("criu could not dump pid " + std::to_string(tree.root) + ": " + dump.errors + room() + other_half());
    };

    std::string why_not;
    if (options.leave_running) {
        Verdict standing([&] {
            try {
                note_criu();
                return true;
            } catch (const std::exception& error) {
                why_not = error.what();
                return false;
            }
        });
        arguments.insert(arguments.end(), {"--leave-running", "--action-script", standing.script()});
        try {
            criu_began = std::chrono::steady_clock::now();
            const CriuResult dump = run_criu(criu, arguments, log, standing.environment(), partial.hold());
            standing.close();
            securing.wait();
            quiesced.resume();
            if (!why_not.empty()) throw CommandError(why_not);
            if (!dump.ok()) throw dump_error(dump);
            wait_complete();
            finish();
        } catch (...) {
            give_up();
            throw;
        }
    } else {
        bool complete = false;
        Verdict verdict([&] {
            try {
                note_criu();
                wait_complete();
                finish();
                return complete = true;
            } catch (const std::exception& error) {
                why_not = error.what();
                return false;
            }
        });
        arguments.insert(arguments.end(), {"--action-script", verdict.script()});
        criu_began = std::chrono::steady_clock::now();
        const CriuResult dump = run_criu(criu, arguments, log, verdict.environment(), partial.hold());
        verdict.close();
        if (!complete) {
            const CommandError failed(!why_not.empty() ? why_not
                                      : dump.ok()      ? "criu ended the program without waiting for the GPU's half"
                                                       : dump_error(dump).what());
            give_up();
            quiesced.resume();
            throw failed;
        }
        if (!dump.ok())
            throw CommandError("'" + partial.target() + "' is complete, but criu failed to end pid " +
                               std::to_string(tree.root) + ": " + dump.errors);
        quiesced.release();
        require(control.drop(name, true));
    }
    std::cout << describe(session) << " saved in " << partial.target() << (options.without_gpu ? " without the GPU" : "")
              << ", epoch " << info.epoch_id << ": "
              << describe(snapshot) << "\n";
}

}  // namespace cricket::ctl
