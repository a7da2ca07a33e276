// SPDX-License-Identifier: MIT
// What a worker that crashes leaves in the log: the signal, what it (or the driver, or libc's checks) wrote to stderr last,
// and where it was. The session is lost then; this is for whoever finds out why.
#pragma once

namespace cricket::server {

// Once, before other threads and the driver are there. The driver's own handlers, if it sets any, replace ours.
void leave_last_words();

}  // namespace cricket::server
