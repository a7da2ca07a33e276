// SPDX-License-Identifier: MIT
// The worker's own large mappings have places of their own, far from where the kernel puts what the driver asks for: that
// must be the same in a restored worker, and it depends on what else is mapped (facts/cuda-driver.md, module variables).
// All places stand here, so that none lies in another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>

#include "cricket/wire.h"

namespace cricket::server {

struct Place {
    uint64_t address, room;  // bytes
    constexpr uint64_t end() const { return address + room; }
};

namespace places {

inline constexpr uint64_t gib = uint64_t(1) << 30, tib = uint64_t(1) << 40;

inline constexpr Place host_image{0x380000000000, tib};
inline constexpr Place crew_stacks{0x390000000000, 64 * gib};
inline constexpr Place snapshot_staging{0x391000000000, 64 * gib};
inline constexpr Place memory_aside{0x392000000000, 896 * gib};
inline constexpr Place channel{0x3a0000000000, 128 * gib};
inline constexpr Place arrays_aside{0x3a2000000000, 896 * gib};
inline constexpr Place pageable_up{0x3b0000000000, tib};
inline constexpr Place completions{0x3c0000000000, tib};
inline constexpr Place images{0x3d0000000000, 3 * tib};
// Of addresses of the device, one after the other.
inline constexpr Place device_aside{0x600000000000, 64 * tib};

constexpr bool are_apart() {
    const Place in_order[] = {{wire::device_base, wire::device_span}, {wire::host_base, wire::host_span}, host_image, crew_stacks,
                              snapshot_staging, memory_aside, channel, arrays_aside, pageable_up, completions, images,
                              {wire::virtual_base, wire::virtual_span}, device_aside};
    for (size_t i = 1; i < std::size(in_order); ++i)
        if (in_order[i].address < in_order[i - 1].end()) return false;
    return true;
}
static_assert(are_apart());

}  // namespace places
}  // namespace cricket::server
