// SPDX-License-Identifier: MIT
// Device memory of our own, to copy a session's aside in: at addresses that no session uses, in pieces that are given back
// one after the other while the copy leaves the device.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <vector>

#include "driver_table.h"

namespace cricket::server {

class AsideMemory {
  public:
    explicit AsideMemory(const DriverTable& driver) : driver_(driver) {}
    ~AsideMemory() { release(); }
    AsideMemory(const AsideMemory&) = delete;

    // Up to `wanted` bytes of the current context's device, at most `limit` and what leaves the device some room; returns how
    // many it has now.
    uint64_t take(CUdevice device, uint64_t wanted, uint64_t limit);
    uint64_t address() const { return address_; }
    uint64_t held() const { return held_; }
    CUdevice device() const { return device_; }
    // What lies before `offset` is not needed any more. True when something was given back.
    bool release_before(uint64_t offset);
    void release();

  private:
    struct Piece {
        uint64_t offset, bytes;
        CUmemGenericAllocationHandle handle;
    };
    const DriverTable& driver_;
    CUdevice device_ = -1;
    uint64_t address_ = 0, reserved_ = 0, held_ = 0;
    std::vector<Piece> pieces_;
    size_t first_ = 0;  // of those still held
};

}  // namespace cricket::server
