// SPDX-License-Identifier: MIT
// One launch of cuLaunchCooperativeKernelMultiDevice in a message.
#pragma once

#include <cstdint>

namespace cricket {

struct MultiLaunch {
    uint64_t function;  // session numbers
    uint64_t stream;
    uint32_t grid[3], block[3];
    uint32_t shared_bytes;
    uint32_t param_bytes;  // of its packed parameters
    uint32_t reserved[4];
};
static_assert(sizeof(MultiLaunch) == 64);
inline constexpr uint32_t most_multi_launches = 64;

}  // namespace cricket
