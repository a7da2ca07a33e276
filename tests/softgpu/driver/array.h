// SPDX-License-Identifier: MIT
// Arrays: memory that kernels reach by textures and surfaces only. Rows lie one behind the other without
// gaps; a level of a mipmapped array is an array in its memory.
#pragma once

#include "context.h"

namespace softgpu {

struct Array {
    // Gone with the last array in it.
    struct Storage {
        Storage(int device, CUcontext owner, uint64_t base, uint64_t taken)
            : device(device), owner(owner), base(base), taken(taken) {}
        ~Storage();
        Storage(const Storage&) = delete;
        Storage& operator=(const Storage&) = delete;

        const int device;
        const CUcontext owner;
        const uint64_t base, taken;
    };

    CUarray handle = nullptr;
    CUDA_ARRAY3D_DESCRIPTOR descriptor = {};
    std::shared_ptr<Storage> storage;
    uint64_t base = 0;
    size_t element = 0;  // bytes
    bool of_mipmap = false;

    size_t rows() const { return descriptor.Height ? descriptor.Height : 1; }
    size_t slices() const { return descriptor.Depth ? descriptor.Depth : 1; }  // layers and faces included
    size_t pitch() const { return descriptor.Width * element; }
    size_t slice() const { return pitch() * rows(); }
    size_t bytes() const { return slice() * slices(); }
    bool layered() const { return descriptor.Flags & CUDA_ARRAY3D_LAYERED; }
    bool cubemap() const { return descriptor.Flags & CUDA_ARRAY3D_CUBEMAP; }
};

struct MipmappedArray {
    std::vector<std::shared_ptr<Array>> levels;
};

using Arrays = Registry<Array, CUarray, 0x7c0f>;
using MipmappedArrays = Registry<MipmappedArray, CUmipmappedArray, 0x7c10>;
inline Arrays& arrays() {
    return immortal<Arrays>();
}
inline MipmappedArrays& mipmapped_arrays() {
    return immortal<MipmappedArrays>();
}
inline std::shared_ptr<Array> array(CUarray handle) {
    return arrays().get(handle, CUDA_ERROR_INVALID_HANDLE);
}

size_t channel_bytes(CUarray_format format);  // or CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_INVALID_VALUE
void destroy_arrays_of(CUcontext owner);

}  // namespace softgpu
