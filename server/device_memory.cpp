// SPDX-License-Identifier: MIT
#include "device_memory.h"

#include <algorithm>

#include "cricket/round_up.h"
#include "cricket/wire.h"

namespace cricket::server {
namespace {

constexpr uint64_t granule = 2u << 20;      // of the virtual-memory API
constexpr uint64_t small_limit = 1u << 20;  // above this an allocation has a chunk of its own
constexpr uint64_t alignment = 512;
constexpr uint64_t largest_spare = 32u << 20, most_spare = 64u << 20;

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
    free_ranges_.give(wire::device_base, wire::device_span);
    return CUDA_SUCCESS;
}

uint64_t DeviceMemory::spare_bytes(CUdevice device) const {
    uint64_t sum = 0;
    for (const Chunk& spare : spares_)
        if (spare.device == device) sum += spare.bytes;
    return sum;
}

bool DeviceMemory::release_spares() {
    const bool any = !spares_.empty();
    for (Chunk& spare : spares_) destroy(spare);
    spares_.clear();
    spare_bytes_ = 0;
    return any;
}

// Of an empty chunk: keeps it for the next allocation of its size, for as long as there are few of them. Nobody else
// has it, and what it may be reached from is what a new one would be.
void DeviceMemory::keep_or_destroy(uint64_t address) {
    const auto found = chunks_.find(address);
    if (found == chunks_.end()) return;
    Chunk& chunk = found->second;
    const bool ours = chunk.kind == ChunkKind::Own || chunk.kind == ChunkKind::Shared;
    if (!ours || chunk.exported || chunk.bytes > largest_spare) return destroy_chunk(address);
    note_room(chunk, 0);
    bytes_ -= chunk.bytes;
    spare_bytes_ += chunk.bytes;
    spares_.push_back(std::move(chunk));
    chunks_.erase(found);
    while (spare_bytes_ > most_spare) {
        spare_bytes_ -= spares_.front().bytes;
        destroy(spares_.front());
        spares_.pop_front();
    }
}

bool DeviceMemory::take_spare(uint64_t bytes, CUdevice device, ChunkKind kind, Chunk** out) {
    const auto found = std::find_if(spares_.rbegin(), spares_.rend(),
                                    [=](const Chunk& spare) { return spare.bytes == bytes && spare.device == device; });
    if (found == spares_.rend()) return false;
    Chunk chunk = std::move(*found);
    spares_.erase(std::next(found).base());
    spare_bytes_ -= bytes;
    bytes_ += bytes;
    chunk.kind = kind;
    chunk.free = {};
    Chunk& place = chunks_[chunk.address] = std::move(chunk);
    if (kind == ChunkKind::Shared) {
        place.free.give(place.address, bytes);
        note_room(place, bytes);
    }
    *out = &place;
    return true;
}

void DeviceMemory::note_room(Chunk& chunk, uint64_t room) {
    if (chunk.room == room) return;
    auto& roomy = roomy_[chunk.device];
    if (chunk.room) roomy.erase({chunk.room, chunk.address});
    if (room) roomy.insert({room, chunk.address});
    chunk.room = room;
}

// Part of a shared chunk that has room for it.
bool DeviceMemory::take_piece(CUdevice device, uint64_t bytes, uint64_t* address) {
    auto& roomy = roomy_[device];
    for (auto next = roomy.lower_bound({bytes, 0}); next != roomy.end(); next = roomy.lower_bound({bytes, 0})) {
        Chunk& chunk = chunks_.at(next->second);
        const bool taken = chunk.free.take(bytes, alignment, address);
        if (!taken || chunk.free.parts().size() < 2) note_room(chunk, chunk.free.largest());
        if (taken) return true;
    }
    return false;
}

// All memory can be handed to other sessions (cuIpcGetMemHandle comes after the allocation), where the driver can.
CUresult DeviceMemory::create_physical(uint64_t bytes, CUdevice device, CUmemGenericAllocationHandle* handle) {
    const CUresult status = try_physical(bytes, device, handle);
    return status == CUDA_ERROR_OUT_OF_MEMORY && release_spares() ? try_physical(bytes, device, handle) : status;
}

CUresult DeviceMemory::try_physical(uint64_t bytes, CUdevice device, CUmemGenericAllocationHandle* handle) {
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    if (exportable_) {
        properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        const CUresult status = driver_.cuMemCreate(handle, bytes, &properties, 0);
        if (status != CUDA_ERROR_NOT_SUPPORTED && status != CUDA_ERROR_INVALID_VALUE && status != CUDA_ERROR_NOT_PERMITTED)
            return status;
        properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_NONE;
        const CUresult plain = driver_.cuMemCreate(handle, bytes, &properties, 0);
        if (plain == CUDA_SUCCESS) exportable_ = false;
        return plain;
    }
    return driver_.cuMemCreate(handle, bytes, &properties, 0);
}

// Maps physical memory where its own device and its peers see it. The addresses must have been taken; they and the handle
// are given back on failure.
CUresult DeviceMemory::map_chunk(Chunk chunk, Chunk** out) {
    CUresult status = driver_.cuMemMap(chunk.address, chunk.bytes, 0, chunk.handle, 0);
    if (status == CUDA_SUCCESS) {
        std::vector<CUmemAccessDesc> access(1);
        access[0].location = {CU_MEM_LOCATION_TYPE_DEVICE, {chunk.device}};
        if (chunk.kind != ChunkKind::Arena)
            for (const auto& [pair, times] : peers_)
                if (pair.first == chunk.device) access.push_back({{CU_MEM_LOCATION_TYPE_DEVICE, {pair.second}}, {}});
        for (CUmemAccessDesc& one : access) one.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        status = driver_.cuMemSetAccess(chunk.address, chunk.bytes, access.data(), access.size());
        if (status != CUDA_SUCCESS) driver_.cuMemUnmap(chunk.address, chunk.bytes);
    }
    if (status != CUDA_SUCCESS) {
        driver_.cuMemRelease(chunk.handle);
        free_ranges_.give(chunk.address, chunk.bytes);
        return status;
    }
    if (chunk.kind != ChunkKind::Imported) bytes_ += chunk.bytes;
    Chunk& place = chunks_[chunk.address] = std::move(chunk);
    if (place.kind == ChunkKind::Shared) {
        place.free.give(place.address, place.bytes);
        note_room(place, place.bytes);
    }
    *out = &place;
    return CUDA_SUCCESS;
}

// The address range must have been taken; it is given back on failure.
CUresult DeviceMemory::create_chunk(uint64_t address, uint64_t bytes, CUdevice device, ChunkKind kind, Chunk** out) {
    Chunk chunk;
    chunk.address = address;
    chunk.bytes = bytes;
    chunk.device = device;
    chunk.kind = kind;
    if (const CUresult status = create_physical(bytes, device, &chunk.handle); status != CUDA_SUCCESS) {
        free_ranges_.give(address, bytes);
        return status;
    }
    return map_chunk(std::move(chunk), out);
}

void DeviceMemory::destroy_chunk(uint64_t address) {
    auto found = chunks_.find(address);
    if (found == chunks_.end()) return;
    Chunk& chunk = found->second;
    note_room(chunk, 0);
    if (!chunk.shared.empty() && exchange) exchange->withdraw(chunk.name);
    if (chunk.kind != ChunkKind::Imported) bytes_ -= chunk.bytes;
    destroy(chunk);
    chunks_.erase(found);
}

void DeviceMemory::destroy(Chunk& chunk) {
    driver_.cuMemUnmap(chunk.address, chunk.bytes);
    driver_.cuMemRelease(chunk.handle);
    free_ranges_.give(chunk.address, chunk.bytes);
}

// A chunk for new allocations, at whatever place.
CUresult DeviceMemory::chunk_for(uint64_t bytes, CUdevice device, ChunkKind kind, Chunk** out) {
    if (take_spare(bytes, device, kind, out)) return CUDA_SUCCESS;
    uint64_t address = 0;
    if (!free_ranges_.take(bytes, granule, &address)) return CUDA_ERROR_OUT_OF_MEMORY;
    return create_chunk(address, bytes, device, kind, out);
}

CUresult DeviceMemory::allocate(CUdevice device, uint64_t bytes, uint64_t context, CUdeviceptr* out) {
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (bytes > wire::device_span) return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t address = 0;
    Chunk* made = nullptr;
    if (bytes > small_limit) {
        const CUresult status = chunk_for(round_up(bytes, granule), device, ChunkKind::Own, &made);
        if (status != CUDA_SUCCESS) return status;
        address = made->address;
    } else {
        const uint64_t piece = round_up(bytes, alignment);
        if (!take_piece(device, piece, &address)) {
            const CUresult status = chunk_for(granule, device, ChunkKind::Shared, &made);
            if (status != CUDA_SUCCESS) return status;
            take_piece(device, piece, &address);
        }
    }
    allocations_[address] = {address, bytes, device, context, 0, false};
    *out = address;
    return CUDA_SUCCESS;
}

CUresult DeviceMemory::free(CUdeviceptr address) {
    auto found = allocations_.find(address);
    if (found == allocations_.end() || found->second.imported) return CUDA_ERROR_INVALID_VALUE;
    freed_[address] = found->second;
    allocations_.erase(found);
    return CUDA_SUCCESS;
}

void DeviceMemory::reclaim(CUdeviceptr address) {
    auto found = freed_.find(address);
    if (found == freed_.end()) return;
    const DeviceAllocation gone = found->second;
    freed_.erase(found);
    Chunk& chunk = chunk_of(gone.address);
    no_longer_shared(chunk, gone.address);
    if (chunk.kind == ChunkKind::Shared) {
        const uint64_t part = chunk.free.give(gone.address, round_up(gone.bytes, alignment));
        if (!chunk.free.is_whole(chunk.address, chunk.bytes)) return note_room(chunk, std::max(chunk.room, part));
    }
    keep_or_destroy(chunk.address);
}

void DeviceMemory::free_all_of(uint64_t context) {
    std::vector<uint64_t> all;
    for (const auto& [address, allocation] : allocations_)
        if (allocation.context == context && context) all.push_back(address);
    for (uint64_t address : all) {
        if (allocations_.at(address).imported) {
            while (close(address) == CUDA_SUCCESS && allocations_.count(address)) {
            }
        } else if (free(address) == CUDA_SUCCESS) {
            reclaim(address);
        }
    }
}

const DeviceAllocation* DeviceMemory::find(uint64_t address) const {
    auto next = allocations_.upper_bound(address);
    if (next == allocations_.begin()) return nullptr;
    const DeviceAllocation& allocation = std::prev(next)->second;
    return address - allocation.address < allocation.bytes ? &allocation : nullptr;
}

CUresult DeviceMemory::create_arena(CUdevice device, uint64_t bytes, CUdeviceptr* out) {
    uint64_t address = 0;
    Chunk* made = nullptr;
    if (!free_ranges_.take(bytes, granule, &address)) return CUDA_ERROR_OUT_OF_MEMORY;
    const CUresult status = create_chunk(address, bytes, device, ChunkKind::Arena, &made);
    *out = address;
    return status;
}

CUresult DeviceMemory::set_access(CUdeviceptr address, CUdevice device, CUmemAccess_flags flags) {
    auto chunk = chunks_.find(address);
    if (chunk == chunks_.end()) return CUDA_ERROR_INVALID_VALUE;
    CUmemAccessDesc access{};
    access.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    access.flags = flags;
    return driver_.cuMemSetAccess(address, chunk->second.bytes, &access, 1);
}

CUresult DeviceMemory::allow_peer(CUdevice owner, CUdevice peer) {
    if (owner == peer || peers_[{owner, peer}]++) return CUDA_SUCCESS;
    release_spares();
    CUresult first = CUDA_SUCCESS;
    for (const auto& [address, chunk] : chunks_) {
        if (chunk.device != owner || chunk.kind == ChunkKind::Arena) continue;
        const CUresult status = set_access(address, peer, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
        if (first == CUDA_SUCCESS) first = status;
    }
    return first;
}

CUresult DeviceMemory::forbid_peer(CUdevice owner, CUdevice peer) {
    auto pair = peers_.find({owner, peer});
    if (pair == peers_.end() || --pair->second) return CUDA_SUCCESS;
    peers_.erase(pair);
    release_spares();
    CUresult first = CUDA_SUCCESS;
    for (const auto& [address, chunk] : chunks_) {
        if (chunk.device != owner || chunk.kind == ChunkKind::Arena) continue;
        const CUresult status = set_access(address, peer, CU_MEM_ACCESS_FLAGS_PROT_NONE);
        if (first == CUDA_SUCCESS) first = status;
    }
    return first;
}

CUresult DeviceMemory::share(CUdeviceptr address, SharedKind kind, SharedHandle* out) {
    const DeviceAllocation* allocation = find(address);
    if (!allocation || allocation->imported) return CUDA_ERROR_INVALID_VALUE;
    Chunk& chunk = chunk_of(allocation->address);
    if (chunk.shared.empty()) {
        int fd = -1;
        const CUresult status =
            driver_.cuMemExportToShareableHandle(&fd, chunk.handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
        if (status != CUDA_SUCCESS) return status;
        const UniqueFd exported(fd);
        if (!exchange || !exchange->publish(exported.get(), &chunk.name)) return CUDA_ERROR_OUT_OF_MEMORY;
        chunk.exported = true;
    }
    chunk.shared.insert(allocation->address);
    *out = {shared_magic, kind, 0, chunk.name, chunk.bytes, allocation->address - chunk.address, allocation->bytes, 0};
    return CUDA_SUCCESS;
}

// What others make of memory that its owner has freed is undefined: nobody can open it from now on, and its neighbours in the
// chunk are this session's alone.
void DeviceMemory::no_longer_shared(Chunk& chunk, uint64_t allocation) {
    if (!chunk.shared.erase(allocation) || !chunk.shared.empty()) return;
    if (exchange) exchange->withdraw(chunk.name);
    chunk.name = {};
}

void DeviceMemory::forget(CUdeviceptr address) {
    if (allocations_.erase(address)) no_longer_shared(chunk_of(address), address);
}

CUresult DeviceMemory::open(const SharedHandle& shared, SharedKind kind, uint64_t context, uint64_t pool, CUdeviceptr* out) {
    if (shared.magic != shared_magic || shared.kind != kind || shared.chunk == 0 || shared.chunk % granule ||
        shared.offset >= shared.chunk || shared.bytes == 0 || shared.bytes > shared.chunk - shared.offset)
        return CUDA_ERROR_INVALID_VALUE;
    Chunk* chunk = nullptr;
    for (auto& [address, one] : chunks_) {
        if (!(one.name == shared.name)) continue;
        if (!one.shared.empty()) return CUDA_ERROR_INVALID_CONTEXT;  // our own
        if (one.kind == ChunkKind::Imported && one.bytes == shared.chunk) chunk = &one;
    }
    if (!chunk) {
        const UniqueFd fd = exchange ? exchange->fetch(shared.name) : UniqueFd();
        if (!fd) return CUDA_ERROR_INVALID_VALUE;
        Chunk made;
        made.bytes = shared.chunk;
        made.kind = ChunkKind::Imported;
        made.name = shared.name;
        if (!free_ranges_.take(shared.chunk, granule, &made.address)) return CUDA_ERROR_OUT_OF_MEMORY;
        const CUresult status = driver_.cuMemImportFromShareableHandle(
            &made.handle, reinterpret_cast<void*>(static_cast<intptr_t>(fd.get())), CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        if (status != CUDA_SUCCESS) {
            free_ranges_.give(made.address, made.bytes);
            return status;
        }
        CUmemAllocationProp properties{};  // the other session may number devices otherwise
        driver_.cuMemGetAllocationPropertiesFromHandle(&properties, made.handle);
        made.device = properties.location.id;
        if (const CUresult mapped = map_chunk(std::move(made), &chunk); mapped != CUDA_SUCCESS) return mapped;
    }
    const uint64_t address = chunk->address + shared.offset;
    ++chunk->opened[address];
    allocations_[address] = {address, shared.bytes, chunk->device, context, pool, true};
    *out = address;
    return CUDA_SUCCESS;
}

CUresult DeviceMemory::close(CUdeviceptr address) {
    auto found = allocations_.find(address);
    if (found == allocations_.end() || !found->second.imported) return CUDA_ERROR_INVALID_VALUE;
    Chunk& chunk = chunk_of(address);
    auto times = chunk.opened.find(address);
    if (--times->second) return CUDA_SUCCESS;
    chunk.opened.erase(times);
    allocations_.erase(found);
    if (chunk.opened.empty()) destroy_chunk(chunk.address);
    return CUDA_SUCCESS;
}

std::string DeviceMemory::refusal() const {
    for (const auto& [address, chunk] : chunks_) {
        if (chunk.kind == ChunkKind::Imported) return "the session uses memory of another session (cuIpcOpenMemHandle, cuMemPoolImportPointer)";
        if (!chunk.shared.empty()) return "the session's memory is shared with others (cuIpcGetMemHandle, cuMemPoolExportPointer)";
    }
    return {};
}

std::vector<DeviceMemory::ChunkDescription> DeviceMemory::describe() const {
    std::vector<ChunkDescription> all;
    for (const auto& [address, chunk] : chunks_)
        all.push_back({address, chunk.bytes, chunk.device, chunk.kind});
    return all;
}

CUresult DeviceMemory::recreate(const std::vector<ChunkDescription>& chunks,
                                const std::vector<DeviceAllocation>& allocations) {
    for (const auto& chunk : chunks) {
        Chunk* made = nullptr;
        if (!free_ranges_.take_exact(chunk.address, chunk.bytes)) return CUDA_ERROR_INVALID_VALUE;
        const CUresult status = create_chunk(chunk.address, chunk.bytes, chunk.device, chunk.kind, &made);
        if (status != CUDA_SUCCESS) return status;
    }
    for (const auto& allocation : allocations) {
        auto next = chunks_.upper_bound(allocation.address);
        if (next == chunks_.begin()) return CUDA_ERROR_INVALID_VALUE;
        Chunk& chunk = std::prev(next)->second;
        if (allocation.address + allocation.bytes > chunk.address + chunk.bytes)
            return CUDA_ERROR_INVALID_VALUE;
        if (chunk.kind == ChunkKind::Shared &&
            !chunk.free.take_exact(allocation.address, round_up(allocation.bytes, alignment)))
            return CUDA_ERROR_INVALID_VALUE;
        if (chunk.kind == ChunkKind::Shared && chunk.free.parts().empty()) note_room(chunk, 0);
        allocations_[allocation.address] = allocation;
    }
    return CUDA_SUCCESS;
}

}  // namespace cricket::server
