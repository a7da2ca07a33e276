// SPDX-License-Identifier: MIT
// A program that was restored, or whose server was, and has not called CUDA since. Nothing connects it with its session, which is
// parked: it comes to it with its next call.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace cricket::server {

// Whether this process is that of a session with this epoch, as it was when the session was saved: the answer to its last hello came
// back with its channel, and names the epoch. False also when its descriptors may not be read.
bool waits_for_session(pid_t pid, uint64_t epoch);

}  // namespace cricket::server
