// SPDX-License-Identifier: MIT
// What kernels printed (printf, a failed assert): fetched from the worker (server/device_text.h) and written to the
// application's stdout and stderr through its own C library, before the call returns that waited for the device.
#pragma once

#include <cstdint>

namespace cricket::client::device_text {

// A reply says that the session's kernels have printed `total` bytes so far.
void note(uint64_t total);
// Fetches and writes what is new. To be called where a call of the application ends: it makes calls of its own.
void deliver();
void forget_in_child();

}  // namespace cricket::client::device_text
