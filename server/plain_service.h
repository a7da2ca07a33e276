// SPDX-License-Identifier: MIT
// The CUDA program served over libtirpc's own stream transport: one connection, one call after the other.
#pragma once

#include <functional>

#include "cricket/unique_fd.h"
#include "executor.h"
#include "session.h"

namespace cricket::server {

// Serves until the connection ends. Runs on the executor's thread; `attached` is called once the client's attach
// call was answered.
void serve_plain(Session& session, Executor& executor, UniqueFd connection, std::function<void()> attached);

}  // namespace cricket::server
