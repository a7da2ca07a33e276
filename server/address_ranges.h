// SPDX-License-Identifier: MIT
// Free parts of an address range: first fit, neighbours merged, so that the same calls give the same addresses.
#pragma once

#include <cstdint>
#include <map>

namespace cricket::server {

class AddressRanges {
  public:
    // Returns the bytes of the free part that it is in now.
    uint64_t give(uint64_t address, uint64_t bytes);
    // `bytes` aligned to `alignment` (a power of two) from the first part with room. False when there is none.
    bool take(uint64_t bytes, uint64_t alignment, uint64_t* address);
    // Exactly [address, address + bytes). False when some of it is taken.
    bool take_exact(uint64_t address, uint64_t bytes);

    const std::map<uint64_t, uint64_t>& parts() const { return parts_; }
    uint64_t largest() const;  // bytes of the largest part
    // Whether the free part that holds [address, address + bytes) is just that.
    bool is_whole(uint64_t address, uint64_t bytes) const {
        return parts_.size() == 1 && parts_.begin()->first == address && parts_.begin()->second == bytes;
    }

  private:
    void cut(std::map<uint64_t, uint64_t>::iterator part, uint64_t address, uint64_t bytes);
    std::map<uint64_t, uint64_t> parts_;  // address -> bytes
};

}  // namespace cricket::server
