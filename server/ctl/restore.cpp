// SPDX-License-Identifier: MIT
// Both halves are looked at before anything is made, and come back at the same time; criu lets the program go only once the
// GPU's half is there, so each can be taken back when the other fails.
#include <signal.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <iostream>
#include <optional>
#include <thread>

#include "checkpoint_folder.h"
#include "command.h"
#include "criu.h"
#include "criu_watch.h"
#include "session_names.h"
#include "snapshot_store.h"
#include "verdict.h"

namespace cricket::ctl {

using server::ControlClient;
using server::LoadResult;
using server::SessionStatus;

namespace {

constexpr std::chrono::seconds to_go{60};
constexpr std::chrono::milliseconds look_again{20};

SessionStatus loaded(const LoadResult& result) {
    require(result.result);
    return result.session;
}

std::optional<SessionStatus> session_with(ControlClient& control, const std::string& token) {
    for (SessionStatus& session : control.status().sessions)
        if (server::token_text(session.token) == token) return std::move(session);
    return {};
}

// The session of a snapshot, if it is here from an attempt before; that may have been killed while it was being loaded. Throws
// when it is here but must not be taken for it, and waits for what is about to go: criu has just dumped its program and ended it, or
// a restore has failed, and giving back a GPU takes the server a while.
std::optional<SessionStatus> kept_session(ControlClient& control, const std::string& snapshot, const std::string& devices) {
    const server::SnapshotReader reader(snapshot);
    const auto limit = std::chrono::steady_clock::now() + to_go;
    for (;;) {
        std::optional<SessionStatus> session = session_with(control, reader.info().session);
        if (!session) return {};
        const std::string name = server::session_name(session->id);
        if (session->state == server::SessionState::Starting) {
            control.finish_load(name);  // if it fails it goes
            continue;
        }
        const uint64_t calls = reader.meta().value("executed", session->calls);
        const bool parked = session->state == server::SessionState::Parked;
        const bool same = parked && session->epoch == reader.info().epoch && session->calls == calls && devices.empty();
        const bool stays = control.keep(name).ok;
        if (same && stays) return session;
        const bool goes = !stays || (!parked && session->state != server::SessionState::Running && session->pid > 0 && server::is_ending(session->pid));
        if (!goes || std::chrono::steady_clock::now() > limit)
            throw CommandError(describe(*session) + " is here already" +
                               (session->calls == calls ? "" : " and has gone on since (" + std::to_string(session->calls) + " calls, " +
                                                                   std::to_string(calls) + " in the snapshot)") +
                               ": cricketctl drop " + name + " forgets it");
        std::this_thread::sleep_for(look_again);
    }
}

// A process that nobody has waited for, or one of the same group, is in the way of a new one with that number.
std::string number_taken(pid_t pid) {
    const auto there = [](pid_t who) { return ::kill(who, 0) == 0 || errno == EPERM; };
    if (!there(pid) && !there(-pid)) return {};
    return "; number " + std::to_string(pid) + " is that of a process or process group (ps -eo pid,pgid,sid,stat,args)";
}

}  // namespace

SessionStatus load_or_keep(ControlClient& control, const std::string& snapshot) {
    const auto kept = kept_session(control, snapshot, {});
    return kept ? *kept : loaded(control.load(snapshot));
}

void restore(const std::string& socket, const RestoreOptions& options) {
    const std::string& directory = options.directory;
    const CheckpointInfo info = options.checked ? *options.checked : check_checkpoint(directory);
    const bool cut = options.truncate && outputs_are_longer(info.outputs);
    std::future<std::string> criu = std::async(std::launch::async, find_criu);
    ControlClient control = ControlClient::connect(socket);
    struct Half {
        std::string snapshot, name;
        std::optional<SessionStatus> there;
    };
    std::vector<Half> halves;
    const auto drop_all = [&] {
        std::string failed;
        for (const Half& one : halves)
            if (const server::OpResult dropped = control.drop(one.name, true); !dropped.ok)
                failed += "; and a loaded session stays: " + dropped.error;
        return failed;
    };
    // What cannot be restored is refused by the first step of a load; they go on side by side.
    for (const SavedSession& saved : info.sessions) {
        const std::string snapshot = directory + "/" + saved.folder;
        try {
            auto kept = kept_session(control, snapshot, options.devices);
            if (kept && options.without_gpu) {  // of an attempt before: with the GPU's content
                require(control.drop(server::session_name(kept->id), false));
                kept.reset();
            }
            const uint64_t id = kept ? kept->id : loaded(control.begin_load(snapshot, options.devices, options.without_gpu)).id;
            halves.push_back({snapshot, server::session_name(id), kept});
        } catch (const std::exception& error) {
            throw CommandError(error.what() + drop_all());
        }
    }
    const std::shared_future<void> loading = std::async(std::launch::async, [&] {
        for (Half& one : halves)
            if (!one.there) one.there = loaded(control.finish_load(one.name));
    });
    std::string why;
    try {
        if (cut) {
            loading.get();  // what was written since is only worth less once it can be written again
            cut_outputs(info.outputs);
        }
        const std::string log = directory + "/restore.log";
        Verdict verdict([&] {
            try {
                loading.get();
                return true;
            } catch (const std::exception&) {
                return false;
            }
        });
        std::vector<std::string> arguments = {"restore", "-d", "-D", directory + "/app", "-o", log};
        arguments.insert(arguments.end(), options.criu_arguments.begin(), options.criu_arguments.end());
        arguments.insert(arguments.end(), {"--action-script", verdict.script()});
        const CriuResult restored = run_criu(criu.get(), arguments, log, verdict.environment());
        if (!restored.ok()) why = "criu could not restore pid " + std::to_string(info.pid) + ": " + restored.errors + number_taken(info.pid);
    } catch (const std::exception& error) {
        why = error.what();
    }
    try {
        loading.get();  // criu has failed too if this did
    } catch (const std::exception& error) {
        why = error.what();
    }
    if (!why.empty()) throw CommandError(why + drop_all());
    for (const Half& one : halves) std::cout << describe(*one.there) << " restored from " << directory << ", epoch " << info.epoch_id << "\n";
    if (info.without_gpu || options.without_gpu)
        std::cout << "without the GPU: its calls answer CUDA_ERROR_CONTEXT_IS_DESTROYED until it resets the device\n";
}

}  // namespace cricket::ctl
