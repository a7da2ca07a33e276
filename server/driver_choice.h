// SPDX-License-Identifier: MIT
// Which libcuda.so.1 the workers load. It is tried in a child process, because a driver that has been
// initialized cannot be let go of again, and the supervisor must never hold one.
#pragma once

#include <stdexcept>
#include <string>

namespace cricket::server {

struct DriverError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct DriverChoice {
    std::string path;         // absolute
    std::string description;  // version and devices, for the log
};

// `wanted`: "real" (the system's, never our shim or the software GPU), "soft" (the software GPU), or a path.
// Throws DriverError that names what is wrong.
DriverChoice choose_driver(const std::string& wanted);

// The child's side: main() of `cricket-server --probe-driver NAME`. Prints the answer for choose_driver().
int probe_driver(const std::string& name);

}  // namespace cricket::server
