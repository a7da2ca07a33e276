// SPDX-License-Identifier: MIT
#include <cstring>

#include "memory.h"
#include "pool.h"

using namespace softgpu;

namespace {

// Writes one attribute; false when this pointer does not have it.
bool get(void* out, CUpointer_attribute which, CUdeviceptr pointer, const Range& range) {
    auto put = [&](auto value) {
        memcpy(out, &value, sizeof value);
        return true;
    };
    bool host = range.is_host();
    switch (which) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            return put(range.owner);
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            return put(host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
            return put(pointer);
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            return (host || range.kind == MemoryKind::Managed) && put(reinterpret_cast<void*>(pointer));
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
            return put(0u);
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
            return put(static_cast<unsigned long long>(range.id));
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
            return put(range.kind == MemoryKind::Managed ? 1u : 0u);
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            return put(range.device);
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
            return put(range.kind == MemoryKind::Device ? 1u : 0u);
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
            return put(0u);
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
            return put(range.base);
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
            return put(static_cast<size_t>(range.size));
        case CU_POINTER_ATTRIBUTE_MAPPED:
            return put(1u);
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
            return put(0ull);
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS: {
            bool write = range.allows(range.device, ~0u, true), read = range.allows(range.device, ~0u, false);
            return put(write  ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE
                       : read ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READ
                              : CU_POINTER_ATTRIBUTE_ACCESS_FLAG_NONE);
        }
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            return put(pool_of(pointer));
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
            return put(static_cast<unsigned long long>(range.id));
        default:
            fail(CUDA_ERROR_NOT_SUPPORTED);
    }
}

size_t size_of(CUpointer_attribute which) {
    switch (which) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
            return 8;
        default:
            return 4;
    }
}

std::optional<Range> range_of(CUdeviceptr pointer) {
    auto range = memory_map().find(pointer);
    if (range && range->kind == MemoryKind::Heap) range.reset();
    return range;
}

}  // namespace

CUresult cuPointerGetAttribute(void* out, CUpointer_attribute which, CUdeviceptr pointer) {
    return api([&] {
        require(out);
        auto range = range_of(pointer);
        require(range && get(out, which, pointer, *range));
    });
}

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* which, void** out, CUdeviceptr pointer) {
    return api([&] {
        require(count && which && out);
        auto range = range_of(pointer);
        for (unsigned i = 0; i < count; ++i) {
            require(out[i]);
            // Unlike the function above this one answers for any pointer: with zeros, and the device -2.
            memset(out[i], 0, size_of(which[i]));
            int none = -2;
            if (range)
                get(out[i], which[i], pointer, *range);
            else if (which[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
                memcpy(out[i], &none, sizeof none);
        }
    });
}

CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute which, CUdeviceptr pointer) {
    return api([&] {
        require(value && which == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS);
        auto range = range_of(pointer);
        require(range.has_value());
        // Synchronous functions already are, whichever memory they touch.
    });
}
