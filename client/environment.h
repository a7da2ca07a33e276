// SPDX-License-Identifier: MIT
// The application's CUDA_* variables, which the driver in the worker must find as it would find them here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cricket::client::environment {

// Writes NAME=VALUE texts, each with its NUL, into `place`; those that do not fit are named in the log. Returns the bytes.
size_t collect(char* place, size_t capacity);
// Changes when a CUDA_* variable does; never 0.
uint64_t fingerprint();
// CUDA_LAUNCH_BLOCKING: launches are waited for.
bool launch_blocking();

}  // namespace cricket::client::environment
