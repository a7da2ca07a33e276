// SPDX-License-Identifier: MIT
// Numbers that the server's environment may set. The supervisor refuses to start with one that is none, so that nobody
// believes a limit that is not there; its workers inherit what it has checked.
#pragma once

#include <cstdint>
#include <optional>

namespace cricket::server::settings {

inline constexpr char fetch_threads[] = "CRICKET_FETCH_THREADS";  // that read the application's pageable memory; 0: none
inline constexpr char aside_device[] = "CRICKET_ASIDE_DEVICE";    // bytes that a snapshot's copy may take on a device
inline constexpr char aside_host[] = "CRICKET_ASIDE_HOST";        // bytes that it may take in the host's memory
inline constexpr char worker_patience[] = "CRICKET_WORKER_PATIENCE";  // seconds after which a worker that says nothing is unresponsive

// Nothing where the variable is not set or empty.
std::optional<uint64_t> number(const char* variable);

// Throws std::runtime_error, which names the variable and what it may be.
void check_all();

}  // namespace cricket::server::settings
