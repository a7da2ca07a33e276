// SPDX-License-Identifier: MIT
// Device memory of a session: made with CUDA's virtual-memory API inside one address range that every worker reserves
// at the same place, so that a restore puts each byte back where it was. Small allocations share 2 MiB chunks; chunks of
// memory pools (memory_pools.h) are divided by these; imported ones are another session's. A few chunks that became empty
// are kept mapped, since making one costs the driver ten times what the rest of an allocation does; to the application
// and to snapshots they are free memory.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "address_ranges.h"
#include "cricket/shared_names.h"
#include "driver_table.h"
#include "exchange.h"

namespace cricket::server {

struct DeviceAllocation {
    uint64_t address = 0, bytes = 0;
    int32_t device = 0;
    uint64_t context = 0;  // cuMemAlloc's, which takes the memory with it; 0: none
    uint64_t pool = 0;     // the memory pool it is of; 0: none
    bool imported = false; // of another session
};

class DeviceMemory {
  public:
    explicit DeviceMemory(const DriverTable& driver) : driver_(driver) {}

    // Reserves the range; CUDA_ERROR_OUT_OF_MEMORY when the driver gives another address.
    CUresult reserve();

    // At least `bytes` bytes, aligned to 512. What was freed is used again only after reclaim().
    CUresult allocate(CUdevice device, uint64_t bytes, uint64_t context, CUdeviceptr* out);
    // Takes an allocation away from the application. Its memory stays mapped, for kernels still running, until
    // reclaim() of the same address.
    CUresult free(CUdeviceptr address);
    // Gives freed memory back: the work that may use it is over.
    void reclaim(CUdeviceptr address);
    void free_all_of(uint64_t context);

    // The allocation that `address` lies in; null when in none.
    const DeviceAllocation* find(uint64_t address) const;
    const std::map<uint64_t, DeviceAllocation>& allocations() const { return allocations_; }
    uint64_t bytes() const { return bytes_; }

    // What is kept for later and used by nobody: part of the device's free memory. release_spares() gives it back to the
    // driver; false when there was nothing.
    uint64_t spare_bytes(CUdevice device) const;
    bool release_spares();

    // Chunks that others divide: memory of a pool.
    CUresult create_arena(CUdevice device, uint64_t bytes, CUdeviceptr* out);
    void destroy_arena(CUdeviceptr address) { destroy_chunk(address); }
    void note(const DeviceAllocation& allocation) { allocations_[allocation.address] = allocation; }
    void forget(CUdeviceptr address);
    // Which other devices see a chunk: the pools' business for theirs, cuCtxEnablePeerAccess' for the rest.
    CUresult set_access(CUdeviceptr chunk, CUdevice device, CUmemAccess_flags flags);
    CUresult allow_peer(CUdevice owner, CUdevice peer);
    CUresult forbid_peer(CUdevice owner, CUdevice peer);

    // Other sessions. share(): what names an allocation there. open(): another session's allocation, as one of ours;
    // opened again it is the same, and is gone after as many calls of close().
    Exchange* exchange = nullptr;
    CUresult share(CUdeviceptr address, SharedKind kind, SharedHandle* out);
    CUresult open(const SharedHandle& shared, SharedKind kind, uint64_t context, uint64_t pool, CUdeviceptr* out);
    CUresult close(CUdeviceptr address);
    // Why a snapshot cannot hold this memory; empty when it can.
    std::string refusal() const;

    // Parts of the range that others use (virtual_memory.h): whole granules of 2 MiB.
    bool take_addresses(uint64_t bytes, uint64_t alignment, uint64_t* address) {
        return free_ranges_.take(bytes, alignment, address);
    }
    bool take_addresses_at(uint64_t address, uint64_t bytes) {
        return free_ranges_.take_exact(address, bytes) || (release_spares() && free_ranges_.take_exact(address, bytes));
    }
    void give_addresses(uint64_t address, uint64_t bytes) { free_ranges_.give(address, bytes); }

    // Restore: the same chunks and allocations at the same addresses. The description is as describe() gave it.
    enum class ChunkKind : int { Own = 0, Shared = 1, Arena = 2, Imported = 3 };  // numbers of snapshots
    struct ChunkDescription {
        uint64_t address = 0, bytes = 0;
        int32_t device = 0;
        ChunkKind kind{};
    };
    std::vector<ChunkDescription> describe() const;
    CUresult recreate(const std::vector<ChunkDescription>& chunks, const std::vector<DeviceAllocation>& allocations);

  private:
    struct Chunk {
        uint64_t address = 0, bytes = 0;
        int32_t device = 0;
        ChunkKind kind{};
        CUmemGenericAllocationHandle handle = 0;
        AddressRanges free;       // of a shared one
        uint64_t room = 0;        // of a shared one: no part of `free` is larger
        std::set<uint64_t> shared;  // living allocations in it that other sessions may use
        bool exported = false;    // at some time: another session may still have it mapped
        SharedName name;          // while any allocation is shared, or imported
        std::map<uint64_t, unsigned> opened;  // of an imported one: allocation -> times
    };
    CUresult chunk_for(uint64_t bytes, CUdevice device, ChunkKind kind, Chunk** out);
    CUresult try_physical(uint64_t bytes, CUdevice device, CUmemGenericAllocationHandle* handle);
    CUresult create_physical(uint64_t bytes, CUdevice device, CUmemGenericAllocationHandle* handle);
    CUresult map_chunk(Chunk chunk, Chunk** out);
    CUresult create_chunk(uint64_t address, uint64_t bytes, CUdevice device, ChunkKind kind, Chunk** out);
    void destroy_chunk(uint64_t address);
    void destroy(Chunk& chunk);
    void keep_or_destroy(uint64_t address);
    bool take_spare(uint64_t bytes, CUdevice device, ChunkKind kind, Chunk** out);
    void note_room(Chunk& chunk, uint64_t room);
    bool take_piece(CUdevice device, uint64_t bytes, uint64_t* address);
    void no_longer_shared(Chunk& chunk, uint64_t allocation);
    Chunk& chunk_of(uint64_t address) { return std::prev(chunks_.upper_bound(address))->second; }

    const DriverTable& driver_;
    std::map<uint64_t, Chunk> chunks_;                   // by address
    std::map<uint64_t, DeviceAllocation> allocations_;   // living, by address
    std::map<uint64_t, DeviceAllocation> freed_;
    std::map<CUdevice, std::set<std::pair<uint64_t, uint64_t>>> roomy_;  // shared chunks with room: (room, address)
    std::deque<Chunk> spares_;                           // mapped and unused, the latest last
    uint64_t spare_bytes_ = 0;
    AddressRanges free_ranges_;                          // of the reserved range
    std::map<std::pair<CUdevice, CUdevice>, unsigned> peers_;  // (owner, peer) -> times allowed
    bool exportable_ = true;                             // the driver makes memory that can be exported
    uint64_t bytes_ = 0;
};

}  // namespace cricket::server
