// SPDX-License-Identifier: MIT
#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "capture.h"
#include "pool.h"
#include "sharing.h"

namespace softgpu {
namespace {

constexpr uint64_t kPage = 4096;

void reserve(uint64_t base, uint64_t size) {
    auto address = reinterpret_cast<void*>(base);
    void* got = mmap(address, size, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == address) return;
    log("cannot reserve %#llx bytes at %p: %s", static_cast<unsigned long long>(size), address,
        got == MAP_FAILED ? strerror(errno) : "kernel too old for MAP_FIXED_NOREPLACE");
    fail(CUDA_ERROR_OPERATING_SYSTEM);
}

std::vector<int>& device_files() {
    return immortal<std::vector<int>>();
}

}  // namespace

int device_file(int device) {
    return device_files()[static_cast<size_t>(device)];
}

void map_device_memory(uint64_t base, uint64_t size, int device) {
    void* got = mmap(reinterpret_cast<void*>(base), size, PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
                     device_file(device), static_cast<off_t>(base - device_base(device)));
    require(got != MAP_FAILED, CUDA_ERROR_OPERATING_SYSTEM);
}

namespace {

// Memory of a device is a file, so that other processes can map it.
void map_devices() {
    constexpr uint64_t kPart = kDeviceSize / kMaxDevices;
    for (int i = 0; i < device_count(); ++i) {
        std::string name = "softgpu-device-" + std::to_string(i);
        int fd = memfd_create(name.c_str(), MFD_CLOEXEC);
        require(fd >= 0 && ftruncate(fd, static_cast<off_t>(kPart)) == 0, CUDA_ERROR_OPERATING_SYSTEM);
        device_files().push_back(fd);
        map_device_memory(device_base(i), kPart, i);
    }
}

}  // namespace

void reserve_regions() {
    static bool done = false;
    if (done) return;
    reserve(kGraphBase, kGraphSize);
    reserve(kManagedBase, kManagedSize);
    reserve(kDeviceBase, kDeviceSize);
    reserve(kModuleBase, kModuleSize);
    reserve(kHeapBase, kHeapSize);
    map_devices();
    done = true;
}

void commit(uint64_t base, uint64_t size) {
    uint64_t first = base / kPage * kPage, last = (base + size + kPage - 1) / kPage * kPage;
    if (mprotect(reinterpret_cast<void*>(first), last - first, PROT_READ | PROT_WRITE) != 0)
        fail(CUDA_ERROR_OUT_OF_MEMORY);
}

void decommit(uint64_t base, uint64_t size) {
    uint64_t first = (base + kPage - 1) / kPage * kPage, last = (base + size) / kPage * kPage;
    bool in_file = base >= kDeviceBase && base < kDeviceBase + kDeviceSize;
    if (first < last)
        madvise(reinterpret_cast<void*>(first), last - first, in_file ? MADV_REMOVE : MADV_DONTNEED);
}

bool Range::allows(int by_device, uint32_t peers, bool write) const {
    switch (kind) {
        case MemoryKind::Mapped:
        case MemoryKind::Pooled:
            return ((write ? writers : readers) >> by_device & 1) != 0;
        case MemoryKind::Device:
        case MemoryKind::Imported:
        case MemoryKind::Variable:
            return (peers >> device & 1) != 0;
        case MemoryKind::Heap:
            return device == by_device;
        case MemoryKind::Registered:
            return !write || !(flags & CU_MEMHOSTREGISTER_READ_ONLY);
        case MemoryKind::Pinned:
        case MemoryKind::Managed:
            return true;
    }
    return false;
}

void MemoryMap::add(Range range) {
    std::unique_lock lock(mutex_);
    range.id = ++last_id_;
    ranges_.emplace(range.base, range);
}

Range MemoryMap::remove(uint64_t base) {
    std::unique_lock lock(mutex_);
    auto node = ranges_.extract(base);
    require(!node.empty());
    return node.mapped();
}

bool MemoryMap::update(uint64_t base, uint32_t readers, uint32_t writers) {
    std::unique_lock lock(mutex_);
    auto found = ranges_.find(base);
    if (found == ranges_.end()) return false;
    found->second.readers = readers;
    found->second.writers = writers;
    return true;
}

void MemoryMap::resize(uint64_t base, uint64_t size) {
    std::unique_lock lock(mutex_);
    auto found = ranges_.find(base);
    if (found != ranges_.end()) found->second.size = size;
}

void MemoryMap::set_flag(uint64_t base, unsigned set, unsigned clear) {
    std::unique_lock lock(mutex_);
    auto found = ranges_.find(base);
    if (found != ranges_.end()) found->second.flags = (found->second.flags | set) & ~clear;
}

std::optional<Range> MemoryMap::find(uint64_t address) const {
    std::shared_lock lock(mutex_);
    auto after = ranges_.upper_bound(address);
    if (after == ranges_.begin()) return std::nullopt;
    auto& range = std::prev(after)->second;
    if (address >= range.end()) return std::nullopt;
    return range;
}

bool MemoryMap::overlaps(uint64_t base, uint64_t size) const {
    std::shared_lock lock(mutex_);
    auto after = ranges_.lower_bound(base + size);
    return after != ranges_.begin() && std::prev(after)->second.end() > base;
}

std::vector<Range> MemoryMap::of_owner(CUcontext owner) const {
    std::shared_lock lock(mutex_);
    std::vector<Range> result;
    for (auto& [base, range] : ranges_)
        if (range.owner == owner && range.kind != MemoryKind::Heap) result.push_back(range);
    return result;
}

std::optional<uint64_t> AddressAllocator::allocate(uint64_t size, uint64_t align) {
    std::unique_lock lock(mutex_);
    for (auto it = free_.begin(); it != free_.end(); ++it) {
        auto [base, room] = *it;
        uint64_t start = (base + align - 1) / align * align;
        if (start < base || start - base > room || room - (start - base) < size) continue;
        free_.erase(it);
        if (start > base) free_.emplace(base, start - base);
        if (start + size < base + room) free_.emplace(start + size, base + room - start - size);
        return start;
    }
    return std::nullopt;
}

bool AddressAllocator::take(uint64_t base, uint64_t size) {
    std::unique_lock lock(mutex_);
    auto after = free_.upper_bound(base);
    if (after == free_.begin()) return false;
    auto [start, room] = *std::prev(after);
    if (base + size > start + room) return false;
    free_.erase(start);
    if (base > start) free_.emplace(start, base - start);
    if (base + size < start + room) free_.emplace(base + size, start + room - base - size);
    return true;
}

void AddressAllocator::release(uint64_t base, uint64_t size) {
    std::unique_lock lock(mutex_);
    auto after = free_.lower_bound(base);
    if (after != free_.end() && base + size == after->first) {
        size += after->second;
        after = free_.erase(after);
    }
    if (after != free_.begin()) {
        auto before = std::prev(after);
        if (before->first + before->second == base) {
            before->second += size;
            return;
        }
    }
    free_.emplace(base, size);
}

AddressAllocator& device_addresses(int device) {
    static constexpr uint64_t kPart = kDeviceSize / kMaxDevices;
    static auto* allocators = [] {
        auto* list = new std::vector<std::unique_ptr<AddressAllocator>>;
        for (unsigned i = 0; i < kMaxDevices; ++i)
            list->push_back(std::make_unique<AddressAllocator>(kDeviceBase + i * kPart, kPart));
        return list;
    }();
    return *(*allocators)[static_cast<size_t>(device)];
}

uint64_t block_bytes() {
    static const uint64_t bytes = std::getenv("SOFTGPU_BLOCKS") ? uint64_t(2) << 20 : 0;
    return bytes;
}

AddressAllocator& module_addresses() {
    static auto* allocator = new AddressAllocator(kModuleBase, kModuleSize);
    return *allocator;
}

namespace {

AddressAllocator& managed_addresses() {
    static auto* allocator = new AddressAllocator(kManagedBase, kManagedSize);
    return *allocator;
}

constexpr uint64_t kAlignment = 512;  // of cuMemAlloc

uint64_t round_up(uint64_t value, uint64_t to) {
    return (value + to - 1) / to * to;
}

// Device and managed memory: `taken` bytes of address space and of the device.
uint64_t allocate(Context& context, MemoryKind kind, uint64_t size, unsigned flags) {
    require(size > 0);
    require(size <= context.device.memory, CUDA_ERROR_OUT_OF_MEMORY);
    bool managed = kind == MemoryKind::Managed;
    uint64_t taken = round_up(size, managed ? kPage : kAlignment);
    context.device.take(taken);
    auto& addresses = managed ? managed_addresses() : device_addresses(context.device.ordinal);
    auto base = addresses.allocate(taken, managed ? kPage : kAlignment);
    try {
        require(base.has_value(), CUDA_ERROR_OUT_OF_MEMORY);
        commit(*base, taken);
    } catch (...) {
        if (base) addresses.release(*base, taken);
        context.device.give_back(taken);
        throw;
    }
    Range range;
    range.base = *base;
    range.size = size;
    range.kind = kind;
    range.device = context.device.ordinal;
    range.owner = context.handle;
    range.flags = flags;
    range.taken = taken;
    memory_map().add(range);
    return *base;
}

}  // namespace

void free_range(const Range& range) {
    MemoryNotInUse not_in_use;
    switch (range.kind) {
        case MemoryKind::Device:
            decommit(range.base, range.taken);
            device_addresses(range.device).release(range.base, range.taken);
            device(range.device).give_back(range.taken);
            break;
        case MemoryKind::Managed:
            // A managed variable lies in its module's block, which the module frees.
            if (range.base < kManagedBase || range.base >= kManagedBase + kManagedSize) break;
            decommit(range.base, range.taken);
            managed_addresses().release(range.base, range.taken);
            device(range.device).give_back(range.taken);
            break;
        case MemoryKind::Pinned:
            munmap(reinterpret_cast<void*>(range.base), round_up(range.size, kPage));
            break;
        case MemoryKind::Imported:
            close_window(range.base);
            break;
        case MemoryKind::Registered:
        case MemoryKind::Variable:
        case MemoryKind::Mapped:
        case MemoryKind::Heap:
        case MemoryKind::Pooled:
            break;
    }
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuMemAlloc_v2(CUdeviceptr* out, size_t size) {
    return api([&] {
        require(out);
        auto context = current();
        potentially_unsafe();
        *out = allocate(*context, MemoryKind::Device, size, 0);
    });
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* out, size_t* pitch, size_t width, size_t height, unsigned element) {
    return api([&] {
        require(out && pitch && width && height && (element == 4 || element == 8 || element == 16));
        *pitch = round_up(width, kAlignment);
        size_t size;
        require(!__builtin_mul_overflow(*pitch, height, &size), CUDA_ERROR_OUT_OF_MEMORY);
        potentially_unsafe();
        *out = allocate(*current(), MemoryKind::Device, size, 0);
    });
}

CUresult cuMemAllocManaged(CUdeviceptr* out, size_t size, unsigned flags) {
    return api([&] {
        require(out && (flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST));
        potentially_unsafe();
        *out = allocate(*current(), MemoryKind::Managed, size, flags);
    });
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
    return api([&] {
        if (pointer == 0) return;
        auto context = current();
        potentially_unsafe();
        if (free_pooled(pointer)) return;
        auto range = memory_map().find(pointer);
        require(
            range && range->base == pointer &&
            (range->kind == MemoryKind::Device || (range->kind == MemoryKind::Managed && range->flags != 0)));
        // As the real one: what was submitted before may still use the memory.
        if (auto owner = contexts().find(range->owner)) owner->drain();
        free_range(memory_map().remove(pointer));
    });
}

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    return api([&] {
        require(free && total);
        auto context = current();
        *total = context->device.memory;
        *free = context->device.memory - context->device.used;
    });
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* size, CUdeviceptr pointer) {
    if (!base && !size) return CUDA_SUCCESS;
    return api([&] {
        current();
        auto range = memory_map().find(pointer);
        require(range && range->kind != MemoryKind::Registered && range->kind != MemoryKind::Heap,
                CUDA_ERROR_NOT_FOUND);
        if (base) *base = range->base;
        if (size) *size = range->size;
    });
}
