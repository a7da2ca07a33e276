// SPDX-License-Identifier: MIT
// Memory pools and stream-ordered allocation, on chunks of the session's own device memory so that addresses are ours: the
// driver's pools would choose them. An allocation is handed out at once; a freed piece is used again at once on the stream
// it was freed on, elsewhere when that stream has come so far.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <tuple>
#include <vector>

#include "address_ranges.h"
#include "cricket/shared_names.h"

namespace cricket::server {

class Session;

class MemoryPools {
  public:
    explicit MemoryPools(Session& session) : session_(session) {}
    ~MemoryPools();

    // As the driver's functions, with session numbers for pools.
    CUresult create(const CUmemPoolProps& properties, uint64_t* number);
    CUresult destroy(uint64_t number);
    CUresult default_of(CUdevice device, uint64_t* number);
    CUresult current_of(CUdevice device, uint64_t* number);
    CUresult set_current(CUdevice device, uint64_t number);
    CUresult trim(uint64_t number, uint64_t keep);
    CUresult set_attribute(uint64_t number, CUmemPool_attribute attribute, uint64_t value);
    CUresult get_attribute(uint64_t number, CUmemPool_attribute attribute, uint64_t* value);
    CUresult set_access(uint64_t number, const std::vector<CUmemAccessDesc>& access);
    CUresult get_access(uint64_t number, const CUmemLocation& location, CUmemAccess_flags* flags);
    CUresult export_pool(uint64_t number, CUmemAllocationHandleType type, uint64_t flags, SharedHandle* out);
    CUresult import_pool(const SharedHandle& shared, uint64_t* number);
    CUresult export_pointer(CUdeviceptr address, SharedHandle* out);
    CUresult import_pointer(uint64_t number, const SharedHandle& shared, CUdeviceptr* out);

    // A stream as pools tell them apart: `key` is never used again for another one.
    struct Order {
        CUstream stream = nullptr;
        uint64_t key = 0;
    };
    CUresult allocate(uint64_t number, uint64_t bytes, const Order& order, CUdeviceptr* out);
    CUresult free_async(CUdeviceptr address, const Order& order);
    // cuMemFree of a pool's memory in two steps, as DeviceMemory::free() and reclaim(). reclaim() is false for other memory.
    CUresult free(CUdeviceptr address);
    bool reclaim(CUdeviceptr address);
    // Memory is short: waits for what was freed, and gives back all that no allocation needs.
    void give_back_all(CUdevice device);
    // The application has waited for the device: memory above the release thresholds goes back to it.
    void synchronized();
    void forget_context(uint64_t context);
    CUdevice device_of(uint64_t number) const;
    uint64_t handle_types_of(uint64_t number) const;
    bool empty() const { return pools_.empty(); }

    nlohmann::json describe();  // of a session whose device is idle
    CUresult recreate(const nlohmann::json& description);

  private:
    struct Fence;
    enum Reuse { follow_events, opportunistic, internal_dependencies };  // CU_MEMPOOL_ATTR_REUSE_*, in order
    static constexpr uint64_t alignment = 512;  // of allocations, whose sizes are rounded up to it
    // A piece of an arena that is free once its stream has come so far.
    struct Pending {
        uint64_t bytes = 0, key = 0;
        std::shared_ptr<Fence> fence;  // null: nothing to wait for
    };
    struct Arena {
        uint64_t bytes = 0;
        AddressRanges free;
    };
    struct Pool {
        uint64_t number = 0;
        CUdevice device = 0;
        CUmemPoolProps properties{};
        bool is_default = false, imported = false, destroyed = false;
        int reuse[3] = {1, 1, 1};  // by Reuse
        uint64_t threshold = 0;
        uint64_t reserved = 0, reserved_high = 0, used = 0, used_high = 0;
        std::map<CUdevice, unsigned> access;  // beyond its own device
        std::map<uint64_t, Arena> arenas;     // by address
        std::map<uint64_t, Pending> pending;  // freed, perhaps still in use, by address
        std::set<std::tuple<uint64_t, uint64_t, uint64_t>> by_stream;  // the same: key, bytes, address
        size_t poll_at = 64;                  // so many pending pieces are looked through
    };
    Pool* living(uint64_t number);
    Pool& add(CUdevice device, uint64_t wanted);
    bool take_pending(Pool& pool, uint64_t bytes, uint64_t key, uint64_t* address);
    bool take_free(Pool& pool, uint64_t bytes, uint64_t* address);
    bool take_waiting(Pool& pool, uint64_t bytes, const Order& order, uint64_t* address);
    CUresult grow(Pool& pool, uint64_t bytes);
    void put(Pool& pool, uint64_t address, Pending piece);
    std::map<uint64_t, Pending>::iterator drop(Pool& pool, std::map<uint64_t, Pending>::iterator piece);
    void use_part(Pool& pool, std::map<uint64_t, Pending>::iterator piece, uint64_t bytes);
    void poll(Pool& pool, bool wait);
    void give(Pool& pool, uint64_t address, uint64_t bytes);
    void release(Pool& pool, uint64_t keep);
    void settle(Pool& pool);
    std::shared_ptr<Fence> fence(CUstream stream);

    Session& session_;
    std::map<uint64_t, std::unique_ptr<Pool>> pools_;  // by number
    std::map<CUdevice, uint64_t> defaults_, current_;
    struct Dying {
        uint64_t pool = 0, bytes = 0, asked = 0;  // bytes: rounded up
    };
    std::map<uint64_t, Dying> dying_;  // between free() and reclaim()
    std::map<uint64_t, std::shared_ptr<Fence>> closing_;  // imported memory freed in stream order
    bool releasable_ = false;          // something was freed since synchronized()
};

}  // namespace cricket::server
