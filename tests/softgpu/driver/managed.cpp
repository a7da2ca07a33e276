// SPDX-License-Identifier: MIT
// Hints about managed memory. There is one memory for host and devices, so hints change nothing; their
// arguments are checked as ever, and what was set last is remembered for cuMemRangeGetAttribute.
#include <cstring>

#include "copy.h"

namespace softgpu {
namespace {

struct Hints {
    bool read_mostly = false;
    int preferred = CU_DEVICE_INVALID, last_prefetch = CU_DEVICE_INVALID;
    uint32_t accessed_by = 0;  // bit per device; the host is bit 31
};

std::mutex hints_mutex;
std::map<uint64_t, Hints>& hints() {
    return immortal<std::map<uint64_t, Hints>>();
}  // by Range::id

Range managed_range(CUdeviceptr pointer, size_t size) {
    require(size > 0);
    auto range = memory_map().find(pointer);
    require(range && range->kind == MemoryKind::Managed && size <= range->end() - pointer);
    return *range;
}

int place(const CUmemLocation& location) {
    switch (location.type) {
        case CU_MEM_LOCATION_TYPE_DEVICE:
            return device(location.id).ordinal;
        case CU_MEM_LOCATION_TYPE_HOST:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
            return CU_DEVICE_CPU;
        default:
            fail(CUDA_ERROR_INVALID_VALUE);
    }
}

CUmemLocation location_of(CUdevice dev) {
    CUmemLocation location = {};
    location.type = dev == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
    location.id = dev == CU_DEVICE_CPU ? 0 : dev;
    return location;
}

uint32_t bit_of(int where) {
    return 1u << (where == CU_DEVICE_CPU ? 31 : where);
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuMemPrefetchAsync_v2(CUdeviceptr pointer, size_t size, CUmemLocation location, unsigned flags,
                               CUstream on) {
    return api([&] {
        require(flags == 0);
        auto s = stream(on);
        auto range = managed_range(pointer, size);
        int where = place(location);
        std::unique_lock lock(hints_mutex);
        hints()[range.id].last_prefetch = where;
        s->mark();
    });
}

CUresult cuMemPrefetchAsync(CUdeviceptr pointer, size_t size, CUdevice dev, CUstream on) {
    return cuMemPrefetchAsync_v2(pointer, size, location_of(dev), 0, on);
}

CUresult cuMemAdvise_v2(CUdeviceptr pointer, size_t size, CUmem_advise advice, CUmemLocation location) {
    return api([&] {
        current();
        auto range = managed_range(pointer, size);
        std::unique_lock lock(hints_mutex);
        auto& hint = hints()[range.id];
        switch (advice) {
            case CU_MEM_ADVISE_SET_READ_MOSTLY:
                hint.read_mostly = true;
                break;
            case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
                hint.read_mostly = false;
                break;
            case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
                hint.preferred = place(location);
                break;
            case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
                hint.preferred = CU_DEVICE_INVALID;
                break;
            case CU_MEM_ADVISE_SET_ACCESSED_BY:
                hint.accessed_by |= bit_of(place(location));
                break;
            case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
                hint.accessed_by &= ~bit_of(place(location));
                break;
            default:
                fail(CUDA_ERROR_INVALID_VALUE);
        }
    });
}

CUresult cuMemAdvise(CUdeviceptr pointer, size_t size, CUmem_advise advice, CUdevice dev) {
    return cuMemAdvise_v2(pointer, size, advice, location_of(dev));
}

CUresult cuMemRangeGetAttribute(void* data, size_t data_size, CUmem_range_attribute which,
                                CUdeviceptr pointer, size_t size) {
    return api([&] {
        require(data && data_size >= 4);
        current();
        auto range = managed_range(pointer, size);
        std::unique_lock lock(hints_mutex);
        auto& hint = hints()[range.id];
        auto put = [&](int value) {
            require(data_size == sizeof value);
            memcpy(data, &value, sizeof value);
        };
        switch (which) {
            case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
                put(hint.read_mostly);
                break;
            case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
                put(hint.preferred);
                break;
            case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
                put(hint.last_prefetch);
                break;
            case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY: {
                require(data_size % 4 == 0);
                std::vector<int> list;
                for (int i = 0; i < device_count(); ++i)
                    if (hint.accessed_by & bit_of(i)) list.push_back(i);
                if (hint.accessed_by & bit_of(CU_DEVICE_CPU)) list.push_back(CU_DEVICE_CPU);
                list.resize(data_size / 4, CU_DEVICE_INVALID);
                memcpy(data, list.data(), data_size);
                break;
            }
            default:
                fail(CUDA_ERROR_NOT_SUPPORTED);
        }
    });
}

CUresult cuMemRangeGetAttributes(void** data, size_t* sizes, CUmem_range_attribute* which, size_t count,
                                 CUdeviceptr pointer, size_t size) {
    if (!data || !sizes || !which || !count) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; ++i)
        if (auto result = cuMemRangeGetAttribute(data[i], sizes[i], which[i], pointer, size)) return result;
    return CUDA_SUCCESS;
}

CUresult cuStreamAttachMemAsync(CUstream on, CUdeviceptr pointer, size_t size, unsigned flags) {
    return api([&] {
        require(flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST ||
                flags == CU_MEM_ATTACH_SINGLE);
        auto s = stream(on);
        auto range = memory_map().find(pointer);
        require(range && range->kind == MemoryKind::Managed && (size == 0 || size == range->size));
        s->mark();
    });
}

namespace {

// Batches of prefetches: each place is meant for the ranges from its index to the next one's.
CUresult prefetch_batch(CUdeviceptr* pointers, size_t* sizes, size_t count, CUmemLocation* places,
                        size_t* first_of, size_t place_count, unsigned long long flags, CUstream on) {
    return api([&] {
        require(pointers && sizes && count && places && first_of && place_count && place_count <= count);
        require(flags == 0 && first_of[0] == 0);
        auto s = stream(on);
        for (size_t i = 0, k = 0; i < count; ++i) {
            while (k + 1 < place_count && first_of[k + 1] <= i) ++k;
            auto range = managed_range(pointers[i], sizes[i]);
            std::unique_lock lock(hints_mutex);
            hints()[range.id].last_prefetch = place(places[k]);
        }
        s->mark();
    });
}

}  // namespace

CUresult cuMemPrefetchBatchAsync(CUdeviceptr* pointers, size_t* sizes, size_t count, CUmemLocation* places,
                                 size_t* first_of, size_t place_count, unsigned long long flags,
                                 CUstream on) {
    return prefetch_batch(pointers, sizes, count, places, first_of, place_count, flags, on);
}

// Discarding allows the contents to go; they need not.
CUresult cuMemDiscardBatchAsync(CUdeviceptr* pointers, size_t* sizes, size_t count, unsigned long long flags,
                                CUstream on) {
    return api([&] {
        require(pointers && sizes && count && flags == 0);
        auto s = stream(on);
        for (size_t i = 0; i < count; ++i) managed_range(pointers[i], sizes[i]);
        s->mark();
    });
}

CUresult cuMemDiscardAndPrefetchBatchAsync(CUdeviceptr* pointers, size_t* sizes, size_t count,
                                           CUmemLocation* places, size_t* first_of, size_t place_count,
                                           unsigned long long flags, CUstream on) {
    return prefetch_batch(pointers, sizes, count, places, first_of, place_count, flags, on);
}
