// SPDX-License-Identifier: MIT
// Host memory that kernels reach: page-locked allocations and registered mappings, at their own addresses.
#include <sys/mman.h>

#include <algorithm>

#include "memory.h"
#include "stream.h"

using namespace softgpu;

namespace {

constexpr uint64_t kPage = 4096;

void add(MemoryKind kind, uint64_t base, uint64_t size, unsigned flags) {
    auto context = current();
    Range range;
    range.base = base;
    range.size = size;
    range.kind = kind;
    range.device = context->device.ordinal;
    range.owner = context->handle;
    range.flags = flags;
    memory_map().add(range);
}

Range host_range(const void* pointer) {
    auto range = memory_map().find(reinterpret_cast<uint64_t>(pointer));
    require(range && range->is_host());
    return *range;
}

// Whether every page is there, whatever it is a mapping of.
bool is_mapped(uint64_t first, uint64_t last) {
    constexpr uint64_t kPart = uint64_t{1} << 30;
    std::vector<unsigned char> present(std::min(kPart, last - first) / kPage);
    for (; first < last; first += kPart)
        if (mincore(reinterpret_cast<void*>(first), std::min(kPart, last - first), present.data()) != 0)
            return false;
    return true;
}

}  // namespace

CUresult cuMemHostAlloc(void** out, size_t size, unsigned flags) {
    return api([&] {
        constexpr unsigned kKnown =
            CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
        require(out && (flags & ~kKnown) == 0);
        current();
        *out = nullptr;
        if (size == 0) return;
        potentially_unsafe();
        size_t mapped = (size + kPage - 1) / kPage * kPage;
        require(mapped >= size, CUDA_ERROR_OUT_OF_MEMORY);
        void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        require(memory != MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
        // With unified addressing all of it is portable and mapped, whatever was asked for.
        add(MemoryKind::Pinned, reinterpret_cast<uint64_t>(memory), size, flags | CU_MEMHOSTALLOC_DEVICEMAP);
        *out = memory;
    });
}

CUresult cuMemAllocHost_v2(void** out, size_t size) {
    return cuMemHostAlloc(out, size, 0);
}

CUresult cuMemFreeHost(void* pointer) {
    return api([&] {
        if (!pointer) return;
        current();
        potentially_unsafe();
        auto range = host_range(pointer);
        require(range.kind == MemoryKind::Pinned && range.base == reinterpret_cast<uint64_t>(pointer));
        if (auto owner = contexts().find(range.owner)) owner->drain();
        free_range(memory_map().remove(range.base));
    });
}

CUresult cuMemHostRegister_v2(void* pointer, size_t size, unsigned flags) {
    return api([&] {
        constexpr unsigned kKnown = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                                    CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY;
        require(pointer && size && (flags & ~kKnown) == 0);
        require(!(flags & CU_MEMHOSTREGISTER_IOMEMORY), CUDA_ERROR_NOT_SUPPORTED);
        current();
        auto base = reinterpret_cast<uint64_t>(pointer);
        uint64_t first = base / kPage * kPage, last = (base + size + kPage - 1) / kPage * kPage;
        require(last > first);
        require(!memory_map().overlaps(base, size), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        require(is_mapped(first, last));
        ::madvise(reinterpret_cast<void*>(first), last - first, MADV_POPULATE_WRITE);  // pinned pages are there
        add(MemoryKind::Registered, base, size, flags | CU_MEMHOSTREGISTER_DEVICEMAP);
    });
}

CUresult cuMemHostUnregister(void* pointer) {
    return api([&] {
        require(pointer);
        current();
        auto range = memory_map().find(reinterpret_cast<uint64_t>(pointer));
        require(range && range->kind == MemoryKind::Registered, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
        require(range->base == reinterpret_cast<uint64_t>(pointer));
        if (auto owner = contexts().find(range->owner)) owner->drain();
        MemoryNotInUse not_in_use;
        memory_map().remove(range->base);
    });
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* out, void* pointer, unsigned flags) {
    return api([&] {
        require(out && flags == 0);
        current();
        host_range(pointer);
        *out = reinterpret_cast<CUdeviceptr>(pointer);
    });
}

CUresult cuMemHostGetFlags(unsigned* flags, void* pointer) {
    return api([&] {
        require(flags);
        current();
        auto range = host_range(pointer);
        *flags = range.flags;
    });
}

CUresult cuMemHostRegister(void* pointer, size_t size, unsigned flags) {
    return cuMemHostRegister_v2(pointer, size, flags);
}
