// SPDX-License-Identifier: MIT
// How a session is made of a snapshot again; checkpoint_saver.h makes snapshots.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

#include "executor.h"
#include "session.h"

namespace cricket::server {

// The CUDA_* variables of a snapshot's session, which must be set before the driver is loaded.
Variables saved_environment(const std::string& directory);

// The driver has put a variable in another place than it had.
struct Displaced : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Makes the fresh `session` what the snapshot describes; returns whether it was a coordinated one. Throws
// std::runtime_error naming what is wrong; the session is then of no use. `checked` is called when devices and code were
// found fit and nothing is left but to bring the content.
// `place`: after Displaced, in another process: the driver is led to the places (placement.h).
// `without_gpu`: nothing comes back but what the application needs to attach again, as if it had been saved so.
bool load_checkpoint(Session& session, Executor& executor, const std::string& directory, bool without_gpu, bool place,
                     const std::function<void()>& checked);

}  // namespace cricket::server
