// SPDX-License-Identifier: MIT
// A hash that tells whether memory has changed, the same on both sides of the wire. Not against anybody's will.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cricket {

inline uint64_t quick_hash(const void* data, size_t bytes) {
    const auto* at = static_cast<const unsigned char*>(data);
    uint64_t hash = 0x9e3779b97f4a7c15 ^ bytes;
    while (bytes) {
        uint64_t word = 0;
        const size_t piece = bytes < sizeof word ? bytes : sizeof word;
        std::memcpy(&word, at, piece);
        hash = (hash ^ word) * 0xff51afd7ed558ccd;
        hash ^= hash >> 32;
        at += piece;
        bytes -= piece;
    }
    return hash ? hash : 1;  // 0: nothing known
}

}  // namespace cricket
