// SPDX-License-Identifier: MIT
#include "address_ranges.h"

#include <algorithm>
#include <iterator>

namespace cricket::server {

uint64_t AddressRanges::give(uint64_t address, uint64_t bytes) {
    auto next = parts_.lower_bound(address);
    if (next != parts_.end() && next->first == address + bytes) {
        bytes += next->second;
        next = parts_.erase(next);
    }
    if (next != parts_.begin()) {
        auto previous = std::prev(next);
        if (previous->first + previous->second == address) {
            return previous->second += bytes;
        }
    }
    return parts_[address] = bytes;
}

uint64_t AddressRanges::largest() const {
    uint64_t bytes = 0;
    for (const auto& [address, size] : parts_) bytes = std::max(bytes, size);
    return bytes;
}

void AddressRanges::cut(std::map<uint64_t, uint64_t>::iterator part, uint64_t address, uint64_t bytes) {
    const auto [start, size] = *part;
    parts_.erase(part);
    if (address > start) parts_[start] = address - start;
    if (start + size > address + bytes) parts_[address + bytes] = start + size - address - bytes;
}

bool AddressRanges::take(uint64_t bytes, uint64_t alignment, uint64_t* address) {
    for (auto part = parts_.begin(); part != parts_.end(); ++part) {
        const auto [start, size] = *part;
        const uint64_t aligned = (start + alignment - 1) & ~(alignment - 1);
        if (aligned < start || aligned - start > size || size - (aligned - start) < bytes) continue;
        cut(part, aligned, bytes);
        *address = aligned;
        return true;
    }
    return false;
}

bool AddressRanges::take_exact(uint64_t address, uint64_t bytes) {
    auto part = parts_.upper_bound(address);
    if (part == parts_.begin()) return false;
    --part;
    const auto [start, size] = *part;
    if (address - start > size || bytes > size - (address - start)) return false;
    cut(part, address, bytes);
    return true;
}

}  // namespace cricket::server
