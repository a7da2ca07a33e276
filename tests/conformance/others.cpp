// SPDX-License-Identifier: MIT
// Kernels that sample, draw, print and assert; batches of copies; green contexts; launches by state; logs, core dumps.
#include <cstring>
#include <vector>

#include "conform.h"

extern "C" const unsigned char conform_textures[], conform_prints[];

CASE(sampled_textures) {
    constexpr int width = 32, height = 16;
    CUmodule module = nullptr;
    CUfunction sample = nullptr, draw = nullptr;
    NEED(cuModuleLoadData(&module, conform_textures));
    NEED(cuModuleGetFunction(&sample, module, "sample"));
    NEED(cuModuleGetFunction(&draw, module, "draw"));
    CUarray array = nullptr;
    CUDA_ARRAY3D_DESCRIPTOR wish{width, height, 0, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_SURFACE_LDST};
    NEED(cuArray3DCreate(&array, &wish));
    CUDA_RESOURCE_DESC resource{};
    resource.resType = CU_RESOURCE_TYPE_ARRAY;
    resource.res.array.hArray = array;
    CUsurfObject surface = 0;
    NEED(cuSurfObjectCreate(&surface, &resource));
    int w = width, h = height;
    void* drawing[] = {&surface, &w, &h};
    CHECK(cuLaunchKernel(draw, 4, 2, 1, 8, 8, 1, 0, nullptr, drawing, nullptr));
    CUdeviceptr memory = 0;
    NEED(cuMemAlloc(&memory, width * height * 4));
    for (CUfilter_mode filter : {CU_TR_FILTER_MODE_POINT, CU_TR_FILTER_MODE_LINEAR})
        for (CUaddress_mode address : {CU_TR_ADDRESS_MODE_CLAMP, CU_TR_ADDRESS_MODE_BORDER}) {
            CUDA_TEXTURE_DESC how{};
            how.filterMode = filter;
            for (CUaddress_mode& mode : how.addressMode) mode = address;
            CUtexObject texture = 0;
            CHECK(cuTexObjectCreate(&texture, &resource, &how, nullptr));
            void* parameters[] = {&memory, &texture, &w, &h};
            CHECK(cuLaunchKernel(sample, 4, 2, 1, 8, 8, 1, 0, nullptr, parameters, nullptr));
            std::vector<float> back(width * height);
            CHECK(cuMemcpyDtoH(back.data(), memory, back.size() * 4));
            conform::bytes("sampled", back.data(), back.size() * 4);
            CHECK(cuTexObjectDestroy(texture));
        }
    CHECK(cuSurfObjectDestroy(surface));
    CHECK(cuArrayDestroy(array));
    CHECK(cuMemFree(memory));
    CHECK(cuModuleUnload(module));
}

CASE(printing_kernels) {
    CUmodule module = nullptr;
    CUfunction speak = nullptr;
    NEED(cuModuleLoadData(&module, conform_prints));
    NEED(cuModuleGetFunction(&speak, module, "speak"));
    // The kernel's lines must lie between ours, so both go to the same descriptor without a buffer between.
    for (int number : {3, 4}) {
        conform::say("before");
        std::fflush(stdout);
        void* parameters[] = {&number};
        CHECK(cuLaunchKernel(speak, 1, 1, 1, 2, 1, 1, 0, nullptr, parameters, nullptr));
        CHECK(cuCtxSynchronize());
    }
}

CASE_ALONE(asserting_kernels) {
    CUmodule module = nullptr;
    CUfunction insist = nullptr;
    NEED(cuModuleLoadData(&module, conform_prints));
    NEED(cuModuleGetFunction(&insist, module, "insist"));
    int number = 5;
    void* parameters[] = {&number};
    CHECK(cuLaunchKernel(insist, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr));
    CHECK(cuCtxSynchronize());
    number = 6;
    CHECK(cuLaunchKernel(insist, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
    CHECK(cuCtxSynchronize());
    CHECK(cuCtxSynchronize());
    CUdeviceptr memory = 0;
    CHECK(cuMemAlloc(&memory, 16));
    CHECK(cuStreamQuery(nullptr));
}

CASE(batches_of_copies) {
    CUdeviceptr a = 0, b = 0;
    CUstream stream = nullptr;
    NEED(cuMemAlloc(&a, 4096));
    NEED(cuMemAlloc(&b, 4096));
    NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuMemsetD32(a, 0x12345678, 1024));
    CHECK(cuMemsetD8(b, 0, 4096));
    CHECK(cuCtxSynchronize());
    CUdeviceptr to[] = {b, b + 1024, b + 3000}, from[] = {a, a + 8, a + 1};
    size_t sizes[] = {100, 500, 33};
    CUmemcpyAttributes how{};
    how.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
    size_t of_copy = 0;
    NEED(cuMemcpyBatchAsync(to, from, sizes, 3, &how, &of_copy, 1, stream));
    CHECK(cuStreamSynchronize(stream));
    std::vector<unsigned char> back(4096);
    CHECK(cuMemcpyDtoH(back.data(), b, 4096));
    conform::bytes("copied", back.data(), 4096);
    CHECK(cuMemcpyBatchAsync(to, from, sizes, 0, &how, &of_copy, 1, stream));
    CHECK(cuMemcpyBatchAsync(to, from, sizes, 3, &how, &of_copy, 1, nullptr));
    CHECK(cuStreamDestroy(stream));
    CHECK(cuMemFree(a));
    CHECK(cuMemFree(b));
}

CASE_ALONE(green_contexts) {
    CUdevResource all{}, part[2]{}, rest{};
    NEED(cuDeviceGetDevResource(0, &all, CU_DEV_RESOURCE_TYPE_SM));
    VALUE(all.type);
    VALUE(all.sm.smCount);
    unsigned groups = 2;
    NEED(cuDevSmResourceSplitByCount(part, &groups, &all, &rest, 0, 16));
    VALUE(groups);
    VALUE(part[0].sm.smCount);
    VALUE(rest.sm.smCount);
    CUdevResourceDesc description = nullptr;
    CUgreenCtx green = nullptr;
    CHECK(cuDevResourceGenerateDesc(&description, part, 1));
    CHECK(cuGreenCtxCreate(&green, description, 0, 0));
    NEED(cuGreenCtxCreate(&green, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
    CUcontext context = nullptr;
    CHECK(cuCtxFromGreenCtx(&context, green));
    CUdevResource told{};
    CHECK(cuGreenCtxGetDevResource(green, &told, CU_DEV_RESOURCE_TYPE_SM));
    VALUE(told.sm.smCount);
    CUstream stream = nullptr;
    CHECK(cuGreenCtxStreamCreate(&stream, green, CU_STREAM_NON_BLOCKING, 0));
    CHECK(cuStreamSynchronize(stream));
    CUgreenCtx of_stream = nullptr;
    CHECK(cuStreamGetGreenCtx(stream, &of_stream));
    VALUE(of_stream == green);
    CHECK(cuStreamDestroy(stream));
    CHECK(cuGreenCtxDestroy(green));
    CHECK(cuGreenCtxDestroy(nullptr));
}

CASE(launch_by_state) {
    CUfunction fill = conform::kernel("fill");
    CUdeviceptr memory = 0;
    if (!fill) return;
    NEED(cuMemAlloc(&memory, 4096));
    CHECK(cuMemsetD8(memory, 0, 4096));
    NEED(cuFuncSetBlockShape(fill, 64, 1, 1));
    CHECK(cuFuncSetSharedSize(fill, 0));
    CHECK(cuParamSetSize(fill, 16));
    CHECK(cuParamSetv(fill, 0, &memory, 8));
    CHECK(cuParamSeti(fill, 8, 21));
    CHECK(cuParamSeti(fill, 12, 500));
    CHECK(cuLaunchGrid(fill, 8, 1));
    CHECK(cuLaunchGridAsync(fill, 8, 1, nullptr));
    CHECK(cuCtxSynchronize());
    std::vector<unsigned> back(1024);
    CHECK(cuMemcpyDtoH(back.data(), memory, 4096));
    conform::bytes("filled", back.data(), 4096);
    CHECK(cuFuncSetBlockShape(nullptr, 1, 1, 1));
    CHECK(cuMemFree(memory));
}

CASE(logs_and_core_dumps) {
    bool enabled = true;
    size_t size = sizeof enabled;
    CHECK(cuCoredumpGetAttributeGlobal(CU_COREDUMP_ENABLE_ON_EXCEPTION, &enabled, &size));
    VALUE(enabled);
    VALUE(size);
    CHECK(cuCoredumpGetAttribute(CU_COREDUMP_LIGHTWEIGHT, &enabled, &size));
    VALUE(enabled);
    CUlogIterator place = 0;
    NEED(cuLogsCurrent(&place, 0));
    CHECK(cuMemFree(0x1234));
    char text[4096] = "";
    size = sizeof text;
    CHECK(cuLogsDumpToMemory(&place, text, &size, 0));
    VALUE(std::strstr(text, "cuMemFree_v2") != nullptr);
    CHECK(cuLogsDumpToMemory(nullptr, nullptr, &size, 0));
    CHECK(cuLogsCurrent(nullptr, 0));
    CHECK(cuLogsCurrent(&place, 7));
}

CASE_ALONE(odds) {
    CHECK(cuFlushGPUDirectRDMAWrites(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX, CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER));
    CUmoduleLoadingMode mode{};
    CHECK(cuModuleGetLoadingMode(&mode));
    VALUE(mode);
    CHECK(cuCtxResetPersistingL2Cache());
}
