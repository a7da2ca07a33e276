// SPDX-License-Identifier: MIT
// When a process started, which tells it from another one with the same pid; exec does not change it.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace cricket::server {

// Field 22 of /proc/PID/stat; 0 when it cannot be read.
uint64_t process_start_time(pid_t pid);

}  // namespace cricket::server
