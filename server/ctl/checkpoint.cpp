// SPDX-License-Identifier: MIT
// The coordinated checkpoint. The sessions are stopped at call boundaries; criu dumps the application while the
// server writes the GPU's half. Where both are to end afterwards, criu is kept waiting in its post-dump
// script until the whole checkpoint is under its name: only then may it end the application, and until then
// every failure lets it go on.
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "checkpoint_folder.h"
#include "command.h"
#include "criu.h"
#include "halves.h"
#include "partial_directory.h"
#include "series.h"
#include "session_names.h"
#include "snapshot_store.h"
#include "verdict.h"

namespace cricket::ctl {
namespace {

using server::ControlClient;
using server::OpResult;
using server::SessionStatus;

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

}  // namespace

void checkpoint(const std::string& socket, const CheckpointOptions& options) {
    // Everything that can be known beforehand is, before anything stops.
    ControlClient control = ControlClient::connect(socket);
    const Tree tree = find_tree(control, options.target);
    const std::string criu = find_criu();
    CheckpointInfo info{new_epoch_id(), {}, tree.root, version_of(criu)};

    Interrupts interrupts;
    require(control.guard(options.directory));
    server::PartialDirectory partial(options.directory, checkpoint_file);
    require(control.guard(partial.path()));
    const std::string app = partial.path() + "/app", log = app + "/dump.log", work = partial.path();
    if (::mkdir(app.c_str(), 0700) != 0)
        throw CommandError("cannot create '" + app + "': " + std::strerror(errno));
    std::vector<server::SnapshotRequest> requests;
    for (const SessionStatus& session : tree.sessions) {
        info.sessions.push_back({server::token_text(session.token), session.program, session.pid, gpu_folder(info.sessions.size())});
        const SavedSession& saved = info.sessions.back();
        requests.push_back(snapshot_request(options.store, saved.token, work + "/" + saved.folder, options.directory));
        requests.back().checkpoint = info.epoch_id;
        requests.back().without_gpu = options.without_gpu;
    }
    std::vector<std::string> arguments = {"dump", "-t",      std::to_string(tree.root), "-D", app,
                                          "-o",   "dump.log"};
    arguments.insert(arguments.end(), options.criu_arguments.begin(), options.criu_arguments.end());

    // Not over the connection that guards the folders: once that has ended, the server takes us for dead.
    Quiesced quiesced(socket, tree.sessions, options.timeout, interrupts);
    // First the content is secured, while criu dumps; then the program may go on.
    Halves halves(socket, tree.sessions, requests, interrupts);
    std::chrono::steady_clock::time_point criu_began;
    // While all stand still: a process of the tree may have begun to use CUDA meanwhile.
    const auto note_criu = [&] {
        ControlClient asking = ControlClient::connect(socket);
        check_no_other(asking, tree);
        info.outputs = outputs_of(tree.root);
        info.criu = std::chrono::duration<double>(std::chrono::steady_clock::now() - criu_began).count();
    };
    const auto finish = [&] {
        info.device_bytes = halves.bytes();
        info.secured = halves.secured();
        info.complete = halves.complete();
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
        const std::string errors = halves.errors();
        return errors.empty() ? "" : "; the GPU's half: " + errors;
    };
    const auto dump_error = [&](const CriuResult& dump) {
        return CommandError("criu could not dump pid " + std::to_string(tree.root) + ": " + dump.errors + room() + other_half());
    };

    const std::string writing = "writing " + options.directory;
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
            halves.settle();
            quiesced.resume();
            if (!why_not.empty()) throw CommandError(why_not);
            if (!dump.ok()) throw dump_error(dump);
            halves.wait_complete(writing, interrupts);
            finish();
        } catch (...) {
            halves.give_up();
            throw;
        }
    } else {
        bool complete = false;
        Verdict verdict([&] {
            try {
                note_criu();
                halves.wait_complete(writing, interrupts);
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
            halves.give_up();
            throw failed;  // ~Quiesced lets the sessions go on
        }
        if (!dump.ok())
            throw CommandError("'" + partial.target() + "' is complete, but criu failed to end pid " +
                               std::to_string(tree.root) + ": " + dump.errors);
        quiesced.release();
        OpResult dropped;
        for (const SessionStatus& session : tree.sessions)
            if (const OpResult one = control.drop(server::session_name(session.id), true); !one.ok) dropped = one;
        require(dropped);
    }
    std::cout << halves.describe(partial.target() + (options.without_gpu ? " without the GPU" : ""), info.epoch_id);
}

}  // namespace cricket::ctl
