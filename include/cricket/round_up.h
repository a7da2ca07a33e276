// SPDX-License-Identifier: MIT
// Sizes and addresses in whole units.
#pragma once

#include <cstdint>

namespace cricket {

// The least multiple of `unit`, which need not be a power of two, that is not below `n`. `n` is at most UINT64_MAX - unit + 1.
constexpr uint64_t round_up(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace cricket
