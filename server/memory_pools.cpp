// SPDX-License-Identifier: MIT
// Pools as the application has them: their making, attributes, who may use and share them, and what a snapshot says of them.
#include "memory_pools.h"

#include <nlohmann/json.hpp>

#include "cricket/round_up.h"
#include "session.h"

namespace cricket::server {

MemoryPools::Pool* MemoryPools::living(uint64_t number) {
    auto found = pools_.find(number);
    return found == pools_.end() || found->second->destroyed ? nullptr : found->second.get();
}

CUdevice MemoryPools::device_of(uint64_t number) const {
    auto found = pools_.find(number);
    return found == pools_.end() ? 0 : found->second->device;
}

uint64_t MemoryPools::handle_types_of(uint64_t number) const {
    auto found = pools_.find(number);
    return found == pools_.end() ? 0 : static_cast<uint64_t>(found->second->properties.handleTypes);
}

MemoryPools::Pool& MemoryPools::add(CUdevice device, uint64_t wanted) {
    auto made = std::make_unique<Pool>();
    Pool& pool = *made;
    pool.device = device;
    pool.number = session_.objects.add(HandleKind::MemoryPool, &pool, wanted);
    pools_[pool.number] = std::move(made);
    return pool;
}

CUresult MemoryPools::create(const CUmemPoolProps& properties, uint64_t* number) {
    constexpr unsigned descriptor = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    if (properties.allocType != CU_MEM_ALLOCATION_TYPE_PINNED && properties.allocType != CU_MEM_ALLOCATION_TYPE_MANAGED)
        return CUDA_ERROR_INVALID_VALUE;
    if (properties.location.type == CU_MEM_LOCATION_TYPE_HOST || properties.location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
        properties.allocType == CU_MEM_ALLOCATION_TYPE_MANAGED)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (properties.location.type != CU_MEM_LOCATION_TYPE_DEVICE || properties.handleTypes & ~descriptor || properties.win32SecurityAttributes)
        return CUDA_ERROR_INVALID_VALUE;
    int devices = 0;
    if (session_.driver.cuDeviceGetCount(&devices) != CUDA_SUCCESS || properties.location.id < 0 || properties.location.id >= devices)
        return CUDA_ERROR_INVALID_VALUE;
    Pool& pool = add(properties.location.id, 0);
    pool.properties = properties;
    *number = pool.number;
    return CUDA_SUCCESS;
}

CUresult MemoryPools::default_of(CUdevice device, uint64_t* number) {
    auto known = defaults_.find(device);
    if (known == defaults_.end()) {
        int devices = 0;
        if (session_.driver.cuDeviceGetCount(&devices) != CUDA_SUCCESS || device < 0 || device >= devices) return CUDA_ERROR_INVALID_DEVICE;
        Pool& pool = add(device, 0);
        pool.is_default = true;
        pool.properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
        pool.properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
        known = defaults_.emplace(device, pool.number).first;
    }
    *number = known->second;
    return CUDA_SUCCESS;
}

CUresult MemoryPools::current_of(CUdevice device, uint64_t* number) {
    auto set = current_.find(device);
    if (set == current_.end()) return default_of(device, number);
    *number = set->second;
    return CUDA_SUCCESS;
}

CUresult MemoryPools::set_current(CUdevice device, uint64_t number) {
    Pool* pool = living(number);
    if (!pool || pool->imported || pool->device != device) return CUDA_ERROR_INVALID_VALUE;
    current_[device] = number;
    return CUDA_SUCCESS;
}

CUresult MemoryPools::destroy(uint64_t number) {
    Pool* pool = living(number);
    if (!pool || pool->is_default) return CUDA_ERROR_INVALID_VALUE;
    pool->destroyed = true;
    session_.objects.remove(HandleKind::MemoryPool, number);
    std::erase_if(current_, [&](const auto& one) { return one.second == number; });
    settle(*pool);
    return CUDA_SUCCESS;
}

CUresult MemoryPools::set_attribute(uint64_t number, CUmemPool_attribute attribute, uint64_t value) {
    Pool* pool = living(number);
    if (!pool || pool->imported) return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
            pool->reuse[attribute - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES] = static_cast<int>(value) != 0;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            pool->threshold = value;
            releasable_ = true;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            if (value) return CUDA_ERROR_INVALID_VALUE;
            pool->reserved_high = pool->reserved;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
            if (value) return CUDA_ERROR_INVALID_VALUE;
            pool->used_high = pool->used;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult MemoryPools::get_attribute(uint64_t number, CUmemPool_attribute attribute, uint64_t* value) {
    Pool* pool = living(number);
    if (!pool) return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
            *value = static_cast<uint64_t>(pool->reuse[attribute - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES]);
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            *value = pool->threshold;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
            *value = pool->reserved;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            *value = pool->reserved_high;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
            *value = pool->used;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
            *value = pool->used_high;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult MemoryPools::set_access(uint64_t number, const std::vector<CUmemAccessDesc>& access) {
    Pool* pool = living(number);
    if (!pool) return CUDA_ERROR_INVALID_VALUE;
    for (const CUmemAccessDesc& one : access) {
        if (one.location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
        if (one.location.id == pool->device) {
            if (one.flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) return CUDA_ERROR_INVALID_DEVICE;
            continue;
        }
        int can = 0;
        const CUresult asked = session_.driver.cuDeviceCanAccessPeer(&can, one.location.id, pool->device);
        if (asked != CUDA_SUCCESS) return asked;
        if (!can && one.flags != CU_MEM_ACCESS_FLAGS_PROT_NONE) return CUDA_ERROR_INVALID_DEVICE;
        for (const auto& [address, arena] : pool->arenas) {
            const CUresult status = session_.device_memory.set_access(address, one.location.id, one.flags);
            if (status != CUDA_SUCCESS) return status;
        }
        if (one.flags == CU_MEM_ACCESS_FLAGS_PROT_NONE)
            pool->access.erase(one.location.id);
        else
            pool->access[one.location.id] = one.flags;
    }
    return CUDA_SUCCESS;
}

CUresult MemoryPools::get_access(uint64_t number, const CUmemLocation& location, CUmemAccess_flags* flags) {
    Pool* pool = living(number);
    int devices = 0;
    if (!pool || location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    if (session_.driver.cuDeviceGetCount(&devices) != CUDA_SUCCESS || location.id < 0 || location.id >= devices)
        return CUDA_ERROR_INVALID_DEVICE;
    auto set = pool->access.find(location.id);
    *flags = location.id == pool->device     ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
             : set == pool->access.end()     ? CU_MEM_ACCESS_FLAGS_PROT_NONE
                                             : static_cast<CUmemAccess_flags>(set->second);
    return CUDA_SUCCESS;
}

CUresult MemoryPools::export_pool(uint64_t number, CUmemAllocationHandleType type, uint64_t flags, SharedHandle* out) {
    Pool* pool = living(number);
    if (!pool || pool->imported || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || !(pool->properties.handleTypes & type))
        return CUDA_ERROR_INVALID_VALUE;
    *out = {};
    out->magic = shared_magic;
    out->kind = SharedKind::Pool;
    out->spare = static_cast<uint64_t>(pool->device);
    return CUDA_SUCCESS;
}

CUresult MemoryPools::import_pool(const SharedHandle& shared, uint64_t* number) {
    if (shared.magic != shared_magic || shared.kind != SharedKind::Pool) return CUDA_ERROR_INVALID_VALUE;
    Pool& pool = add(static_cast<CUdevice>(shared.spare), 0);
    pool.imported = true;
    *number = pool.number;
    return CUDA_SUCCESS;
}

CUresult MemoryPools::export_pointer(CUdeviceptr address, SharedHandle* out) {
    const DeviceAllocation* allocation = session_.device_memory.find(address);
    if (!allocation || !allocation->pool || allocation->imported) return CUDA_ERROR_INVALID_VALUE;
    if (!pools_.at(allocation->pool)->properties.handleTypes) return CUDA_ERROR_INVALID_VALUE;
    return session_.device_memory.share(address, SharedKind::Pointer, out);
}

CUresult MemoryPools::import_pointer(uint64_t number, const SharedHandle& shared, CUdeviceptr* out) {
    Pool* pool = living(number);
    if (!pool || !pool->imported) return CUDA_ERROR_INVALID_VALUE;
    return session_.device_memory.open(shared, SharedKind::Pointer, 0, number, out);
}

nlohmann::json MemoryPools::describe() {
    using nlohmann::json;
    json list = json::array();
    for (auto next = pools_.begin(); next != pools_.end();) {  // destroyed ones may go now
        Pool& pool = *(next++)->second;
        poll(pool, true);
        settle(pool);
    }
    for (const auto& [number, pool] : pools_) {
        json access = json::array(), arenas = json::array();
        for (const auto& [device, flags] : pool->access) access.push_back({device, flags});
        for (const auto& [address, arena] : pool->arenas) arenas.push_back({address, arena.bytes});
        auto current = current_.find(pool->device);
        list.push_back({{"number", number},
                        {"device", pool->device},
                        {"default", pool->is_default},
                        {"current", current != current_.end() && current->second == number},
                        {"imported", pool->imported},
                        {"destroyed", pool->destroyed},
                        {"type", static_cast<int>(pool->properties.allocType)},
                        {"handles", static_cast<int>(pool->properties.handleTypes)},
                        {"most", pool->properties.maxSize},
                        {"reuse", pool->reuse},
                        {"threshold", pool->threshold},
                        {"high", {pool->reserved_high, pool->used_high}},
                        {"access", access},
                        {"arenas", arenas}});
    }
    return list;
}

// The arenas and the allocations in them are there already (DeviceMemory::recreate).
CUresult MemoryPools::recreate(const nlohmann::json& description) {
    for (const auto& one : description) {
        Pool& pool = add(one.at("device"), one.at("number"));
        pool.is_default = one.at("default");
        pool.imported = one.at("imported");
        pool.destroyed = one.at("destroyed");
        pool.properties.allocType = static_cast<CUmemAllocationType>(one.at("type").get<int>());
        pool.properties.handleTypes = static_cast<CUmemAllocationHandleType>(one.at("handles").get<int>());
        pool.properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, pool.device};
        pool.properties.maxSize = one.at("most");
        for (size_t i = 0; i < std::size(pool.reuse); ++i) pool.reuse[i] = one.at("reuse")[i];
        pool.threshold = one.at("threshold");
        if (pool.is_default) defaults_[pool.device] = pool.number;
        if (one.at("current")) current_[pool.device] = pool.number;
        if (pool.destroyed) session_.objects.remove(HandleKind::MemoryPool, pool.number);
        for (const auto& arena : one.at("arenas")) {
            const uint64_t address = arena[0], bytes = arena[1];
            pool.arenas[address].bytes = bytes;
            pool.arenas[address].free.give(address, bytes);
            pool.reserved += bytes;
        }
        for (const auto& access : one.at("access")) {
            const CUdevice device = access[0];
            const auto flags = static_cast<CUmemAccess_flags>(access[1].get<unsigned>());
            pool.access[device] = flags;
            for (const auto& [address, arena] : pool.arenas) {
                const CUresult status = session_.device_memory.set_access(address, device, flags);
                if (status != CUDA_SUCCESS) return status;
            }
        }
        for (const auto& [address, allocation] : session_.device_memory.allocations()) {
            if (allocation.pool != pool.number) continue;
            const uint64_t bytes = round_up(allocation.bytes, alignment);
            auto arena = pool.arenas.upper_bound(address);
            if (arena == pool.arenas.begin() || !std::prev(arena)->second.free.take_exact(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
            pool.used += allocation.bytes;
        }
        pool.reserved_high = std::max<uint64_t>(pool.reserved, one.at("high")[0]);
        pool.used_high = std::max<uint64_t>(pool.used, one.at("high")[1]);
        releasable_ = true;
    }
    return CUDA_SUCCESS;
}

}  // namespace cricket::server
