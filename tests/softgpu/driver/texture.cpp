// SPDX-License-Identifier: MIT
// Texture and surface objects: what the interpreter is told of them is made once, when the object is.
#include "texture.h"

#include <algorithm>
#include <cstring>

#include "array.h"
#include "memory.h"

namespace softgpu {
namespace {

struct Object {
    CUcontext owner = nullptr;
    CUDA_RESOURCE_DESC resource = {};
    CUDA_TEXTURE_DESC texture = {};
    CUDA_RESOURCE_VIEW_DESC view = {};
    bool has_view = false;
    std::shared_ptr<const ptx::Texture> seen;
};

// Handles of both are numbers that kernels pass around, so both are told apart by their tags. Natively they are small
// numbers, below 2^31.
using Textures = Registry<Object, CUtexObject, 1, 28>;
using Surfaces = Registry<Object, CUsurfObject, 2, 28>;
Textures& textures() {
    return immortal<Textures>();
}
Surfaces& surfaces() {
    return immortal<Surfaces>();
}

void set_format(ptx::Texture& t, CUarray_format format, unsigned channels) {
    require(channels == 1 || channels == 2 || channels == 4);
    t.channel_bytes = static_cast<uint8_t>(channel_bytes(format));
    t.channels = static_cast<uint8_t>(channels);
    switch (format) {
        case CU_AD_FORMAT_SIGNED_INT8:
        case CU_AD_FORMAT_SIGNED_INT16:
        case CU_AD_FORMAT_SIGNED_INT32:
            t.channel = ptx::Texture::Channel::Signed;
            break;
        case CU_AD_FORMAT_HALF:
        case CU_AD_FORMAT_FLOAT:
            t.channel = ptx::Texture::Channel::Float;
            break;
        default:
            t.channel = ptx::Texture::Channel::Unsigned;
    }
}

ptx::Texture::Level level_of(const Array& array) {
    ptx::Texture::Level level;
    level.data = reinterpret_cast<uint8_t*>(array.base);
    level.width = static_cast<uint32_t>(array.descriptor.Width);
    level.height = static_cast<uint32_t>(array.rows());
    bool layers = array.layered() || array.cubemap();
    level.depth = layers ? 1 : static_cast<uint32_t>(array.slices());
    level.pitch = array.pitch();
    level.slice = array.slice();
    return level;
}

void set_array(ptx::Texture& t, const Array& first) {
    set_format(t, first.descriptor.Format, first.descriptor.NumChannels);
    if (first.layered() || first.cubemap()) t.layers = static_cast<uint32_t>(first.slices());
    t.keep = first.storage;
}

void check_memory(CUdeviceptr address, size_t size) {
    require(address % 512 == 0);
    auto range = memory_map().find(address);
    require(range && size <= range->end() - address);
}

// The memory of a resource; nothing of how it is read.
ptx::Texture describe(const CUDA_RESOURCE_DESC& d) {
    ptx::Texture t;
    require(d.flags == 0);
    switch (d.resType) {
        case CU_RESOURCE_TYPE_ARRAY: {
            auto of = array(d.res.array.hArray);
            set_array(t, *of);
            t.levels.push_back(level_of(*of));
            break;
        }
        case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY: {
            auto of = mipmapped_arrays().get(d.res.mipmap.hMipmappedArray);
            set_array(t, *of->levels[0]);
            for (auto& level : of->levels) t.levels.push_back(level_of(*level));
            break;
        }
        case CU_RESOURCE_TYPE_LINEAR: {
            auto& linear = d.res.linear;
            set_format(t, linear.format, linear.numChannels);
            check_memory(linear.devPtr, linear.sizeInBytes);
            ptx::Texture::Level level;
            level.data = reinterpret_cast<uint8_t*>(linear.devPtr);
            level.width = static_cast<uint32_t>(linear.sizeInBytes / (t.channel_bytes * size_t{t.channels}));
            require(level.width > 0 && linear.sizeInBytes >> 32 == 0);
            t.levels.push_back(level);
            break;
        }
        case CU_RESOURCE_TYPE_PITCH2D: {
            auto& flat = d.res.pitch2D;
            set_format(t, flat.format, flat.numChannels);
            require(flat.width && flat.height && flat.pitchInBytes % 32 == 0);
            require(flat.pitchInBytes >= flat.width * t.channel_bytes * t.channels);
            check_memory(flat.devPtr,
                         flat.pitchInBytes * (flat.height - 1) + flat.width * t.channel_bytes * t.channels);
            ptx::Texture::Level level;
            level.data = reinterpret_cast<uint8_t*>(flat.devPtr);
            level.width = static_cast<uint32_t>(flat.width);
            level.height = static_cast<uint32_t>(flat.height);
            level.pitch = flat.pitchInBytes;
            level.slice = flat.pitchInBytes * flat.height;
            t.levels.push_back(level);
            break;
        }
        default:
            fail(CUDA_ERROR_INVALID_VALUE);
    }
    return t;
}

void set_sampler(ptx::Texture& t, const CUDA_TEXTURE_DESC& d, CUresourcetype type) {
    constexpr unsigned kKnown = CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES |
                                CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION | CU_TRSF_SEAMLESS_CUBEMAP;
    if (d.flags & CU_TRSF_SRGB) fail(CUDA_ERROR_NOT_SUPPORTED);
    require((d.flags & ~kKnown) == 0);
    require(d.filterMode <= CU_TR_FILTER_MODE_LINEAR && d.mipmapFilterMode <= CU_TR_FILTER_MODE_LINEAR);
    for (int i = 0; i < 3; ++i) {
        require(d.addressMode[i] <= CU_TR_ADDRESS_MODE_BORDER);
        t.address[i] = static_cast<ptx::Texture::Address>(d.addressMode[i]);
    }
    t.as_integer = d.flags & CU_TRSF_READ_AS_INTEGER;
    t.normalized = d.flags & CU_TRSF_NORMALIZED_COORDINATES;
    require(type != CU_RESOURCE_TYPE_MIPMAPPED_ARRAY || t.normalized);
    t.linear = d.filterMode == CU_TR_FILTER_MODE_LINEAR && type != CU_RESOURCE_TYPE_LINEAR;
    bool whole = t.channel != ptx::Texture::Channel::Float && (t.as_integer || t.channel_bytes == 4);
    require(!t.linear || !whole);  // integers are not filtered
    t.mip_linear = d.mipmapFilterMode == CU_TR_FILTER_MODE_LINEAR;
    std::copy_n(d.borderColor, 4, t.border);
    t.bias = d.mipmapLevelBias;
    t.min_level = d.minMipmapLevelClamp;
    t.max_level = d.maxMipmapLevelClamp;
    if (type == CU_RESOURCE_TYPE_LINEAR)  // outside of it is zero
        t.address[0] = ptx::Texture::Address::Border, std::fill_n(t.border, 4, 0.0f);
}

// A view narrows levels and layers; another format is not supported.
void set_view(ptx::Texture& t, const CUDA_RESOURCE_VIEW_DESC& v) {
    auto last_level = std::min<size_t>(v.lastMipmapLevel, t.levels.size() - 1);
    require(v.firstMipmapLevel <= last_level && v.firstLayer <= v.lastLayer && v.lastLayer < t.layers);
    require(v.width == t.levels[0].width && v.height <= t.levels[0].height);
    unsigned bytes = unsigned{t.channel_bytes} * t.channels;
    constexpr unsigned kBytes[] = {0, 1, 2,  4, 1, 2,  4, 2, 4, 8, 2, 4, 8,
                                   4, 8, 16, 4, 8, 16, 2, 4, 8, 4, 8, 16};
    if (v.format >= std::size(kBytes)) fail(CUDA_ERROR_NOT_SUPPORTED);
    require(v.format == CU_RES_VIEW_FORMAT_NONE || kBytes[v.format] == bytes);
    t.levels = {t.levels.begin() + v.firstMipmapLevel, t.levels.begin() + static_cast<long>(last_level) + 1};
    for (auto& level : t.levels) level.data += v.firstLayer * level.slice;
    if (t.layers > 1) t.layers = v.lastLayer - v.firstLayer + 1;
}

}  // namespace

std::shared_ptr<const ptx::Texture> texture_of(uint64_t handle, bool surface) {
    auto object = surface ? surfaces().find(handle) : textures().find(handle);
    return object ? object->seen : nullptr;
}

void destroy_textures_of(CUcontext owner) {
    textures().remove_if([&](auto& object) { return object.owner == owner; });
    surfaces().remove_if([&](auto& object) { return object.owner == owner; });
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuTexObjectCreate(CUtexObject* out, const CUDA_RESOURCE_DESC* resource,
                           const CUDA_TEXTURE_DESC* texture, const CUDA_RESOURCE_VIEW_DESC* view) {
    return api([&] {
        require(out && resource && texture);
        auto object = std::make_shared<Object>();
        object->owner = current()->handle;
        auto seen = describe(*resource);
        set_sampler(seen, *texture, resource->resType);
        if (view) {
            require(resource->resType == CU_RESOURCE_TYPE_ARRAY ||
                    resource->resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY);
            set_view(seen, *view);
            object->view = *view;
            object->has_view = true;
        }
        object->resource = *resource;
        object->texture = *texture;
        object->seen = std::make_shared<ptx::Texture>(std::move(seen));
        *out = textures().add(std::move(object));
    });
}

CUresult cuTexObjectDestroy(CUtexObject handle) {
    return api([&] {
        current();
        if (textures().find(handle)) textures().remove(handle, CUDA_ERROR_INVALID_VALUE);
    });
}

CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC* out, CUtexObject handle) {
    return api([&] {
        require(out);
        *out = textures().get(handle, CUDA_ERROR_INVALID_VALUE)->resource;
    });
}

CUresult cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC* out, CUtexObject handle) {
    return api([&] {
        require(out);
        *out = textures().get(handle, CUDA_ERROR_INVALID_VALUE)->texture;
    });
}

CUresult cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC* out, CUtexObject handle) {
    return api([&] {
        require(out);
        auto object = textures().get(handle, CUDA_ERROR_INVALID_VALUE);
        require(object->has_view);
        *out = object->view;
    });
}

CUresult cuSurfObjectCreate(CUsurfObject* out, const CUDA_RESOURCE_DESC* resource) {
    return api([&] {
        require(out && resource && resource->resType == CU_RESOURCE_TYPE_ARRAY);
        auto object = std::make_shared<Object>();
        object->owner = current()->handle;
        require(array(resource->res.array.hArray)->descriptor.Flags & CUDA_ARRAY3D_SURFACE_LDST);
        object->seen = std::make_shared<ptx::Texture>(describe(*resource));
        object->resource = *resource;
        *out = surfaces().add(std::move(object));
    });
}

CUresult cuSurfObjectDestroy(CUsurfObject handle) {
    return api([&] {
        current();
        if (surfaces().find(handle)) surfaces().remove(handle, CUDA_ERROR_INVALID_VALUE);
    });
}

CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC* out, CUsurfObject handle) {
    return api([&] {
        require(out);
        *out = surfaces().get(handle, CUDA_ERROR_INVALID_VALUE)->resource;
    });
}

CUresult cuDeviceGetTexture1DLinearMaxWidth(size_t* out, CUarray_format format, unsigned channels,
                                            CUdevice dev) {
    return api([&] {
        require(out && (channels == 1 || channels == 2 || channels == 4));
        device(dev);
        channel_bytes(format);
        *out = size_t{1} << 27;
    });
}
