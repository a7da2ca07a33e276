// SPDX-License-Identifier: MIT
// Device memory of a session: made with CUDA's virtual-memory API inside one address range that every worker reserves
// at the same place, so that a restore puts each byte back where it was. Small allocations share 2 MiB chunks.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <vector>

#include "driver_table.h"

namespace cricket::server {

struct DeviceAllocation {
    uint64_t address = 0, bytes = 0;
    int32_t device = 0;
};

class DeviceMemory {
  public:
    explicit DeviceMemory(const DriverTable& driver) : driver_(driver) {}

    // Reserves the range; CUDA_ERROR_OUT_OF_MEMORY when the driver gives another address.
    CUresult reserve();

    // At least `bytes` bytes, aligned to 512. What was freed is used again only after reclaim().
    CUresult allocate(CUdevice device, uint64_t bytes, CUdeviceptr* out);
    // Takes an allocation away from the application. Its memory stays mapped, for kernels still running, until
    // reclaim() of the same address.
    CUresult free(CUdeviceptr address);
    // Gives freed memory back: the work that may use it is over.
    void reclaim(CUdeviceptr address);

    // The allocation that `address` lies in; null when in none.
    const DeviceAllocation* find(uint64_t address) const;
    const std::map<uint64_t, DeviceAllocation>& allocations() const { return allocations_; }
    uint64_t bytes() const { return bytes_; }

    // Restore: the same chunks and allocations at the same addresses. The description is as describe() gave it.
    struct ChunkDescription {
        uint64_t address = 0, bytes = 0;
        int32_t device = 0;
        bool shared = false;  // holds small allocations
    };
    std::vector<ChunkDescription> describe() const;
    CUresult recreate(const std::vector<ChunkDescription>& chunks, const std::vector<DeviceAllocation>& allocations);

  private:
    struct Chunk {
        uint64_t address = 0, bytes = 0;
        int32_t device = 0;
        bool shared = false;
        CUmemGenericAllocationHandle handle = 0;
        std::map<uint64_t, uint64_t> free;  // shared chunks: address -> bytes
    };
    CUresult create_chunk(uint64_t address, uint64_t bytes, CUdevice device, bool shared, Chunk** out);
    void destroy_chunk(uint64_t address);
    bool take_range(uint64_t bytes, uint64_t* address);
    void give_range(uint64_t address, uint64_t bytes);

    const DriverTable& driver_;
    std::map<uint64_t, Chunk> chunks_;                   // by address
    std::map<uint64_t, DeviceAllocation> allocations_;   // living, by address
    std::map<uint64_t, DeviceAllocation> freed_;
    std::map<uint64_t, uint64_t> free_ranges_;           // address -> bytes, of the reserved range
    uint64_t bytes_ = 0;
};

}  // namespace cricket::server
