// SPDX-License-Identifier: MIT
// Arrays, mipmaps, texture and surface objects, tensor maps, texture references.
#include <vector>

#include "conform.h"

CASE(arrays) {
    CUarray array = nullptr;
    CUDA_ARRAY_DESCRIPTOR wish{64, 32, CU_AD_FORMAT_FLOAT, 1}, told{};
    CHECK(cuArrayCreate(nullptr, &wish));
    CHECK(cuArrayCreate(&array, nullptr));
    NEED(cuArrayCreate(&array, &wish));
    CHECK(cuArrayGetDescriptor(&told, array));
    VALUE(told.Width * 1000 + told.Height);
    VALUE(told.Format * 10 + told.NumChannels);
    std::vector<float> host(64 * 32), back(64 * 33);
    for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(i) / 3;
    CHECK(cuMemcpyHtoA(array, 0, host.data(), 64 * 4));
    CUDA_MEMCPY2D in{};
    in.srcMemoryType = CU_MEMORYTYPE_HOST;
    in.srcHost = host.data();
    in.srcPitch = 64 * 4;
    in.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    in.dstArray = array;
    in.WidthInBytes = 64 * 4;
    in.Height = 32;
    CHECK(cuMemcpy2D(&in));
    CHECK(cuMemcpyAtoH(back.data(), array, 0, 64 * 4));
    CHECK(cuMemcpyAtoH(back.data(), array, 1 << 20, 64 * 4));
    CUDA_MEMCPY2D out{};
    out.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    out.srcArray = array;
    out.dstMemoryType = CU_MEMORYTYPE_HOST;
    out.dstHost = back.data();
    out.dstPitch = 64 * 4;
    out.WidthInBytes = 64 * 4;
    out.Height = 32;
    CHECK(cuMemcpy2D(&out));
    conform::bytes("array", back.data(), back.size() * 4);
    out.Height = 33;
    CHECK(cuMemcpy2D(&out));
    conform::bytes("after a refused copy", back.data(), back.size() * 4);
    CUDA_ARRAY_MEMORY_REQUIREMENTS needs{};
    CHECK(cuArrayGetMemoryRequirements(&needs, array, 0));
    CHECK(cuArrayDestroy(array));
    CHECK(cuArrayDestroy(nullptr));
    wish.NumChannels = 3;
    CHECK(cuArrayCreate(&array, &wish));
    wish = {0, 0, CU_AD_FORMAT_FLOAT, 1};
    CHECK(cuArrayCreate(&array, &wish));
    wish = {16, 0, static_cast<CUarray_format>(0x7777), 1};
    CHECK(cuArrayCreate(&array, &wish));
    for (unsigned flags : {0u, unsigned{CUDA_ARRAY3D_LAYERED}, unsigned{CUDA_ARRAY3D_CUBEMAP}, unsigned{CUDA_ARRAY3D_SURFACE_LDST}, 0x80000u}) {
        CUDA_ARRAY3D_DESCRIPTOR deep{16, 16, 6, CU_AD_FORMAT_UNSIGNED_INT8, 4, flags}, seen{};
        if (CHECK(cuArray3DCreate(&array, &deep)) != CUDA_SUCCESS) continue;
        CHECK(cuArray3DGetDescriptor(&seen, array));
        VALUE(seen.Depth);
        VALUE(seen.Flags);
        CHECK(cuArrayDestroy(array));
    }
    CUmipmappedArray pyramid = nullptr;
    CUDA_ARRAY3D_DESCRIPTOR base{64, 64, 0, CU_AD_FORMAT_HALF, 2, 0};
    CHECK(cuMipmappedArrayCreate(&pyramid, &base, 0));
    NEED(cuMipmappedArrayCreate(&pyramid, &base, 4));
    CHECK(cuMipmappedArrayGetLevel(&array, pyramid, 2));
    CHECK(cuArrayGetDescriptor(&told, array));
    VALUE(told.Width);
    CHECK(cuMipmappedArrayGetLevel(&array, pyramid, 9));
    CHECK(cuMipmappedArrayDestroy(pyramid));
}

CASE(texture_objects) {
    CUarray array = nullptr;
    CUDA_ARRAY3D_DESCRIPTOR wish{32, 32, 0, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_SURFACE_LDST};
    NEED(cuArray3DCreate(&array, &wish));
    CUDA_RESOURCE_DESC resource{}, told{};
    resource.resType = CU_RESOURCE_TYPE_ARRAY;
    resource.res.array.hArray = array;
    CUDA_TEXTURE_DESC how{}, told_how{};
    how.addressMode[0] = how.addressMode[1] = CU_TR_ADDRESS_MODE_WRAP;
    how.filterMode = CU_TR_FILTER_MODE_LINEAR;
    how.flags = CU_TRSF_NORMALIZED_COORDINATES;
    CUtexObject texture = 0;
    CHECK(cuTexObjectCreate(nullptr, &resource, &how, nullptr));
    CHECK(cuTexObjectCreate(&texture, nullptr, &how, nullptr));
    CHECK(cuTexObjectCreate(&texture, &resource, nullptr, nullptr));
    NEED(cuTexObjectCreate(&texture, &resource, &how, nullptr));
    CHECK(cuTexObjectGetResourceDesc(&told, texture));
    VALUE(told.resType);
    VALUE(told.res.array.hArray == array);
    CHECK(cuTexObjectGetTextureDesc(&told_how, texture));
    VALUE(told_how.filterMode);
    VALUE(told_how.addressMode[1]);
    VALUE(told_how.flags);
    CUDA_RESOURCE_VIEW_DESC view{};
    CHECK(cuTexObjectGetResourceViewDesc(&view, texture));
    CHECK(cuTexObjectDestroy(texture));
    CHECK(cuTexObjectDestroy(0));
    CUsurfObject surface = 0;
    CHECK(cuSurfObjectCreate(&surface, &resource));
    CHECK(cuSurfObjectGetResourceDesc(&told, surface));
    VALUE(told.resType);
    CHECK(cuSurfObjectDestroy(surface));
    CUdeviceptr memory = 0;
    CHECK(cuMemAlloc(&memory, 4096));
    resource = {};
    resource.resType = CU_RESOURCE_TYPE_LINEAR;
    resource.res.linear.devPtr = memory;
    resource.res.linear.format = CU_AD_FORMAT_FLOAT;
    resource.res.linear.numChannels = 1;
    resource.res.linear.sizeInBytes = 4096;
    how = {};
    CHECK(cuTexObjectCreate(&texture, &resource, &how, nullptr));
    CHECK(cuTexObjectDestroy(texture));
    resource.res.linear.devPtr = memory + 4;
    CHECK(cuTexObjectCreate(&texture, &resource, &how, nullptr));
    CHECK(cuSurfObjectCreate(&surface, &resource));
    resource.resType = CU_RESOURCE_TYPE_PITCH2D;
    resource.res.pitch2D = {memory, CU_AD_FORMAT_FLOAT, 1, 16, 16, 128};
    CHECK(cuTexObjectCreate(&texture, &resource, &how, nullptr));
    CHECK(cuTexObjectDestroy(texture));
    CHECK(cuMemFree(memory));
    CHECK(cuArrayDestroy(array));
}

CASE(tensor_maps) {
    CUdeviceptr memory = 0;
    NEED(cuMemAlloc(&memory, 1 << 16));
    CUtensorMap map{};
    const cuuint64_t sizes[] = {64, 64}, strides[] = {256}, odd[] = {100};
    const cuuint32_t box[] = {32, 8}, steps[] = {1, 1};
    CHECK(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, reinterpret_cast<void*>(memory), sizes, strides, box, steps,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
    CHECK(cuTensorMapReplaceAddress(&map, reinterpret_cast<void*>(memory + 4096)));
    CHECK(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, reinterpret_cast<void*>(memory), sizes, odd, box, steps,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
    CHECK(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 9, reinterpret_cast<void*>(memory), sizes, strides, box, steps,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
    CHECK(cuMemFree(memory));
}

CASE(texture_references) {
    CUtexref reference = nullptr;
    NEED(cuTexRefCreate(&reference));
    CHECK(cuTexRefSetFormat(reference, CU_AD_FORMAT_FLOAT, 1));
    CHECK(cuTexRefSetFilterMode(reference, CU_TR_FILTER_MODE_LINEAR));
    CHECK(cuTexRefSetAddressMode(reference, 0, CU_TR_ADDRESS_MODE_CLAMP));
    CHECK(cuTexRefSetFlags(reference, CU_TRSF_READ_AS_INTEGER));
    CUfilter_mode filter{};
    CHECK(cuTexRefGetFilterMode(&filter, reference));
    VALUE(filter);
    unsigned flags = 0;
    CHECK(cuTexRefGetFlags(&flags, reference));
    VALUE(flags);
    CUarray_format format{};
    int channels = 0;
    CHECK(cuTexRefGetFormat(&format, &channels, reference));
    VALUE(format * 10 + channels);
    CHECK(cuTexRefDestroy(reference));
}
