// SPDX-License-Identifier: MIT
// Where a pool's memory comes from and where it goes: arenas of device memory, pieces of them that are free, and pieces that are free
// once a stream has come so far.
#include <algorithm>

#include "cricket/round_up.h"
#include "memory_pools.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr uint64_t granule = 2u << 20;
constexpr uint64_t growth = 32u << 20;  // as the driver's own pools

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

}  // namespace cricket::server
