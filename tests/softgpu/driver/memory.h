// SPDX-License-Identifier: MIT
// All memory that kernels and copies may touch, by address. Device memory is host memory of this process in
// fixed regions, so that addresses are the same in every run that makes the same calls.
#pragma once

#include <optional>
#include <shared_mutex>

#include "context.h"

namespace softgpu {

constexpr uint64_t kGranularity = 2 << 20;  // of the virtual-memory functions
constexpr uint64_t kGraphBase = 0x080000000000,
                   kGraphSize = uint64_t{1} << 40;  // of graphs' own memory, in equal parts for the devices
constexpr uint64_t kManagedBase = 0x090000000000, kManagedSize = uint64_t{1} << 38;
constexpr uint64_t kDeviceBase = 0x0a0000000000,
                   kDeviceSize = uint64_t{1} << 40;  // in equal parts for the devices
constexpr uint64_t kModuleBase = 0x0b0000000000, kModuleSize = uint64_t{1} << 38;
constexpr uint64_t kHeapBase = 0x0b8000000000, kHeapSize = uint64_t{1} << 36;
constexpr uint64_t kReserveBase = 0x0c0000000000,
                   kReserveSize = uint64_t{1} << 42;  // cuMemAddressReserve, no hint

// Where a device's part begins, and the memfd that is behind it.
constexpr uint64_t device_base(int device) {
    return kDeviceBase + static_cast<uint64_t>(device) * (kDeviceSize / kMaxDevices);
}
int device_file(int device);
// Puts the device's own memory back where something else was mapped over it; inaccessible until commit().
void map_device_memory(uint64_t base, uint64_t size, int device);

// Reserves them, but for kReserveBase; fails with CUDA_ERROR_OPERATING_SYSTEM.
void reserve_regions();

enum class MemoryKind {
    Device,      // cuMemAlloc
    Mapped,      // cuMemMap
    Pinned,      // cuMemHostAlloc
    Registered,  // cuMemHostRegister
    Managed,     // cuMemAllocManaged and managed variables
    Variable,    // of a module
    Heap,        // malloc in kernels: reached by kernels only
    Pooled,      // cuMemAllocAsync, and allocation nodes of graphs
    Imported,    // cuIpcOpenMemHandle: another process's
};

struct Range {
    uint64_t base = 0, size = 0;
    MemoryKind kind = MemoryKind::Device;
    int device = 0;                     // where it is; for host memory the device of its context
    CUcontext owner = nullptr;          // null: of no context (Mapped)
    unsigned flags = 0;                 // of the call that made it
    uint32_t readers = 0, writers = 0;  // Mapped, Pooled: bit per device
    uint64_t id = 0;                    // CU_POINTER_ATTRIBUTE_BUFFER_ID, set by add()
    uint64_t taken = 0;                 // bytes taken from the device

    uint64_t end() const { return base + size; }
    bool is_host() const { return kind == MemoryKind::Pinned || kind == MemoryKind::Registered; }
    bool allows(int by_device, uint32_t peers, bool write) const;
};

class MemoryMap {
  public:
    void add(Range range);  // must not overlap
    Range remove(uint64_t base);
    bool update(uint64_t base, uint32_t readers, uint32_t writers);
    void resize(uint64_t base, uint64_t size);
    std::optional<Range> find(uint64_t address) const;
    bool overlaps(uint64_t base, uint64_t size) const;
    std::vector<Range> of_owner(CUcontext owner) const;
    void set_flag(uint64_t base, unsigned set, unsigned clear);

  private:
    mutable std::shared_mutex mutex_;
    std::map<uint64_t, Range> ranges_;
    uint64_t last_id_ = 0;
};
inline MemoryMap& memory_map() {
    return immortal<MemoryMap>();
}

// First fit, lowest address first: the same calls give the same addresses.
class AddressAllocator {
  public:
    AddressAllocator(uint64_t base, uint64_t size) { free_.emplace(base, size); }
    std::optional<uint64_t> allocate(uint64_t size, uint64_t align);
    // Takes exactly this range; false when it is not free.
    bool take(uint64_t base, uint64_t size);
    void release(uint64_t base, uint64_t size);

  private:
    std::mutex mutex_;
    std::map<uint64_t, uint64_t> free_;  // base -> size, never adjacent
};
AddressAllocator& device_addresses(int device);
AddressAllocator& module_addresses();
// SOFTGPU_BLOCKS: as NVIDIA's driver places them, modules' variables lie in blocks of this size, of which executable graphs take
// some, and ranges that are reserved without a wish, too. 0: not asked for.
uint64_t block_bytes();

// Memory of a fixed region becomes usable (zero) or gives its pages back. Pages are shared by neighbours, so
// only pages lying wholly inside are given back.
void commit(uint64_t base, uint64_t size);
void decommit(uint64_t base, uint64_t size);

// Frees a range of the map, whatever kind but Mapped; for contexts being destroyed.
void free_range(const Range& range);

}  // namespace softgpu
