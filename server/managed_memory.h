// SPDX-License-Identifier: MIT
// Managed memory: host memory of the application that the device uses in place (host_memory.h), so it is coherent by
// itself and never migrates. Advice and prefetches are remembered, and told again when asked for.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <vector>

#include "driver_table.h"

namespace cricket::server {

struct ManagedAllocation {
    uint64_t address = 0, bytes = 0;
    CUdevice device = 0;
    uint64_t context = 0;
    unsigned flags = 0;  // CU_MEM_ATTACH_GLOBAL or _HOST
    uint64_t id = 0;     // CU_POINTER_ATTRIBUTE_BUFFER_ID
};

class ManagedMemory {
  public:
    explicit ManagedMemory(const DriverTable& driver) : driver_(driver) {}

    void add(const ManagedAllocation& allocation);
    void remove(uint64_t address);
    // The allocation that holds [address, address + bytes); null when there is none.
    const ManagedAllocation* find(uint64_t address, uint64_t bytes = 1) const;

    // As the driver's functions, of a range inside an allocation.
    CUresult advise(uint64_t address, uint64_t bytes, CUmem_advise advice, CUmemLocation location);
    CUresult prefetch(uint64_t address, uint64_t bytes, CUmemLocation location);
    // What does not fit `size` is CUDA_ERROR_INVALID_VALUE; else `out` has that many bytes.
    CUresult range_attribute(uint64_t address, uint64_t bytes, CUmem_range_attribute attribute, uint64_t size,
                             std::vector<int32_t>* out) const;
    // Whether a prefetch can go there.
    CUresult check(CUmemLocation location, bool numa) const;

    nlohmann::json describe() const;
    void recreate(const nlohmann::json& description);

  private:
    struct Hint {
        bool read_mostly = false;
        CUmemLocation preferred{CU_MEM_LOCATION_TYPE_INVALID, 0}, prefetched{CU_MEM_LOCATION_TYPE_INVALID, 0};
        std::set<int> accessed_by;  // devices, CU_DEVICE_CPU
    };
    // From an offset to the next one.
    using Hints = std::map<uint64_t, Hint>;
    template <class Change>
    CUresult change(uint64_t address, uint64_t bytes, const Change& change);

    const DriverTable& driver_;
    std::map<uint64_t, ManagedAllocation> allocations_;
    std::map<uint64_t, Hints> hints_;  // by allocation
    uint64_t next_id_ = uint64_t(1) << 40;  // beyond the driver's own
};

}  // namespace cricket::server
