// SPDX-License-Identifier: MIT
// What a snapshot of a session holds, and how a session is made of one again.
#pragma once

#include <string>

#include "executor.h"
#include "session.h"

namespace cricket::server {

// Writes the session, whose device work is over, into `directory`. `coordinated`: the client's image, taken at the
// same time, holds the host memory. Throws std::runtime_error naming what cannot be saved or written, before which
// nothing was changed.
void save_checkpoint(Session& session, Executor& executor, const std::string& directory, const std::string& checkpoint,
                     bool coordinated);

// The CUDA_* variables of a snapshot's session, which must be set before the driver is loaded.
Variables saved_environment(const std::string& directory);

// Makes the fresh `session` what the snapshot describes; returns whether it was a coordinated one. Throws
// std::runtime_error naming what is wrong; the session is then of no use.
bool load_checkpoint(Session& session, Executor& executor, const std::string& directory);

}  // namespace cricket::server
