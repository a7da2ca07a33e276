// SPDX-License-Identifier: MIT
// Texture and surface references, obsolete: they keep what they are told. No PTX that nvcc still makes has
// any, so none is ever found in a module, and nothing is read through them.
#include <algorithm>
#include <array>

#include "array.h"

namespace softgpu {
namespace {

struct TextureReference {
    CUarray array = nullptr;
    CUmipmappedArray mipmap = nullptr;
    CUdeviceptr address = 0;
    CUarray_format format = CU_AD_FORMAT_FLOAT;
    int channels = 1;
    std::array<CUaddress_mode, 3> modes = {CU_TR_ADDRESS_MODE_CLAMP, CU_TR_ADDRESS_MODE_CLAMP,
                                           CU_TR_ADDRESS_MODE_CLAMP};
    CUfilter_mode filter = CU_TR_FILTER_MODE_POINT, mip_filter = CU_TR_FILTER_MODE_POINT;
    float bias = 0, min_level = 0, max_level = 0;
    unsigned anisotropy = 1, flags = 0;
    std::array<float, 4> border = {};
};

using TextureReferences = Registry<TextureReference, CUtexref, 0x7c14>;
TextureReferences& references() {
    return immortal<TextureReferences>();
}

template <typename Body>
CUresult with(CUtexref handle, Body body) {
    return api([&] {
        current();
        body(*references().get(handle, CUDA_ERROR_INVALID_VALUE));
    });
}

template <typename T>
CUresult get(CUtexref handle, T* out, T TextureReference::*member) {
    return with(handle, [&](auto& of) {
        require(out);
        *out = of.*member;
    });
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuModuleGetTexRef(CUtexref*, CUmodule, const char*) {
    return api([&] { fail(CUDA_ERROR_NOT_FOUND); });
}
CUresult cuModuleGetSurfRef(CUsurfref*, CUmodule, const char*) {
    return api([&] { fail(CUDA_ERROR_NOT_FOUND); });
}

CUresult cuTexRefCreate(CUtexref* out) {
    return api([&] {
        require(out);
        current();
        *out = references().add(std::make_shared<TextureReference>());
    });
}
CUresult cuTexRefDestroy(CUtexref handle) {
    return api([&] { references().remove(handle, CUDA_ERROR_INVALID_VALUE); });
}

CUresult cuTexRefSetArray(CUtexref handle, CUarray of, unsigned flags) {
    return with(handle, [&](auto& r) {
        require(flags == CU_TRSA_OVERRIDE_FORMAT);
        auto& descriptor = array(of)->descriptor;
        r.array = of;
        r.mipmap = nullptr;
        r.address = 0;
        r.format = descriptor.Format;
        r.channels = static_cast<int>(descriptor.NumChannels);
    });
}
CUresult cuTexRefSetMipmappedArray(CUtexref handle, CUmipmappedArray of, unsigned flags) {
    return with(handle, [&](auto& r) {
        require(flags == CU_TRSA_OVERRIDE_FORMAT);
        mipmapped_arrays().get(of);
        r.mipmap = of;
        r.array = nullptr;
        r.address = 0;
    });
}
CUresult cuTexRefSetAddress_v2(size_t* offset, CUtexref handle, CUdeviceptr address, size_t) {
    return with(handle, [&](auto& r) {
        require(offset || address % 512 == 0);
        if (offset) *offset = address % 512;
        r.address = address;
        r.array = nullptr;
    });
}
CUresult cuTexRefSetAddress2D_v3(CUtexref handle, const CUDA_ARRAY_DESCRIPTOR* descriptor,
                                 CUdeviceptr address, size_t pitch) {
    return with(handle, [&](auto& r) {
        require(descriptor && address % 512 == 0 && pitch % 32 == 0);
        r.address = address;
        r.array = nullptr;
        r.format = descriptor->Format;
        r.channels = static_cast<int>(descriptor->NumChannels);
    });
}
CUresult cuTexRefSetFormat(CUtexref handle, CUarray_format format, int channels) {
    return with(handle, [&](auto& r) {
        channel_bytes(format);
        require(channels == 1 || channels == 2 || channels == 4);
        r.format = format;
        r.channels = channels;
    });
}
CUresult cuTexRefSetAddressMode(CUtexref handle, int dimension, CUaddress_mode mode) {
    return with(handle, [&](auto& r) {
        require(dimension >= 0 && dimension < 3 && mode <= CU_TR_ADDRESS_MODE_BORDER);
        r.modes[static_cast<size_t>(dimension)] = mode;
    });
}
CUresult cuTexRefSetFilterMode(CUtexref handle, CUfilter_mode mode) {
    return with(handle, [&](auto& r) {
        require(mode <= CU_TR_FILTER_MODE_LINEAR);
        r.filter = mode;
    });
}
CUresult cuTexRefSetMipmapFilterMode(CUtexref handle, CUfilter_mode mode) {
    return with(handle, [&](auto& r) {
        require(mode <= CU_TR_FILTER_MODE_LINEAR);
        r.mip_filter = mode;
    });
}
CUresult cuTexRefSetMipmapLevelBias(CUtexref handle, float bias) {
    return with(handle, [&](auto& r) { r.bias = bias; });
}
CUresult cuTexRefSetMipmapLevelClamp(CUtexref handle, float least, float most) {
    return with(handle, [&](auto& r) { r.min_level = least, r.max_level = most; });
}
CUresult cuTexRefSetMaxAnisotropy(CUtexref handle, unsigned value) {
    return with(handle, [&](auto& r) { r.anisotropy = value; });
}
CUresult cuTexRefSetBorderColor(CUtexref handle, float* color) {
    return with(handle, [&](auto& r) {
        require(color);
        std::copy_n(color, 4, r.border.begin());
    });
}
CUresult cuTexRefSetFlags(CUtexref handle, unsigned flags) {
    return with(handle, [&](auto& r) { r.flags = flags; });
}

CUresult cuTexRefGetAddress_v2(CUdeviceptr* out, CUtexref handle) {
    return with(handle, [&](auto& r) {
        require(out && r.address);
        *out = r.address;
    });
}
CUresult cuTexRefGetArray(CUarray* out, CUtexref handle) {
    return with(handle, [&](auto& r) {
        require(out && r.array);
        *out = r.array;
    });
}
CUresult cuTexRefGetMipmappedArray(CUmipmappedArray* out, CUtexref handle) {
    return with(handle, [&](auto& r) {
        require(out && r.mipmap);
        *out = r.mipmap;
    });
}
CUresult cuTexRefGetAddressMode(CUaddress_mode* out, CUtexref handle, int dimension) {
    return with(handle, [&](auto& r) {
        require(out && dimension >= 0 && dimension < 3);
        *out = r.modes[static_cast<size_t>(dimension)];
    });
}
CUresult cuTexRefGetFilterMode(CUfilter_mode* out, CUtexref handle) {
    return get(handle, out, &TextureReference::filter);
}
CUresult cuTexRefGetMipmapFilterMode(CUfilter_mode* out, CUtexref handle) {
    return get(handle, out, &TextureReference::mip_filter);
}
CUresult cuTexRefGetMipmapLevelBias(float* out, CUtexref handle) {
    return get(handle, out, &TextureReference::bias);
}
CUresult cuTexRefGetFlags(unsigned* out, CUtexref handle) {
    return get(handle, out, &TextureReference::flags);
}
CUresult cuTexRefGetFormat(CUarray_format* format, int* channels, CUtexref handle) {
    return with(handle, [&](auto& r) {
        if (format) *format = r.format;
        if (channels) *channels = r.channels;
    });
}
CUresult cuTexRefGetMipmapLevelClamp(float* least, float* most, CUtexref handle) {
    return with(handle, [&](auto& r) {
        require(least && most);
        *least = r.min_level, *most = r.max_level;
    });
}
CUresult cuTexRefGetMaxAnisotropy(int* out, CUtexref handle) {
    return with(handle, [&](auto& r) {
        require(out);
        *out = static_cast<int>(r.anisotropy);
    });
}
CUresult cuTexRefGetBorderColor(float* out, CUtexref handle) {
    return with(handle, [&](auto& r) {
        require(out);
        std::copy_n(r.border.begin(), 4, out);
    });
}
