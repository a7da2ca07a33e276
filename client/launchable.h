// SPDX-License-Identifier: MIT
// Executable graphs that kernels may launch (CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH). The application hands a kernel the handle
// that it has, so it is the driver's own, and not the session's number, which is looked up here where the host uses it.
#pragma once

#include <cstdint>

using CUgraphExec = struct CUgraphExec_st*;  // cuda.h's

namespace cricket {

namespace client {
// What the application gets for an executable that was made with these flags, `number` in the session.
CUgraphExec launchable_handle(uint64_t number, uint64_t flags);
uint64_t launchable_number(uint64_t handle);  // the handle itself when it is none
}  // namespace client

inline uint64_t to_number(CUgraphExec exec) {
    constexpr int number_bits = 44;  // of the session's; the driver's are pointers, which lie above
    const auto handle = reinterpret_cast<uint64_t>(exec);
    return handle >> number_bits == 0 ? handle : client::launchable_number(handle);
}

}  // namespace cricket
