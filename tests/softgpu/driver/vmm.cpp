// SPDX-License-Identifier: MIT
// The virtual-memory functions. An allocation is a memfd, a reservation inaccessible address space, a mapping
// the memfd mapped over it; access is what memory_map() says, and the page protection follows it.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "memory.h"
#include "stream.h"

namespace softgpu {
namespace {

struct Allocation {
    int fd = -1;
    uint64_t size = 0;
    CUmemAllocationProp prop = {};
    bool taken = false;  // from the device: not of host memory, nor of memory that was imported
    int references = 1;  // of the handle; guarded by Space::mutex
    CUmemGenericAllocationHandle handle = 0;

    ~Allocation() {
        if (fd < 0) return;
        close(fd);
        if (taken) device(prop.location.id).give_back(size);
    }
};

struct Mapping {
    uint64_t size;
    std::shared_ptr<Allocation> allocation;  // keeps the memory after the handle was released
};

struct Space {
    std::mutex mutex;
    std::map<uint64_t, uint64_t> reservations;  // base -> size
    std::map<uint64_t, Mapping> mappings;       // by base
    AddressAllocator addresses{kReserveBase, kReserveSize};

    // Base of the reservation that holds all of this range, or fail.
    uint64_t reservation_of(uint64_t base, uint64_t size) const {
        auto after = reservations.upper_bound(base);
        require(after != reservations.begin());
        auto [start, room] = *std::prev(after);
        require(base - start <= room && size <= room - (base - start));
        return start;
    }

    // Bases of the mappings in this range, or fail when one is cut.
    std::vector<uint64_t> mappings_in(uint64_t base, uint64_t size) const {
        std::vector<uint64_t> result;
        auto it = mappings.upper_bound(base);
        if (it != mappings.begin() && std::prev(it)->first + std::prev(it)->second.size > base) --it;
        for (; it != mappings.end() && it->first < base + size; ++it) {
            require(it->first >= base && it->first + it->second.size <= base + size);
            result.push_back(it->first);
        }
        return result;
    }

    // Bases of the mappings that together are exactly this range, or fail.
    std::vector<uint64_t> mappings_of(uint64_t base, uint64_t size) const {
        std::vector<uint64_t> result;
        uint64_t at = base;
        for (auto it = mappings.find(base); at < base + size; ++it) {
            require(it != mappings.end() && it->first == at);
            result.push_back(at);
            at += it->second.size;
        }
        require(at == base + size);
        return result;
    }
};
Space& space() {
    return immortal<Space>();
}

using Allocations = Registry<Allocation, CUmemGenericAllocationHandle, 0x7c04>;
Allocations& allocations() {
    return immortal<Allocations>();
}

bool is_multiple(uint64_t value, uint64_t of = kGranularity) {
    return value % of == 0;
}

void* map_nothing(uint64_t base, uint64_t size, int fixed) {
    return mmap(reinterpret_cast<void*>(base), size, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
}

bool reserve_at(Space& s, uint64_t base, uint64_t size) {
    bool own = base >= kReserveBase && base < kReserveBase + kReserveSize;
    if (own && !s.addresses.take(base, size)) return false;
    void* got = map_nothing(base, size, MAP_FIXED_NOREPLACE);
    if (got == reinterpret_cast<void*>(base)) return true;
    if (got != MAP_FAILED) munmap(got, size);
    if (own) s.addresses.release(base, size);
    return false;
}

bool among_modules(uint64_t address) { return address >= kModuleBase && address < kModuleBase + kModuleSize; }

uint64_t reserve_anywhere(Space& s, uint64_t size, uint64_t alignment) {
    std::vector<uint64_t> taken_by_others;
    std::optional<uint64_t> base;
    while ((base = s.addresses.allocate(size, alignment))) {
        if (map_nothing(*base, size, MAP_FIXED_NOREPLACE) == reinterpret_cast<void*>(*base)) break;
        taken_by_others.push_back(*base);
        if (taken_by_others.size() > 64) base.reset();
        if (!base) break;
    }
    for (auto other : taken_by_others) s.addresses.release(other, size);
    require(base.has_value(), CUDA_ERROR_OUT_OF_MEMORY);
    return *base;
}

bool on_host(const CUmemLocation& location) {
    return location.type == CU_MEM_LOCATION_TYPE_HOST || location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
           location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

void check_location(const CUmemAllocationProp* prop) {
    require(prop && prop->type == CU_MEM_ALLOCATION_TYPE_PINNED);
    require((prop->requestedHandleTypes & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR}) == 0,
            CUDA_ERROR_NOT_SUPPORTED);
    if (on_host(prop->location)) return;
    require(prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE);
    device(prop->location.id);
}

// The file's name says where the memory is, so that whoever gets the descriptor knows.
constexpr char kFileName[] = "softgpu-memory-%d";

CUmemGenericAllocationHandle add(std::shared_ptr<Allocation> allocation) {
    auto handle = allocation->handle = allocations().reserve();
    allocations().set(handle, std::move(allocation));
    return handle;
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* prop,
                                       CUmemAllocationGranularity_flags option) {
    return api([&] {
        require(granularity && (option == CU_MEM_ALLOC_GRANULARITY_MINIMUM ||
                                option == CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
        check_location(prop);
        *granularity = kGranularity;
    });
}

CUresult cuMemAddressReserve(CUdeviceptr* out, size_t size, size_t alignment, CUdeviceptr hint,
                             unsigned long long flags) {
    return api([&] {
        require(out && size && is_multiple(size) && flags == 0 && (alignment & (alignment - 1)) == 0);
        alignment = std::max<size_t>(alignment, kGranularity);
        auto& s = space();
        std::unique_lock lock(s.mutex);
        if (block_bytes() && (!hint || among_modules(hint))) {
            std::optional<uint64_t> block;
            if (hint && module_addresses().take(hint, size)) block = hint;
            if (!block) block = module_addresses().allocate(size, std::max<uint64_t>(alignment, block_bytes()));
            require(block.has_value(), CUDA_ERROR_OUT_OF_MEMORY);
            s.reservations.emplace(*block, size);
            *out = *block;
            return;
        }
        // The address is a wish, as with the real driver: the caller compares.
        uint64_t base = hint && is_multiple(hint, alignment) && reserve_at(s, hint, size)
                            ? hint
                            : reserve_anywhere(s, size, alignment);
        s.reservations.emplace(base, size);
        *out = base;
    });
}

CUresult cuMemAddressFree(CUdeviceptr base, size_t size) {
    return api([&] {
        auto& s = space();
        std::unique_lock lock(s.mutex);
        auto found = s.reservations.find(base);
        require(found != s.reservations.end() && found->second == size);
        auto mapped = s.mappings.lower_bound(base);
        require(mapped == s.mappings.end() || mapped->first >= base + size);
        if (among_modules(base)) {
            module_addresses().release(base, size);
            s.reservations.erase(found);
            return;
        }
        munmap(reinterpret_cast<void*>(base), size);
        if (base >= kReserveBase && base < kReserveBase + kReserveSize) s.addresses.release(base, size);
        s.reservations.erase(found);
    });
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* out, size_t size, const CUmemAllocationProp* prop,
                     unsigned long long flags) {
    return api([&] {
        require(out && size && is_multiple(size) && flags == 0);
        check_location(prop);
        auto allocation = std::make_shared<Allocation>();
        bool host = on_host(prop->location);
        if (!host) device(prop->location.id).take(size);
        allocation->taken = !host;
        allocation->size = size;
        allocation->prop = *prop;
        char name[64];
        snprintf(name, sizeof name, kFileName, host ? -1 : prop->location.id);
        allocation->fd = memfd_create(name, MFD_CLOEXEC);
        if (allocation->fd < 0 && !host) device(prop->location.id).give_back(size);
        require(allocation->fd >= 0 && ftruncate(allocation->fd, static_cast<off_t>(size)) == 0,
                CUDA_ERROR_OUT_OF_MEMORY);
        *out = add(std::move(allocation));
    });
}

CUresult cuMemExportToShareableHandle(void* out, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags) {
    return api([&] {
        require(out && flags == 0);
        require(type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, CUDA_ERROR_NOT_SUPPORTED);
        auto allocation = allocations().get(handle, CUDA_ERROR_INVALID_VALUE);
        require(allocation->prop.requestedHandleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        int fd = fcntl(allocation->fd, F_DUPFD_CLOEXEC, 0);
        require(fd >= 0, CUDA_ERROR_OPERATING_SYSTEM);
        *static_cast<int*>(out) = fd;
    });
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* out, void* handle,
                                        CUmemAllocationHandleType type) {
    return api([&] {
        require(out);
        require(type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, CUDA_ERROR_NOT_SUPPORTED);
        int given = static_cast<int>(reinterpret_cast<intptr_t>(handle));
        char path[64], name[256];
        snprintf(path, sizeof path, "/proc/self/fd/%d", given);
        ssize_t length = readlink(path, name, sizeof name - 1);
        require(length > 0, CUDA_ERROR_UNKNOWN);
        name[length] = 0;
        int where = 0;
        struct stat status;
        require(sscanf(name, "/memfd:softgpu-memory-%d", &where) == 1 && fstat(given, &status) == 0);
        auto allocation = std::make_shared<Allocation>();
        allocation->size = static_cast<uint64_t>(status.st_size);
        allocation->prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
        allocation->prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        if (where < 0)
            allocation->prop.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA, {0}};
        else
            allocation->prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device(where).ordinal}};
        allocation->fd = fcntl(given, F_DUPFD_CLOEXEC, 0);
        require(allocation->fd >= 0, CUDA_ERROR_OPERATING_SYSTEM);
        *out = add(std::move(allocation));
    });
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    return api([&] {
        std::unique_lock lock(space().mutex);
        auto allocation = allocations().get(handle, CUDA_ERROR_INVALID_VALUE);
        if (--allocation->references == 0) allocations().remove(handle);
    });
}

CUresult cuMemMap(CUdeviceptr base, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
    return api([&] {
        require(base && size && is_multiple(base) && is_multiple(size) && flags == 0 && offset == 0);
        auto& s = space();
        std::unique_lock lock(s.mutex);
        auto allocation = allocations().get(handle, CUDA_ERROR_INVALID_VALUE);
        require(size <= allocation->size);
        s.reservation_of(base, size);
        require(!memory_map().overlaps(base, size));
        require(size == allocation->size, CUDA_ERROR_NOT_SUPPORTED);  // measured: not in parts
        void* got =
            mmap(reinterpret_cast<void*>(base), size, PROT_NONE, MAP_SHARED | MAP_FIXED, allocation->fd, 0);
        require(got != MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
        Range range;
        range.base = base;
        range.size = size;
        range.kind = MemoryKind::Mapped;
        range.device = on_host(allocation->prop.location) ? 0 : allocation->prop.location.id;
        memory_map().add(range);
        s.mappings.emplace(base, Mapping{size, std::move(allocation)});
    });
}

CUresult cuMemUnmap(CUdeviceptr base, size_t size) {
    return api([&] {
        require(base && size);
        auto& s = space();
        MemoryNotInUse not_in_use;
        std::unique_lock lock(s.mutex);
        s.reservation_of(base, size);
        for (auto part : s.mappings_in(base, size)) {
            auto mapping = s.mappings.extract(part);
            memory_map().remove(part);
            map_nothing(part, mapping.mapped().size, MAP_FIXED);
        }
    });
}

CUresult cuMemSetAccess(CUdeviceptr base, size_t size, const CUmemAccessDesc* list, size_t count) {
    return api([&] {
        require(base && size && list && count);
        uint32_t devices = 0, readers = 0, writers = 0;
        bool by_host = false;
        for (size_t i = 0; i < count; ++i) {
            if (on_host(list[i].location)) {  // which reaches what any device reaches, and this too
                by_host = list[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE;
                continue;
            }
            require(list[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE);
            uint32_t bit = 1u << device(list[i].location.id).ordinal;
            devices |= bit;
            switch (list[i].flags) {
                case CU_MEM_ACCESS_FLAGS_PROT_NONE:
                    break;
                case CU_MEM_ACCESS_FLAGS_PROT_READ:
                    readers |= bit;
                    break;
                case CU_MEM_ACCESS_FLAGS_PROT_READWRITE:
                    readers |= bit, writers |= bit;
                    break;
                default:
                    fail(CUDA_ERROR_INVALID_VALUE);
            }
        }
        auto& s = space();
        std::unique_lock lock(s.mutex);
        for (auto part : s.mappings_of(base, size)) {
            auto range = memory_map().find(part);
            uint32_t all_readers = (range->readers & ~devices) | readers,
                     all_writers = (range->writers & ~devices) | writers;
            mprotect(reinterpret_cast<void*>(part), range->size,
                     all_readers || by_host ? PROT_READ | PROT_WRITE : PROT_NONE);
            memory_map().update(part, all_readers, all_writers);
        }
    });
}

CUresult cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location, CUdeviceptr pointer) {
    return api([&] {
        require(flags && location && location->type == CU_MEM_LOCATION_TYPE_DEVICE);
        uint32_t bit = 1u << device(location->id).ordinal;
        auto range = memory_map().find(pointer);
        require(range && range->kind == MemoryKind::Mapped);
        *flags = range->writers & bit   ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                 : range->readers & bit ? CU_MEM_ACCESS_FLAGS_PROT_READ
                                        : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    });
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* out, void* address) {
    return api([&] {
        require(out);
        auto range = memory_map().find(reinterpret_cast<uint64_t>(address));
        require(range && range->kind == MemoryKind::Mapped);
        auto& s = space();
        std::unique_lock lock(s.mutex);
        auto found = s.mappings.find(range->base);
        require(found != s.mappings.end());
        auto& allocation = found->second.allocation;
        if (allocation->references++ == 0) allocations().set(allocation->handle, allocation);
        *out = allocation->handle;
    });
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                                CUmemGenericAllocationHandle handle) {
    return api([&] {
        require(prop);
        *prop = allocations().get(handle, CUDA_ERROR_INVALID_VALUE)->prop;
    });
}
