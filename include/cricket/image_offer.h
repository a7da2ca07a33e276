// SPDX-License-Identifier: MIT
// A large program image is handed over as a file: one more datagram to the server's socket, with the file's descriptor.
// The call that loads it names the offer (rpc::Bulk, Where::Offered). What is in the file is what the application sees
// at its address, as both check: the client compares samples, the server their hash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cricket/wire.h"

namespace cricket::wire {

struct ImageOffer {
    uint64_t magic;  // image_magic
    uint32_t protocol;
    uint32_t reserved;
    Token token;
    uint64_t id;      // of the offer, random
    uint64_t offset;  // of the image in the file, any
    uint64_t size;
    uint64_t hash;    // sampled_hash()
};
inline constexpr uint64_t image_magic = 0x31304547414d4943;  // "CIMAGE01"
// Status of a call whose offer did not come: to be sent again with the image in it.
inline constexpr int32_t offer_missing = 0x43524b01;
inline constexpr uint64_t smallest_offer = uint64_t(1) << 20;
inline constexpr uint64_t largest_offer = uint64_t(1) << 40;

// Where the samples of an image lie: `visit(offset, bytes)` for each; false ends it.
template <class Visit>
bool each_sample(uint64_t size, Visit visit) {
    constexpr uint64_t sample = 4096, samples = 64;
    if (size <= sample * samples) return visit(uint64_t(0), size);
    const uint64_t step = (size - sample) / (samples - 1);
    for (uint64_t i = 0; i < samples; ++i)
        if (!visit(i + 1 == samples ? size - sample : i * step, sample)) return false;
    return true;
}

inline uint64_t sampled_hash(const std::byte* data, uint64_t size) {
    uint64_t hash = 0xcbf29ce484222325u ^ size;
    each_sample(size, [&](uint64_t offset, uint64_t bytes) {
        for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
            uint64_t word;
            std::memcpy(&word, data + offset + i, sizeof word);
            hash = (hash ^ word) * 0x100000001b3u;
            hash ^= hash >> 29;
        }
        for (uint64_t i = bytes & ~uint64_t(7); i < bytes; ++i)
            hash = (hash ^ static_cast<uint64_t>(data[offset + i])) * 0x100000001b3u;
        return true;
    });
    return hash;
}

}  // namespace cricket::wire
