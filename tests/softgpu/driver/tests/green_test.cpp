// SPDX-License-Identifier: MIT
// Green contexts: resources, what they share with the primary context, where their kernels run.
#include "fixture.h"

#include <bit>

namespace {

class Green : public Gpu {
  protected:
    uint64_t seen(CUstream stream) {
        write<uint64_t>(memory, 0);
        void* params[] = {&memory};
        EXPECT_OK(cuLaunchKernel(kernel, 64, 1, 1, 32, 1, 1, 0, stream, params, nullptr));
        EXPECT_OK(cuStreamSynchronize(stream));
        return read<uint64_t>(memory);
    }
    void SetUp() override {
        Gpu::SetUp();
        kernel = function(load(), "multiprocessors");
        memory = allocate(8);
        ASSERT_OK(cuDeviceGetDevResource(device, &all, CU_DEV_RESOURCE_TYPE_SM));
    }
    CUgreenCtx make(std::vector<CUdevResource> of) {
        CUdevResourceDesc desc = nullptr;
        CUgreenCtx green = nullptr;
        EXPECT_OK(cuDevResourceGenerateDesc(&desc, of.data(), static_cast<unsigned>(of.size())));
        EXPECT_OK(cuGreenCtxCreate(&green, desc, device, CU_GREEN_CTX_DEFAULT_STREAM));
        return green;
    }

    CUfunction kernel = nullptr;
    CUdeviceptr memory = 0;
    CUdevResource all{};
};

TEST_F(Green, ResourcesSplit) {
    EXPECT_EQ(all.sm.smCount, 8u);
    unsigned groups = 0;
    EXPECT_OK(cuDevSmResourceSplitByCount(nullptr, &groups, &all, nullptr, 0, 3));
    EXPECT_EQ(groups, 2u);
    CUdevResource parts[3], rest, again[1];
    groups = 3;
    EXPECT_OK(cuDevSmResourceSplitByCount(parts, &groups, &all, &rest, 0, 2));
    EXPECT_EQ(groups, 3u);
    EXPECT_EQ(parts[0].sm.smCount, 2u);
    EXPECT_EQ(rest.sm.smCount, 2u);
    groups = 1;
    EXPECT_CU(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, cuDevSmResourceSplitByCount(again, &groups, &parts[0], nullptr, 0, 2));
    EXPECT_OK(cuDevSmResourceSplitByCount(again, &groups, &all, nullptr, 0, 2));
    CUdevResourceDesc desc;
    CUdevResource mixed[] = {again[0], parts[1]};
    EXPECT_CU(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, cuDevResourceGenerateDesc(&desc, mixed, 2));
    EXPECT_CU(CUDA_ERROR_INVALID_RESOURCE_TYPE, cuDeviceGetDevResource(device, &rest, static_cast<CUdevResourceType>(7)));
}

TEST_F(Green, KernelsRunOnItsMultiprocessors) {
    CUdevResource parts[2], rest;
    unsigned groups = 2;
    ASSERT_OK(cuDevSmResourceSplitByCount(parts, &groups, &all, &rest, 0, 2));
    CUgreenCtx first = make({parts[0]}), second = make({parts[1], rest});
    CUcontext green = nullptr, now = nullptr;
    ASSERT_OK(cuCtxFromGreenCtx(&green, first));
    EXPECT_EQ(std::popcount(seen(nullptr)), 8);
    CUstream stream = nullptr, own = nullptr;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGreenCtxStreamCreate(&stream, second, 0, 0));
    ASSERT_OK(cuGreenCtxStreamCreate(&stream, second, CU_STREAM_NON_BLOCKING, 0));
    const uint64_t of_second = seen(stream);
    ASSERT_OK(cuCtxSetCurrent(green));
    EXPECT_OK(cuCtxGetCurrent(&now));
    EXPECT_EQ(now, green);
    const uint64_t of_first = seen(nullptr);
    ASSERT_OK(cuStreamCreate(&own, CU_STREAM_NON_BLOCKING));
    EXPECT_EQ(seen(own), of_first);
    EXPECT_EQ(std::popcount(of_first), 2);
    EXPECT_EQ(std::popcount(of_second), 6);
    EXPECT_EQ(of_first & of_second, 0u);
    CUcontext of = nullptr;
    CUgreenCtx which = nullptr;
    EXPECT_OK(cuStreamGetCtx_v2(stream, &of, &which));
    EXPECT_EQ(of, context);
    EXPECT_EQ(which, second);
    EXPECT_OK(cuStreamGetCtx(own, &of));
    EXPECT_EQ(of, green);
    CUdevResource has;
    EXPECT_OK(cuGreenCtxGetDevResource(second, &has, CU_DEV_RESOURCE_TYPE_SM));
    EXPECT_EQ(has.sm.smCount, 6u);
    EXPECT_OK(cuCtxGetDevResource(green, &has, CU_DEV_RESOURCE_TYPE_SM));
    EXPECT_EQ(has.sm.smCount, 2u);
    CUevent event = nullptr;
    ASSERT_OK(cuEventCreate(&event, 0));
    EXPECT_OK(cuGreenCtxRecordEvent(second, event));
    EXPECT_OK(cuGreenCtxWaitEvent(first, event));
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_OK(cuEventQuery(event));
    EXPECT_OK(cuCtxSetCurrent(context));
    EXPECT_OK(cuGreenCtxDestroy(first));
    EXPECT_CU(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuStreamQuery(own));
    EXPECT_CU(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuGreenCtxDestroy(first));
    EXPECT_OK(cuCtxSetCurrent(green));
    CUdeviceptr none = 0;
    EXPECT_CU(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuMemAlloc(&none, 16));
    EXPECT_OK(cuCtxSetCurrent(context));
    EXPECT_EQ(seen(stream), of_second);
    EXPECT_OK(cuGreenCtxDestroy(second));
}

TEST_F(Green, HoldsThePrimaryContext) {
    CUdevResource parts[1];
    unsigned groups = 1;
    ASSERT_OK(cuDevSmResourceSplitByCount(parts, &groups, &all, nullptr, 0, 2));
    CUgreenCtx green = make({parts[0]});
    CUcontext inside = nullptr, owner = nullptr;
    CUdeviceptr made = 0;
    ASSERT_OK(cuCtxFromGreenCtx(&inside, green));
    ASSERT_OK(cuCtxSetCurrent(inside));
    ASSERT_OK(cuMemAlloc(&made, 8));
    EXPECT_OK(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, made));
    EXPECT_EQ(owner, context);
    EXPECT_CU(CUDA_ERROR_NOT_PERMITTED, cuDevicePrimaryCtxReset(device));
    EXPECT_OK(cuDevicePrimaryCtxRelease(device));
    EXPECT_CU(CUDA_ERROR_NOT_PERMITTED, cuDevicePrimaryCtxRelease(device));
    unsigned flags = 0;
    int active = 0;
    EXPECT_OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
    EXPECT_EQ(active, 1);
    EXPECT_OK(cuMemFree(made));
    EXPECT_OK(cuGreenCtxDestroy(green));
    EXPECT_OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
    EXPECT_EQ(active, 0);
    ASSERT_OK(cuDevicePrimaryCtxRetain(&context, device));
    ASSERT_OK(cuCtxSetCurrent(context));
}

}  // namespace
