// SPDX-License-Identifier: MIT
// The process that answers NVML: it holds no session and no GPU memory, so it may end at any time and be started
// again. The supervisor starts it when a call waits at the socket, and it ends when none came for a while.
#pragma once

#include <string>

namespace cricket::server {

struct NvmlWorkerConfig {
    int socket = -1;           // datagrams, bound by the supervisor
    std::string library;       // path or name, empty: none
    std::string control_path;  // of the supervisor
};

// Returns the process's exit status.
int nvml_worker_main(const NvmlWorkerConfig& config);

}  // namespace cricket::server
