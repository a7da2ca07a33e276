// SPDX-License-Identifier: MIT
// Both halves are looked at before anything is touched; the GPU's half comes first, because it can be taken
// back.
#include <iostream>

#include "checkpoint_folder.h"
#include "command.h"
#include "criu.h"
#include "session_names.h"

namespace cricket::ctl {

using server::ControlClient;
using server::LoadResult;

void restore(const std::string& socket, const std::string& directory,
             const std::vector<std::string>& criu_arguments) {
    const CheckpointInfo info = check_checkpoint(directory);
    const std::string criu = find_criu();
    ControlClient control = ControlClient::connect(socket);
    const LoadResult loaded = control.load(directory + "/gpu");
    require(loaded.result);
    const std::string log = directory + "/restore.log";
    std::vector<std::string> arguments = {"restore", "-d", "-D", directory + "/app", "-o", log};
    arguments.insert(arguments.end(), criu_arguments.begin(), criu_arguments.end());
    const CriuResult restored = run_criu(criu, arguments, log);
    if (!restored.ok()) {
        std::string why = "criu could not restore pid " + std::to_string(info.pid) + ": " + restored.errors;
        const server::OpResult dropped = control.drop(server::session_name(loaded.session.id), true);
        if (!dropped.ok) why += "; and the loaded session stays: " + dropped.error;
        throw CommandError(why);
    }
    std::cout << describe(loaded.session) << " restored from " << directory << ", epoch " << info.epoch_id
              << "\n";
}

}  // namespace cricket::ctl
