// SPDX-License-Identifier: MIT
#include "device_memory.h"

#include "cricket/wire.h"

namespace cricket::server {
namespace {

constexpr uint64_t granule = 2u << 20;      // of the virtual-memory API
constexpr uint64_t small_limit = 1u << 20;  // above this an allocation has a chunk of its own
constexpr uint64_t alignment = 512;
uint64_t round_up(uint64_t n, uint64_t to) {
    return (n + to - 1) / to * to;
}

// Adds [address, address + bytes) to a map of free ranges, merging neighbours.
void add_free(std::map<uint64_t, uint64_t>& ranges, uint64_t address, uint64_t bytes) {
    auto next = ranges.lower_bound(address);
    if (next != ranges.end() && next->first == address + bytes) {
        bytes += next->second;
        next = ranges.erase(next);
    }
    if (next != ranges.begin()) {
        auto previous = std::prev(next);
        if (previous->first + previous->second == address) {
            previous->second += bytes;
            return;
        }
    }
    ranges[address] = bytes;
}

// Takes `bytes` from the first range that is long enough.
bool take_first(std::map<uint64_t, uint64_t>& ranges, uint64_t bytes, uint64_t* address) {
    for (auto range = ranges.begin(); range != ranges.end(); ++range) {
        const auto [start, size] = *range;
        if (size < bytes) continue;
        ranges.erase(range);
        if (size > bytes) ranges[start + bytes] = size - bytes;
        *address = start;
        return true;
    }
    return false;
}

// Takes exactly [address, address + bytes).
bool take_exact(std::map<uint64_t, uint64_t>& ranges, uint64_t address, uint64_t bytes) {
    auto range = ranges.upper_bound(address);
    if (range == ranges.begin()) return false;
    --range;
    const auto [start, size] = *range;
    if (address < start || address + bytes > start + size) return false;
    ranges.erase(range);
    if (address > start) ranges[start] = address - start;
    if (start + size > address + bytes) ranges[address + bytes] = start + size - address - bytes;
    return true;
}

}  // namespace

CUresult DeviceMemory::reserve() {
    CUdeviceptr got = 0;
    const CUresult status =
        driver_.cuMemAddressReserve(&got, wire::device_span, granule, wire::device_base, 0);
    if (status != CUDA_SUCCESS) return status;
    if (got != wire::device_base) {
        driver_.cuMemAddressFree(got, wire::device_span);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    free_ranges_[wire::device_base] = wire::device_span;
    return CUDA_SUCCESS;
}

bool DeviceMemory::take_range(uint64_t bytes, uint64_t* address) {
    return take_first(free_ranges_, bytes, address);
}
void DeviceMemory::give_range(uint64_t address, uint64_t bytes) {
    add_free(free_ranges_, address, bytes);
}

// The address range must have been taken; it is given back on failure.
CUresult DeviceMemory::create_chunk(uint64_t address, uint64_t bytes, CUdevice device, bool shared,
                                    Chunk** out) {
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    Chunk chunk{address, bytes, device, shared, 0, {}};
    CUresult status = driver_.cuMemCreate(&chunk.handle, bytes, &properties, 0);
    if (status == CUDA_SUCCESS) {
        status = driver_.cuMemMap(address, bytes, 0, chunk.handle, 0);
        if (status == CUDA_SUCCESS) {
            CUmemAccessDesc access{};
            access.location = properties.location;
            access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
            status = driver_.cuMemSetAccess(address, bytes, &access, 1);
            if (status != CUDA_SUCCESS) driver_.cuMemUnmap(address, bytes);
        }
        if (status != CUDA_SUCCESS) driver_.cuMemRelease(chunk.handle);
    }
    if (status != CUDA_SUCCESS) {
        give_range(address, bytes);
        return status;
    }
    if (shared) chunk.free[address] = bytes;
    bytes_ += bytes;
    *out = &(chunks_[address] = std::move(chunk));
    return CUDA_SUCCESS;
}

void DeviceMemory::destroy_chunk(uint64_t address) {
    auto found = chunks_.find(address);
    Chunk& chunk = found->second;
    driver_.cuMemUnmap(chunk.address, chunk.bytes);
    driver_.cuMemRelease(chunk.handle);
    give_range(chunk.address, chunk.bytes);
    bytes_ -= chunk.bytes;
    chunks_.erase(found);
}

CUresult DeviceMemory::allocate(CUdevice device, uint64_t bytes, CUdeviceptr* out) {
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (bytes > wire::device_span) return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t address = 0;
    Chunk* made = nullptr;
    if (bytes > small_limit) {
        const uint64_t whole = round_up(bytes, granule);
        if (!take_range(whole, &address)) return CUDA_ERROR_OUT_OF_MEMORY;
        if (const CUresult status = create_chunk(address, whole, device, false, &made);
            status != CUDA_SUCCESS)
            return status;
    } else {
        const uint64_t piece = round_up(bytes, alignment);
        bool found = false;
        for (auto& [start, chunk] : chunks_) {
            if (!chunk.shared || chunk.device != device || !take_first(chunk.free, piece, &address)) continue;
            found = true;
            break;
        }
        if (!found) {
            uint64_t start = 0;
            if (!take_range(granule, &start)) return CUDA_ERROR_OUT_OF_MEMORY;
            if (const CUresult status = create_chunk(start, granule, device, true, &made);
                status != CUDA_SUCCESS)
                return status;
            take_first(made->free, piece, &address);
        }
    }
    allocations_[address] = {address, bytes, device};
    *out = address;
    return CUDA_SUCCESS;
}

CUresult DeviceMemory::free(CUdeviceptr address) {
    auto found = allocations_.find(address);
    if (found == allocations_.end()) return CUDA_ERROR_INVALID_VALUE;
    freed_[address] = found->second;
    allocations_.erase(found);
    return CUDA_SUCCESS;
}

void DeviceMemory::reclaim(CUdeviceptr address) {
    auto found = freed_.find(address);
    if (found == freed_.end()) return;
    const DeviceAllocation gone = found->second;
    freed_.erase(found);
    auto chunk = std::prev(chunks_.upper_bound(gone.address));
    if (chunk->second.shared) {
        add_free(chunk->second.free, gone.address, round_up(gone.bytes, alignment));
        const auto& free = chunk->second.free;
        if (free.size() != 1 || free.begin()->second != chunk->second.bytes) return;
    }
    destroy_chunk(chunk->first);
}

const DeviceAllocation* DeviceMemory::find(uint64_t address) const {
    auto next = allocations_.upper_bound(address);
    if (next == allocations_.begin()) return nullptr;
    const DeviceAllocation& allocation = std::prev(next)->second;
    return address - allocation.address < allocation.bytes ? &allocation : nullptr;
}

std::vector<DeviceMemory::ChunkDescription> DeviceMemory::describe() const {
    std::vector<ChunkDescription> all;
    for (const auto& [address, chunk] : chunks_)
        all.push_back({address, chunk.bytes, chunk.device, chunk.shared});
    return all;
}

CUresult DeviceMemory::recreate(const std::vector<ChunkDescription>& chunks,
                                const std::vector<DeviceAllocation>& allocations) {
    for (const auto& chunk : chunks) {
        Chunk* made = nullptr;
        if (!take_exact(free_ranges_, chunk.address, chunk.bytes)) return CUDA_ERROR_INVALID_VALUE;
        const CUresult status = create_chunk(chunk.address, chunk.bytes, chunk.device, chunk.shared, &made);
        if (status != CUDA_SUCCESS) return status;
    }
    for (const auto& allocation : allocations) {
        auto next = chunks_.upper_bound(allocation.address);
        if (next == chunks_.begin()) return CUDA_ERROR_INVALID_VALUE;
        Chunk& chunk = std::prev(next)->second;
        if (allocation.address + allocation.bytes > chunk.address + chunk.bytes)
            return CUDA_ERROR_INVALID_VALUE;
        if (chunk.shared &&
            !take_exact(chunk.free, allocation.address, round_up(allocation.bytes, alignment)))
            return CUDA_ERROR_INVALID_VALUE;
        allocations_[allocation.address] = allocation;
    }
    return CUDA_SUCCESS;
}

}  // namespace cricket::server
