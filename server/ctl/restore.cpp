// SPDX-License-Identifier: MIT
// Both halves are looked at before anything is touched; the GPU's half comes first, because it can be taken
// back.
#include <iostream>

#include "checkpoint_folder.h"
#include "command.h"
#include "criu.h"
#include "session_names.h"
#include "snapshot_store.h"

namespace cricket::ctl {

using server::ControlClient;
using server::LoadResult;

server::SessionStatus load_or_keep(ControlClient& control, const std::string& snapshot, const std::string& devices) {
    const server::SnapshotReader reader(snapshot);
    for (const server::SessionStatus& session : control.status().sessions) {
        if (server::token_text(session.token) != reader.info().session) continue;
        const uint64_t calls = reader.meta().value("executed", session.calls);
        if (session.state == server::SessionState::Parked && session.epoch == reader.info().epoch && session.calls == calls &&
            devices.empty())
            return session;
        throw CommandError(describe(session) + " is here already" +
                           (session.calls == calls ? "" : " and has gone on since (" + std::to_string(session.calls) + " calls, " +
                                                              std::to_string(calls) + " in the snapshot)") +
                           ": cricketctl drop " + server::session_name(session.id) + " forgets it");
    }
    LoadResult loaded = control.load(snapshot, devices);
    require(loaded.result);
    return loaded.session;
}

void restore(const std::string& socket, const std::string& directory, const std::string& devices,
             const std::vector<std::string>& criu_arguments) {
    const CheckpointInfo info = check_checkpoint(directory);
    const std::string criu = find_criu();
    ControlClient control = ControlClient::connect(socket);
    const server::SessionStatus session = load_or_keep(control, directory + "/gpu", devices);
    const std::string log = directory + "/restore.log";
    std::vector<std::string> arguments = {"restore", "-d", "-D", directory + "/app", "-o", log};
    arguments.insert(arguments.end(), criu_arguments.begin(), criu_arguments.end());
    const CriuResult restored = run_criu(criu, arguments, log);
    if (!restored.ok()) {
        std::string why = "criu could not restore pid " + std::to_string(info.pid) + ": " + restored.errors;
        const server::OpResult dropped = control.drop(server::session_name(session.id), true);
        if (!dropped.ok) why += "; and the loaded session stays: " + dropped.error;
        throw CommandError(why);
    }
    std::cout << describe(session) << " restored from " << directory << ", epoch " << info.epoch_id << "\n";
    if (info.without_gpu)
        std::cout << "without the GPU: its calls answer CUDA_ERROR_CONTEXT_IS_DESTROYED until it resets the device\n";
}

}  // namespace cricket::ctl
