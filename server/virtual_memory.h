// SPDX-License-Identifier: MIT
// The application's own use of CUDA's virtual-memory API. Addresses are chosen here, inside a range kept for it, so that a
// restore can put everything back; physical memory and mappings are the driver's.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "address_ranges.h"
#include "cricket/shared_names.h"
#include "device_memory.h"
#include "driver_table.h"
#include "exchange.h"
#include "objects.h"

namespace cricket::server {

class VirtualMemory {
  public:
    VirtualMemory(const DriverTable& driver, Objects& objects, DeviceMemory& device_memory);

    // As the driver's functions, with session numbers for handles.
    CUresult reserve(uint64_t bytes, uint64_t alignment, uint64_t wanted, uint64_t flags, CUdeviceptr* out);
    CUresult free(CUdeviceptr address, uint64_t bytes);
    CUresult create(uint64_t bytes, const CUmemAllocationProp& properties, uint64_t flags, uint64_t* number);
    CUresult release(uint64_t number);
    CUresult map(CUdeviceptr address, uint64_t bytes, uint64_t offset, uint64_t number, uint64_t flags);
    CUresult unmap(CUdeviceptr address, uint64_t bytes);
    CUresult set_access(CUdeviceptr address, uint64_t bytes, const std::vector<CUmemAccessDesc>& access);
    CUresult get_access(CUdeviceptr address, const CUmemLocation& location, unsigned long long* flags);
    CUresult properties(uint64_t number, CUmemAllocationProp* out);
    CUresult retain(CUdeviceptr address, uint64_t* number);
    CUresult export_name(uint64_t number, CUmemAllocationHandleType type, uint64_t flags, SharedHandle* out);
    CUresult import_name(const SharedHandle& shared, uint64_t* number);

    struct Reservation {
        uint64_t bytes = 0;
        bool own = false;  // the driver's own reservation; else a part of the session's device range
    };
    // The reservation that [address, address + bytes) lies in; null when in none.
    const Reservation* find(uint64_t address, uint64_t bytes, uint64_t* start = nullptr) const;
    bool empty() const { return reservations_.empty() && allocations_.empty(); }
    Exchange* exchange = nullptr;

    // A snapshot: what is shared with other sessions cannot be in it, and why; empty when nothing is.
    std::string refusal() const;
    nlohmann::json describe() const;
    CUresult recreate(const nlohmann::json& description);
    // Physical memory, whether mapped or not, by number.
    struct Physical {
        CUmemGenericAllocationHandle handle = 0;
        uint64_t bytes = 0;
        CUmemAllocationProp properties{};
        unsigned references = 0, mappings = 0;  // gone when both are 0
        bool published = false, imported = false;
        SharedHandle shared;
    };
    const std::map<uint64_t, Physical>& allocations() const { return allocations_; }
    // Makes an allocation readable and writable at an address of our own until unmap_aside().
    CUresult map_aside(const Physical& allocation, CUdeviceptr* address);
    void unmap_aside(const Physical& allocation, CUdeviceptr address);
    // Allocations that the application has mapped as a whole, writable on their own device: number -> address.
    std::map<uint64_t, CUdeviceptr> mapped_whole() const;

  private:
    struct Mapping {
        uint64_t bytes = 0, offset = 0, allocation = 0;
        std::map<CUdevice, unsigned> access;
    };
    bool reserve_exactly(uint64_t address, uint64_t bytes);
    Physical* living(uint64_t number);
    void settle(uint64_t number);

    const DriverTable& driver_;
    Objects& objects_;
    DeviceMemory& device_memory_;
    AddressRanges free_;
    std::map<uint64_t, Reservation> reservations_;  // by address
    std::map<uint64_t, Physical> allocations_;      // by number
    std::map<uint64_t, Mapping> mappings_;          // by address
};

}  // namespace cricket::server
