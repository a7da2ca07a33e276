// SPDX-License-Identifier: MIT
#pragma once

#include <time.h>

#include <cstdint>

namespace cricket {

// Nanoseconds of CLOCK_MONOTONIC: for spans of time within one boot of one machine, not across a restore.
inline uint64_t now_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

}  // namespace cricket
