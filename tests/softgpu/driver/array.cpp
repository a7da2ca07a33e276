// SPDX-License-Identifier: MIT
#include "array.h"

#include <algorithm>

#include "capture.h"
#include "memory.h"
#include "stream.h"

namespace softgpu {
namespace {

constexpr size_t kAlignment = 512;
constexpr unsigned kKnownFlags = CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP |
                                 CUDA_ARRAY3D_TEXTURE_GATHER | CUDA_ARRAY3D_COLOR_ATTACHMENT;

size_t round_up(size_t value) {
    return (value + kAlignment - 1) / kAlignment * kAlignment;
}

void check(const CUDA_ARRAY3D_DESCRIPTOR& d) {
    require((d.Flags & ~kKnownFlags) == 0, CUDA_ERROR_NOT_SUPPORTED);
    require(d.Width > 0 && (d.NumChannels == 1 || d.NumChannels == 2 || d.NumChannels == 4));
    bool layered = d.Flags & CUDA_ARRAY3D_LAYERED, cube = d.Flags & CUDA_ARRAY3D_CUBEMAP;
    if (layered || cube)
        require(d.Depth > 0);
    else
        require(d.Depth == 0 || d.Height > 0);
    if (cube) require(d.Width == d.Height && d.Depth % 6 == 0 && (layered || d.Depth == 6));
    require(d.Width <= 131072 && d.Height <= 65536 && d.Depth <= 16384);
}

std::shared_ptr<Array> describe(const CUDA_ARRAY3D_DESCRIPTOR& d) {
    check(d);
    auto made = std::make_shared<Array>();
    made->descriptor = d;
    made->element = channel_bytes(d.Format) * d.NumChannels;
    return made;
}

std::shared_ptr<Array::Storage> allocate(Context& context, size_t bytes) {
    size_t taken = round_up(bytes);
    require(taken <= context.device.memory, CUDA_ERROR_OUT_OF_MEMORY);
    context.device.take(taken);
    auto base = device_addresses(context.device.ordinal).allocate(taken, kAlignment);
    if (!base) {
        context.device.give_back(taken);
        fail(CUDA_ERROR_OUT_OF_MEMORY);
    }
    commit(*base, taken);
    return std::make_shared<Array::Storage>(context.device.ordinal, context.handle, *base, taken);
}

CUarray enter(std::shared_ptr<Array> made) {
    auto handle = made->handle = arrays().reserve();
    arrays().set(handle, std::move(made));
    return handle;
}

CUDA_ARRAY3D_DESCRIPTOR level_of(CUDA_ARRAY3D_DESCRIPTOR d, unsigned level) {
    auto half = [&](size_t size) { return size ? std::max<size_t>(size >> level, 1) : 0; };
    d.Width = half(d.Width);
    d.Height = half(d.Height);
    if (!(d.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP))) d.Depth = half(d.Depth);
    return d;
}

}  // namespace

Array::Storage::~Storage() {
    decommit(base, taken);
    device_addresses(device).release(base, taken);
    softgpu::device(device).give_back(taken);
}

size_t channel_bytes(CUarray_format format) {
    switch (format) {
        case CU_AD_FORMAT_UNSIGNED_INT8:
        case CU_AD_FORMAT_SIGNED_INT8:
            return 1;
        case CU_AD_FORMAT_UNSIGNED_INT16:
        case CU_AD_FORMAT_SIGNED_INT16:
        case CU_AD_FORMAT_HALF:
            return 2;
        case CU_AD_FORMAT_UNSIGNED_INT32:
        case CU_AD_FORMAT_SIGNED_INT32:
        case CU_AD_FORMAT_FLOAT:
            return 4;
        default:
            require(static_cast<unsigned>(format) >= 0x80);
            log("array format %#x is not supported", static_cast<unsigned>(format));
            fail(CUDA_ERROR_NOT_SUPPORTED);
    }
}

void destroy_arrays_of(CUcontext owner) {
    arrays().remove_if([&](auto& array) { return array.storage->owner == owner; });
    mipmapped_arrays().remove_if([&](auto& array) { return array.levels[0]->storage->owner == owner; });
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuArray3DCreate_v2(CUarray* out, const CUDA_ARRAY3D_DESCRIPTOR* descriptor) {
    return api([&] {
        require(out && descriptor);
        auto context = current();
        potentially_unsafe();
        auto made = describe(*descriptor);
        made->storage = allocate(*context, made->bytes());
        made->base = made->storage->base;
        *out = enter(std::move(made));
    });
}

CUresult cuArrayCreate_v2(CUarray* out, const CUDA_ARRAY_DESCRIPTOR* d) {
    if (!d) return CUDA_ERROR_INVALID_VALUE;
    CUDA_ARRAY3D_DESCRIPTOR whole = {d->Width, d->Height, 0, d->Format, d->NumChannels, 0};
    return cuArray3DCreate_v2(out, &whole);
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR* out, CUarray handle) {
    return api([&] {
        require(out);
        *out = array(handle)->descriptor;
    });
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR* out, CUarray handle) {
    return api([&] {
        require(out);
        auto& d = array(handle)->descriptor;
        *out = {d.Width, d.Height, d.Format, d.NumChannels};
    });
}

CUresult cuArrayDestroy(CUarray handle) {
    return api([&] {
        auto gone = array(handle);
        require(!gone->of_mipmap, CUDA_ERROR_INVALID_HANDLE);
        if (auto owner = contexts().find(gone->storage->owner)) owner->drain();
        arrays().remove(handle);
    });
}

CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* out, CUarray handle, CUdevice dev) {
    return api([&] {
        require(out);
        device(dev);
        auto of = array(handle);
        *out = {};
        out->size = round_up(of->bytes());
        out->alignment = kAlignment;
    });
}

// There are no sparse arrays, and no planes.
CUresult cuArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES* out, CUarray handle) {
    return api([&] {
        require(out);
        array(handle);
        fail(CUDA_ERROR_INVALID_VALUE);
    });
}

CUresult cuArrayGetPlane(CUarray* out, CUarray handle, unsigned) {
    return api([&] {
        require(out);
        array(handle);
        fail(CUDA_ERROR_INVALID_VALUE);
    });
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray* out, const CUDA_ARRAY3D_DESCRIPTOR* descriptor,
                                unsigned levels) {
    return api([&] {
        require(out && descriptor && levels > 0);
        auto context = current();
        potentially_unsafe();
        check(*descriptor);
        // More than there can be are as many as there can be.
        bool flat = descriptor->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);
        size_t largest = std::max({descriptor->Width, descriptor->Height, flat ? 0 : descriptor->Depth});
        unsigned most = 1;
        while (largest >> most) ++most;
        auto made = std::make_shared<MipmappedArray>();
        size_t size = 0;
        std::vector<size_t> offsets;
        for (unsigned i = 0; i < std::min(levels, most); ++i) {
            auto& level = made->levels.emplace_back(describe(level_of(*descriptor, i)));
            level->of_mipmap = true;
            offsets.push_back(size);
            size += round_up(level->bytes());
        }
        auto storage = allocate(*context, size);
        for (size_t i = 0; i < made->levels.size(); ++i) {
            made->levels[i]->storage = storage;
            made->levels[i]->base = storage->base + offsets[i];
        }
        *out = mipmapped_arrays().add(std::move(made));
    });
}

CUresult cuMipmappedArrayGetLevel(CUarray* out, CUmipmappedArray handle, unsigned level) {
    return api([&] {
        require(out);
        auto of = mipmapped_arrays().get(handle);
        require(level < of->levels.size());
        auto& array = of->levels[level];
        if (!array->handle) enter(array);
        *out = array->handle;
    });
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray handle) {
    return api([&] {
        auto gone = mipmapped_arrays().get(handle);
        if (auto owner = contexts().find(gone->levels[0]->storage->owner)) owner->drain();
        mipmapped_arrays().remove(handle);
        for (auto& level : gone->levels)
            if (level->handle) arrays().remove(level->handle);
    });
}

CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* out, CUmipmappedArray handle,
                                               CUdevice dev) {
    return api([&] {
        require(out);
        device(dev);
        *out = {};
        out->size = mipmapped_arrays().get(handle)->levels[0]->storage->taken;
        out->alignment = kAlignment;
    });
}

CUresult cuMipmappedArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES* out, CUmipmappedArray handle) {
    return api([&] {
        require(out);
        mipmapped_arrays().get(handle);
        fail(CUDA_ERROR_INVALID_VALUE);
    });
}
