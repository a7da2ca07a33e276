// SPDX-License-Identifier: MIT
// The supervisor's part of NVML: the socket, and a process that answers there while there is something to answer.
// Used by the supervisor's main thread.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "paths.h"

namespace cricket::server {

class NvmlStarter {
  public:
    // Binds `socket_path` plus nvml_socket_suffix; throws PathError. `library`: of choose_nvml().
    NvmlStarter(const std::string& socket_path, std::string library);

    // Adds the socket to what is waited for while nobody answers there; start() when something came.
    void add_to(std::vector<pollfd>* waiting) const;
    // Milliseconds until add_to() would add it again; -1: that is not a matter of time.
    int timeout() const;
    void start_if_asked(const std::vector<pollfd>& waited);
    // Looks whether the process has ended.
    void reap();
    // Takes the socket away and ends the process.
    void close();

  private:
    bool resting() const;

    BoundSocket socket_;
    std::string library_, control_path_;
    pid_t process_ = -1;
    std::chrono::steady_clock::time_point not_before_{};  // after one that ended by accident
};

}  // namespace cricket::server
