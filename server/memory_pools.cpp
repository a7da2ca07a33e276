// SPDX-License-Identifier: MIT
#include "memory_pools.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "session.h"

namespace cricket::server {
namespace {

constexpr uint64_t granule = 2u << 20;
constexpr uint64_t growth = 32u << 20;  // as the driver's own pools
constexpr uint64_t alignment = 512;
uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

enum { follow_events, opportunistic, internal_dependencies };

}  // namespace

// A point in a stream. Shared by the pieces of one freed range.
struct MemoryPools::Fence {
    Session& session;
    uint64_t context;
    CUevent event;  // null once it has completed, or its context is gone
    ~Fence() {
        if (event) session.give_event(event);
    }
    bool passed() {
        if (event && session.driver.cuEventQuery(event) == CUDA_ERROR_NOT_READY) return false;
        if (event) session.give_event(event);
        event = nullptr;
        return true;
    }
};

MemoryPools::~MemoryPools() = default;

std::shared_ptr<MemoryPools::Fence> MemoryPools::fence(CUstream stream) {
    if (CUevent event = session_.record(stream))
        return std::shared_ptr<Fence>(new Fence{session_, session_.current_home(), event});
    session_.driver.cuStreamSynchronize(stream);
    return nullptr;
}

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
        pool.properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
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

// A destroyed pool lasts until its last piece is free.
void MemoryPools::settle(Pool& pool) {
    if (!pool.destroyed || pool.used) return;
    poll(pool, false);
    if (!pool.pending.empty()) {
        releasable_ = true;
        return;
    }
    release(pool, 0);
    pools_.erase(pool.number);
}

void MemoryPools::give(Pool& pool, uint64_t address, uint64_t bytes) {
    std::prev(pool.arenas.upper_bound(address))->second.free.give(address, bytes);
}

// Pieces whose streams have come so far become free. `wait`: all do.
void MemoryPools::poll(Pool& pool, bool wait) {
    for (auto piece = pool.pending.begin(); piece != pool.pending.end();) {
        Fence* fence = piece->second.fence.get();
        if (wait && fence && fence->event) session_.driver.cuEventSynchronize(fence->event);
        if (fence && !fence->passed()) {
            ++piece;
            continue;
        }
        give(pool, piece->first, piece->second.bytes);
        piece = drop(pool, piece);
    }
    pool.poll_at = 2 * pool.pending.size() + 64;
}

void MemoryPools::put(Pool& pool, uint64_t address, Pending piece) {
    pool.by_stream.emplace(piece.key, piece.bytes, address);
    pool.pending[address] = std::move(piece);
}

std::map<uint64_t, MemoryPools::Pending>::iterator MemoryPools::drop(Pool& pool, std::map<uint64_t, Pending>::iterator piece) {
    pool.by_stream.erase({piece->second.key, piece->second.bytes, piece->first});
    return pool.pending.erase(piece);
}

void MemoryPools::give_back_all(CUdevice device) {
    for (auto& [number, pool] : pools_) {
        if (pool->device != device) continue;
        poll(*pool, true);
        release(*pool, 0);
    }
}

void MemoryPools::release(Pool& pool, uint64_t keep) {
    for (auto arena = pool.arenas.begin(); arena != pool.arenas.end() && pool.reserved > keep;) {
        if (!arena->second.free.is_whole(arena->first, arena->second.bytes) || pool.reserved - arena->second.bytes < keep) {
            ++arena;
            continue;
        }
        pool.reserved -= arena->second.bytes;
        session_.device_memory.destroy_arena(arena->first);
        arena = pool.arenas.erase(arena);
    }
}

CUresult MemoryPools::trim(uint64_t number, uint64_t keep) {
    Pool* pool = living(number);
    if (!pool || pool->imported) return CUDA_ERROR_INVALID_VALUE;
    poll(*pool, false);
    release(*pool, keep);
    return CUDA_SUCCESS;
}

void MemoryPools::synchronized() {
    if (!releasable_) return;
    releasable_ = false;
    std::erase_if(closing_, [&](auto& one) {
        if (one.second && !one.second->passed()) return !(releasable_ = true);
        session_.device_memory.close(one.first);
        return true;
    });
    for (auto next = pools_.begin(); next != pools_.end();) {
        Pool& pool = *(next++)->second;
        poll(pool, false);
        if (!pool.pending.empty()) releasable_ = true;
        if (pool.destroyed)
            settle(pool);
        else if (pool.reserved > pool.threshold)
            release(pool, pool.threshold);
    }
}

void MemoryPools::forget_context(uint64_t context) {
    const auto forget = [&](std::shared_ptr<Fence>& fence) {
        if (fence && fence->context == context) fence->event = nullptr;
    };
    for (auto& [number, pool] : pools_)
        for (auto& [address, piece] : pool->pending) forget(piece.fence);
    for (auto& [address, fence] : closing_) forget(fence);
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

// Takes the first `bytes` of a freed piece; the rest stays as it is.
void MemoryPools::use_part(Pool& pool, std::map<uint64_t, Pending>::iterator piece, uint64_t bytes) {
    Pending rest = piece->second;
    const uint64_t address = piece->first;
    drop(pool, piece);
    if (rest.bytes == bytes) return;
    rest.bytes -= bytes;
    put(pool, address + bytes, std::move(rest));
}

// The smallest piece freed on the same stream that is long enough.
bool MemoryPools::take_pending(Pool& pool, uint64_t bytes, uint64_t key, uint64_t* address) {
    const auto best = pool.by_stream.lower_bound({key, bytes, 0});
    if (best == pool.by_stream.end() || std::get<0>(*best) != key) return false;
    *address = std::get<2>(*best);
    use_part(pool, pool.pending.find(*address), bytes);
    return true;
}

bool MemoryPools::take_free(Pool& pool, uint64_t bytes, uint64_t* address) {
    return std::any_of(pool.arenas.begin(), pool.arenas.end(),
                       [&](auto& arena) { return arena.second.free.take(bytes, alignment, address); });
}

// A piece freed on another stream, for which this one is made to wait.
bool MemoryPools::take_waiting(Pool& pool, uint64_t bytes, const Order& order, uint64_t* address) {
    for (auto piece = pool.pending.begin(); piece != pool.pending.end(); ++piece) {
        Fence* fence = piece->second.fence.get();
        if (piece->second.bytes < bytes) continue;
        if (fence && fence->event && session_.driver.cuStreamWaitEvent(order.stream, fence->event, 0) != CUDA_SUCCESS) continue;
        *address = piece->first;
        use_part(pool, piece, bytes);
        return true;
    }
    return false;
}

CUresult MemoryPools::grow(Pool& pool, uint64_t bytes) {
    CUresult status = CUDA_ERROR_OUT_OF_MEMORY;
    for (const uint64_t unit : {growth, granule}) {
        const uint64_t whole = round_up(bytes, unit);
        const uint64_t most = pool.properties.maxSize;
        CUdeviceptr address = 0;
        if (most && (pool.reserved > most || whole > round_up(most, granule) - pool.reserved)) continue;
        if (status = session_.device_memory.create_arena(pool.device, whole, &address); status == CUDA_ERROR_OUT_OF_MEMORY) continue;
        if (status != CUDA_SUCCESS) return status;
        for (const auto& [device, flags] : pool.access)
            session_.device_memory.set_access(address, device, static_cast<CUmemAccess_flags>(flags));
        Arena& arena = pool.arenas[address];
        arena.bytes = whole;
        arena.free.give(address, whole);
        pool.reserved += whole;
        pool.reserved_high = std::max(pool.reserved_high, pool.reserved);
        return CUDA_SUCCESS;
    }
    return status;
}

CUresult MemoryPools::allocate(uint64_t number, uint64_t bytes, const Order& order, CUdeviceptr* out) {
    Pool* pool = living(number);
    if (!pool || pool->imported || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (bytes > wire::device_span) return CUDA_ERROR_OUT_OF_MEMORY;
    const uint64_t size = round_up(bytes, alignment);
    uint64_t address = 0;
    bool taken = take_pending(*pool, size, order.key, &address) || take_free(*pool, size, &address);
    if (!taken && pool->reuse[opportunistic] && !pool->pending.empty()) {
        poll(*pool, false);
        taken = take_free(*pool, size, &address);
    }
    if (!taken) {
        CUresult status = grow(*pool, size);
        if (status == CUDA_ERROR_OUT_OF_MEMORY) {
            taken = pool->reuse[internal_dependencies] && take_waiting(*pool, size, order, &address);
            // What all pools keep for later is given back before memory is said to be short.
            if (!taken) {
                give_back_all(pool->device);
                taken = take_free(*pool, size, &address);
                if (!taken) status = grow(*pool, size);
            }
        }
        if (!taken && status != CUDA_SUCCESS) return status;
        if (!taken && !take_free(*pool, size, &address)) return CUDA_ERROR_OUT_OF_MEMORY;
    }
    pool->used += bytes;  // as asked for, as the driver counts
    pool->used_high = std::max(pool->used_high, pool->used);
    session_.device_memory.note({address, bytes, pool->device, 0, number, false});
    *out = address;
    return CUDA_SUCCESS;
}

CUresult MemoryPools::free_async(CUdeviceptr address, const Order& order) {
    const DeviceAllocation* allocation = session_.device_memory.find(address);
    if (!allocation || allocation->address != address || !allocation->pool) return CUDA_ERROR_INVALID_VALUE;
    releasable_ = true;
    if (allocation->imported) {
        closing_[address] = fence(order.stream);
        return CUDA_SUCCESS;
    }
    Pool& pool = *pools_.at(allocation->pool);
    Pending piece{round_up(allocation->bytes, alignment), order.key, fence(order.stream)};
    pool.used -= allocation->bytes;
    session_.device_memory.forget(address);
    if (!piece.fence) {
        give(pool, address, piece.bytes);
        settle(pool);
        return CUDA_SUCCESS;
    }
    // Neighbours freed on the same stream earlier are free whenever this one is.
    const auto arena = std::prev(pool.arenas.upper_bound(address));
    const uint64_t end = arena->first + arena->second.bytes;
    auto next = pool.pending.lower_bound(address);
    if (next != pool.pending.end() && next->first == address + piece.bytes && next->first < end && next->second.key == order.key) {
        piece.bytes += next->second.bytes;
        next = drop(pool, next);
    }
    if (next != pool.pending.begin()) {
        const auto previous = std::prev(next);
        if (previous->first + previous->second.bytes == address && previous->first >= arena->first && previous->second.key == order.key) {
            address = previous->first;
            piece.bytes += previous->second.bytes;
            drop(pool, previous);
        }
    }
    put(pool, address, std::move(piece));
    if (pool.reuse[opportunistic] && pool.pending.size() > pool.poll_at) poll(pool, false);
    settle(pool);
    return CUDA_SUCCESS;
}

CUresult MemoryPools::free(CUdeviceptr address) {
    const DeviceAllocation* allocation = session_.device_memory.find(address);
    if (!allocation || allocation->address != address || !allocation->pool || allocation->imported) return CUDA_ERROR_INVALID_VALUE;
    const uint64_t bytes = round_up(allocation->bytes, alignment);
    dying_[address] = {allocation->pool, bytes, allocation->bytes};
    session_.device_memory.forget(address);
    return CUDA_SUCCESS;
}

bool MemoryPools::reclaim(CUdeviceptr address) {
    auto found = dying_.find(address);
    if (found == dying_.end()) return false;
    Pool& pool = *pools_.at(found->second.pool);
    const uint64_t bytes = found->second.bytes, asked = found->second.asked;
    dying_.erase(found);
    pool.used -= asked;
    give(pool, address, bytes);
    releasable_ = true;
    settle(pool);
    synchronized();
    return true;
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
        pool.properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {pool.device}};
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
