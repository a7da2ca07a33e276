// SPDX-License-Identifier: MIT
#include <array>
#include <numeric>

#include "fixture.h"

class Arrays : public Gpu {
  protected:
    void SetUp() override {
        Gpu::SetUp();
        module = load("textures.ptx");
    }

    CUarray make(size_t width, size_t height, size_t depth = 0, unsigned flags = 0,
                 CUarray_format format = CU_AD_FORMAT_FLOAT, unsigned channels = 1) {
        CUDA_ARRAY3D_DESCRIPTOR d = {width, height, depth, format, channels, flags};
        CUarray made = nullptr;
        EXPECT_OK(cuArray3DCreate(&made, &d));
        return made;
    }

    // Element i is i.
    std::vector<float> fill(CUarray array, size_t width, size_t height, size_t depth = 1) {
        std::vector<float> values(width * height * depth);
        std::iota(values.begin(), values.end(), 0.0f);
        CUDA_MEMCPY3D p = {};
        p.srcMemoryType = CU_MEMORYTYPE_HOST;
        p.srcHost = values.data();
        p.srcPitch = width * 4;
        p.srcHeight = height;
        p.dstMemoryType = CU_MEMORYTYPE_ARRAY;
        p.dstArray = array;
        p.WidthInBytes = width * 4;
        p.Height = height;
        p.Depth = depth;
        EXPECT_OK(cuMemcpy3D(&p));
        return values;
    }

    CUtexObject texture(CUarray array, CUfilter_mode filter = CU_TR_FILTER_MODE_POINT,
                        CUaddress_mode mode = CU_TR_ADDRESS_MODE_CLAMP, unsigned flags = 0) {
        CUDA_RESOURCE_DESC resource = {};
        resource.resType = CU_RESOURCE_TYPE_ARRAY;
        resource.res.array.hArray = array;
        return texture(resource, filter, mode, flags);
    }

    CUtexObject texture(const CUDA_RESOURCE_DESC& resource, CUfilter_mode filter, CUaddress_mode mode,
                        unsigned flags) {
        CUDA_TEXTURE_DESC sampler = {};
        for (auto& one : sampler.addressMode) one = mode;
        sampler.filterMode = filter;
        sampler.flags = flags;
        sampler.maxMipmapLevelClamp = 10;
        CUtexObject made = 0;
        EXPECT_OK(cuTexObjectCreate(&made, &resource, &sampler, nullptr));
        return made;
    }

    template <typename Place, typename Out = float>
    std::vector<Out> sample(const char* kernel, CUtexObject object, const std::vector<Place>& places) {
        auto at = allocate(places.size() * sizeof(Place)), out = allocate(places.size() * sizeof(Out));
        EXPECT_OK(cuMemcpyHtoD(at, places.data(), places.size() * sizeof(Place)));
        EXPECT_OK(
            launch(function(module, kernel), nullptr, static_cast<unsigned>(places.size()), object, at, out));
        std::vector<Out> result(places.size());
        EXPECT_OK(cuMemcpyDtoH(result.data(), out, result.size() * sizeof(Out)));
        return result;
    }

    CUmodule module = nullptr;
    using Floats = std::vector<float>;
    struct Two {
        float x, y;
    };
    struct Four {
        float x, y, z, w;
    };
};

TEST_F(Arrays, DescribeThemselvesAndCopy) {
    auto array = make(4, 3);
    CUDA_ARRAY_DESCRIPTOR flat = {};
    EXPECT_OK(cuArrayGetDescriptor(&flat, array));
    EXPECT_EQ(flat.Height, 3u);
    auto values = fill(array, 4, 3);
    std::vector<float> back(12);
    CUDA_MEMCPY2D p = {};
    p.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    p.srcArray = array;
    p.srcXInBytes = 4;
    p.srcY = 1;
    p.dstMemoryType = CU_MEMORYTYPE_HOST;
    p.dstHost = back.data();
    p.dstPitch = 8;
    p.WidthInBytes = 8;
    p.Height = 2;
    EXPECT_OK(cuMemcpy2D(&p));
    EXPECT_EQ(Floats(back.begin(), back.begin() + 4), (Floats{5, 6, 9, 10}));
    p.srcXInBytes = 12;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(&p));
    auto other = make(4, 3);
    EXPECT_OK(cuMemcpyAtoA(other, 0, array, 16, 32));
    EXPECT_OK(cuMemcpyAtoH(back.data(), other, 0, 32));
    EXPECT_EQ(back[7], 11);
    EXPECT_OK(cuArrayDestroy(array));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuArrayDestroy(array));
    CUDA_ARRAY3D_DESCRIPTOR bad = {0, 0, 0, CU_AD_FORMAT_FLOAT, 1, 0};
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuArray3DCreate(&array, &bad));
    bad = {4, 0, 0, CU_AD_FORMAT_FLOAT, 3, 0};
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuArray3DCreate(&array, &bad));
}

TEST_F(Arrays, PointsAndAddressModes) {
    auto array = make(4, 0);
    fill(array, 4, 1);
    EXPECT_EQ(sample("sample_1d", texture(array), Floats{0, 1.9f, 3.5f, -2, 7}), (Floats{0, 1, 3, 0, 3}));
    auto wrap =
        texture(array, CU_TR_FILTER_MODE_POINT, CU_TR_ADDRESS_MODE_WRAP, CU_TRSF_NORMALIZED_COORDINATES);
    EXPECT_EQ(sample("sample_1d", wrap, Floats{0.3f, 1.3f, -0.1f}), (Floats{1, 1, 3}));
    auto mirror =
        texture(array, CU_TR_FILTER_MODE_POINT, CU_TR_ADDRESS_MODE_MIRROR, CU_TRSF_NORMALIZED_COORDINATES);
    EXPECT_EQ(sample("sample_1d", mirror, Floats{1.1f, -0.1f, 2.1f}), (Floats{3, 0, 0}));
    auto border = texture(array, CU_TR_FILTER_MODE_POINT, CU_TR_ADDRESS_MODE_BORDER);
    EXPECT_EQ(sample("sample_1d", border, Floats{2.5f, 4.5f, -0.5f}), (Floats{2, 0, 0}));
}

TEST_F(Arrays, LinearFilter) {
    auto array = make(4, 4);
    fill(array, 4, 4);
    auto object = texture(array, CU_TR_FILTER_MODE_LINEAR);
    EXPECT_EQ(
        sample("sample_2d", object, std::vector<Two>{{0.5f, 0.5f}, {1, 0.5f}, {1, 1}, {0, 0}, {2.25f, 3.5f}}),
        (Floats{0, 0.5f, 2.5f, 0, 13.75f}));
    auto cube = make(2, 2, 2);
    fill(cube, 2, 2, 2);
    EXPECT_EQ(sample("sample_3d", texture(cube, CU_TR_FILTER_MODE_LINEAR),
                     std::vector<Four>{{1, 1, 1, 0}, {0.5f, 0.5f, 1.5f, 0}}),
              (Floats{3.5f, 4}));
    auto out = allocate(16);
    EXPECT_OK(launch(function(module, "gather"), nullptr, 1, object, out));
    auto four = read<Four>(out);
    EXPECT_EQ((Floats{four.x, four.y, four.z, four.w}), (Floats{9, 10, 6, 5}));
}

TEST_F(Arrays, BytesAreFractionsUnlessReadAsIntegers) {
    auto array = make(2, 1, 0, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4);
    unsigned char bytes[8] = {255, 51, 0, 102, 1, 2, 3, 4};
    EXPECT_OK(cuMemcpyHtoA(array, 0, bytes, 8));
    EXPECT_EQ(sample("sample_2d", texture(array), std::vector<Two>{{0, 0}}), (Floats{1}));
    auto whole = texture(array, CU_TR_FILTER_MODE_POINT, CU_TR_ADDRESS_MODE_CLAMP, CU_TRSF_READ_AS_INTEGER);
    using Bytes = std::array<unsigned char, 4>;
    EXPECT_EQ((sample<Two, Bytes>("sample_bytes", whole, {{1.5f, 0}})[0]), (Bytes{1, 2, 3, 4}));
    CUDA_RESOURCE_DESC resource = {};
    resource.res.array.hArray = array;
    CUDA_TEXTURE_DESC sampler = {};
    sampler.filterMode = CU_TR_FILTER_MODE_LINEAR;
    sampler.flags = CU_TRSF_READ_AS_INTEGER;
    CUtexObject none = 0;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuTexObjectCreate(&none, &resource, &sampler, nullptr));
}

TEST_F(Arrays, LinearMemoryAndPitch) {
    auto memory = allocate(4096);
    Floats values(64);
    std::iota(values.begin(), values.end(), 0.0f);
    EXPECT_OK(cuMemcpyHtoD(memory, values.data(), 256));
    CUDA_RESOURCE_DESC resource = {};
    resource.resType = CU_RESOURCE_TYPE_LINEAR;
    resource.res.linear = {memory, CU_AD_FORMAT_FLOAT, 1, 256};
    auto line = texture(resource, CU_TR_FILTER_MODE_POINT, CU_TR_ADDRESS_MODE_CLAMP, 0);
    EXPECT_EQ(sample("fetch", line, std::vector<int>{5, 63, 64, -1}), (Floats{5, 63, 0, 0}));
    resource.resType = CU_RESOURCE_TYPE_PITCH2D;
    resource.res.pitch2D = {memory, CU_AD_FORMAT_FLOAT, 1, 5, 8, 32};
    auto flat = texture(resource, CU_TR_FILTER_MODE_POINT, CU_TR_ADDRESS_MODE_CLAMP, 0);
    EXPECT_EQ(sample("sample_2d", flat, std::vector<Two>{{2, 3}, {9, 1}}), (Floats{26, 12}));
    EXPECT_OK(cuMemFree(memory));
}

TEST_F(Arrays, LayersFacesAndLevels) {
    auto layers = make(2, 2, 3, CUDA_ARRAY3D_LAYERED);
    fill(layers, 2, 2, 3);
    EXPECT_EQ(sample("sample_layer", texture(layers), std::vector<Two>{{0, 0}, {1, 0}, {1, 1}, {0, 0}}),
              (Floats{0, 5, 11, 8}));
    auto cube = make(1, 1, 6, CUDA_ARRAY3D_CUBEMAP);
    fill(cube, 1, 1, 6);
    EXPECT_EQ(
        sample("sample_cube", texture(cube),
               std::vector<Four>{
                   {1, 0, 0, 0}, {-1, 0, 0, 0}, {0, 2, 1, 0}, {0, -1, 0, 0}, {0, 0, 1, 0}, {0, 0, -3, 0}}),
        (Floats{0, 1, 2, 3, 4, 5}));

    CUDA_ARRAY3D_DESCRIPTOR d = {4, 4, 0, CU_AD_FORMAT_FLOAT, 1, 0};
    CUmipmappedArray mip = nullptr;
    EXPECT_OK(cuMipmappedArrayCreate(&mip, &d, 9));
    CUarray level = nullptr;
    for (unsigned i = 0; i < 3; ++i) {
        EXPECT_OK(cuMipmappedArrayGetLevel(&level, mip, i));
        Floats values(16 >> (2 * i), static_cast<float>(i * 10));
        EXPECT_OK(cuMemcpyHtoA(level, 0, values.data(), values.size() * 4));
    }
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMipmappedArrayGetLevel(&level, mip, 3));
    CUDA_RESOURCE_DESC resource = {};
    resource.resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY;
    resource.res.mipmap.hMipmappedArray = mip;
    CUDA_TEXTURE_DESC sampler = {};
    sampler.flags = CU_TRSF_NORMALIZED_COORDINATES;
    sampler.maxMipmapLevelClamp = 9;
    CUtexObject object = 0;
    EXPECT_OK(cuTexObjectCreate(&object, &resource, &sampler, nullptr));
    EXPECT_EQ(sample("sample_level", object, Floats{0, 1, 1.6f, 5}), (Floats{0, 10, 20, 20}));
    sampler.mipmapFilterMode = CU_TR_FILTER_MODE_LINEAR;
    EXPECT_OK(cuTexObjectCreate(&object, &resource, &sampler, nullptr));
    EXPECT_EQ(sample("sample_level", object, Floats{0.5f, 1.25f}), (Floats{5, 12.5f}));
    EXPECT_OK(cuMipmappedArrayDestroy(mip));
}

TEST_F(Arrays, Surfaces) {
    auto array = make(4, 2, 0, CUDA_ARRAY3D_SURFACE_LDST);
    fill(array, 4, 2);
    CUDA_RESOURCE_DESC resource = {};
    resource.res.array.hArray = array;
    CUsurfObject surface = 0;
    EXPECT_OK(cuSurfObjectCreate(&surface, &resource));
    void* params[] = {&surface};
    EXPECT_OK(cuLaunchKernel(function(module, "add_one"), 1, 1, 1, 4, 2, 1, 0, nullptr, params, nullptr));
    Floats back(8);
    EXPECT_OK(cuMemcpyAtoH(back.data(), array, 0, 32));
    EXPECT_EQ(back, (Floats{1, 2, 3, 4, 5, 6, 7, 8}));
    auto out = allocate(8);
    EXPECT_OK(launch(function(module, "read_outside"), nullptr, 1, surface, out));
    EXPECT_EQ(read<float>(out), 0);
    EXPECT_EQ(read<float>(out + 4), 1);
    resource.res.array.hArray = make(4, 2);
    CUsurfObject none = 0;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuSurfObjectCreate(&none, &resource));
    EXPECT_OK(launch(function(module, "trap_outside"), nullptr, 1, surface));
    EXPECT_CU(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
}

TEST_F(Arrays, Batches) {
    CUstream stream;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    auto a = allocate(64), b = allocate(64);
    write(a, 7);
    CUdeviceptr to[] = {b, b + 8}, from[] = {a, a};
    size_t sizes[] = {4, 4}, first = 0;
    CUmemcpyAttributes attributes = {};
    attributes.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
    EXPECT_OK(cuMemcpyBatchAsync(to, from, sizes, 2, &attributes, &first, 1, stream));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT_EQ(read<int>(b + 8), 7);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
              cuMemcpyBatchAsync(to, from, sizes, 2, &attributes, &first, 1, nullptr));
}
