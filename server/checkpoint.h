// SPDX-License-Identifier: MIT
// How a session is made of a snapshot again; checkpoint_saver.h makes snapshots.
#pragma once

#include <functional>
#include <string>

#include "executor.h"
#include "session.h"

namespace cricket::server {

// The CUDA_* variables of a snapshot's session, which must be set before the driver is loaded.
Variables saved_environment(const std::string& directory);

// Makes the fresh `session` what the snapshot describes; returns whether it was a coordinated one. Throws
// std::runtime_error naming what is wrong; the session is then of no use. `checked` is called when devices and code were
// found fit and nothing is left but to bring the content.
// `without_gpu`: nothing comes back but what the application needs to attach again, as if it had been saved so.
bool load_checkpoint(Session& session, Executor& executor, const std::string& directory, bool without_gpu,
                     const std::function<void()>& checked);

}  // namespace cricket::server
