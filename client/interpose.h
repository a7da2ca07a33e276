// SPDX-License-Identifier: MIT
#pragma once

namespace cricket::client {

// Whether dlopen(file) means the CUDA driver: libcuda.so, libcuda.so.1 or another version, with or without a
// path.
bool names_driver(const char* file);

}  // namespace cricket::client
