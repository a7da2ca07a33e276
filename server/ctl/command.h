// SPDX-License-Identifier: MIT
// The commands of cricketctl. Each returns when it is done and throws when it is not.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "control_client.h"

namespace cricket::ctl {

// One clear line for the user.
struct CommandError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Throws what went wrong, if something did.
void require(const server::OpResult& result);

struct CheckpointOptions {
    std::string target, directory;
    bool leave_running = false;
    std::vector<std::string> criu_arguments;
};

void show_status(const std::string& socket, bool as_json);
void checkpoint(const std::string& socket, const CheckpointOptions& options);
void restore(const std::string& socket, const std::string& directory,
             const std::vector<std::string>& criu_arguments);
// A snapshot, or a checkpoint with both halves: reads everything.
void verify(const std::string& directory);

std::string absolute_path(const std::string& path);
std::string describe(const server::SessionStatus& session);  // "session s7 (counter, pid 4711)"

}  // namespace cricket::ctl
