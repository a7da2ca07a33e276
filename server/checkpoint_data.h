// SPDX-License-Identifier: MIT
// Device memory on its way between the GPU and a snapshot's files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "driver_table.h"
#include "snapshot_store.h"

namespace cricket::server {

// Pinned memory to copy through.
class Staging {
  public:
    static constexpr uint64_t piece_bytes = 16u << 20;
    explicit Staging(const DriverTable& driver) : driver_(driver) {
        if (driver_.cuMemAllocHost(&pinned_, piece_bytes) != CUDA_SUCCESS) {
            pinned_ = nullptr;
            pageable_.resize(piece_bytes);
        }
    }
    ~Staging() {
        if (pinned_) driver_.cuMemFreeHost(pinned_);
    }
    Staging(const Staging&) = delete;
    std::byte* data() { return pinned_ ? static_cast<std::byte*>(pinned_) : pageable_.data(); }

  private:
    const DriverTable& driver_;
    void* pinned_ = nullptr;
    std::vector<std::byte> pageable_;
};

// Throw std::runtime_error with `what` it was and what stands in the way.
void save_range(const DriverTable& driver, Staging& staging, SnapshotStream& out, uint64_t address, uint64_t bytes,
                const std::string& what);
void load_range(const DriverTable& driver, Staging& staging, SnapshotReader& in, const std::string& file,
                uint64_t offset, uint64_t address, uint64_t bytes, const std::string& what);

}  // namespace cricket::server
