// SPDX-License-Identifier: MIT
#pragma once

#include <sched.h>

namespace cricket::ring {

// The cores that this process may run on; with many, one that spins is in nobody's way.
inline bool many_cores() {
    constexpr int many = 8;
    cpu_set_t cores;
    return ::sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) >= many;
}

}  // namespace cricket::ring
