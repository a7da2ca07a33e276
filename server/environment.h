// SPDX-License-Identifier: MIT
// The CUDA_* variables of a session: the application's, set for the worker's driver in place of the server's own, and kept
// with its snapshot.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace cricket::server {

using Variables = std::vector<std::string>;  // NAME=VALUE

// What a hello brings: texts with their NULs. Anything that is no CUDA_* variable is left out.
Variables read_variables(const char* text, size_t bytes);
// This process's environment with the session's variables in place of its own CUDA_* ones.
Variables worker_environment(const Variables& of_session);
// The CUDA_* variables of this process.
Variables current_variables();
void set_variables(const Variables& of_session);

}  // namespace cricket::server
