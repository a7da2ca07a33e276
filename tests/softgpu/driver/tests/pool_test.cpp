// SPDX-License-Identifier: MIT
#include "fixture.h"

class Pools : public Gpu {
  protected:
    CUmemoryPool standard() {
        CUmemoryPool pool = nullptr;
        EXPECT_OK(cuDeviceGetDefaultMemPool(&pool, device));
        return pool;
    }

    cuuint64_t number(CUmemoryPool pool, CUmemPool_attribute which) {
        cuuint64_t value = 0;
        EXPECT_OK(cuMemPoolGetAttribute(pool, which, &value));
        return value;
    }

    CUdeviceptr allocate_async(size_t size, CUstream stream = nullptr) {
        CUdeviceptr pointer = 0;
        EXPECT_OK(cuMemAllocAsync(&pointer, size, stream));
        return pointer;
    }
};

TEST_F(Pools, AllocationsFollowTheStream) {
    CUstream stream, other;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    EXPECT_OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    auto module = load();
    auto gate = allocate(8);
    write(gate, uint64_t{0});
    auto first = allocate_async(1000, stream);
    EXPECT_OK(cuMemsetD32Async(first, 7, 1, stream));
    EXPECT_OK(launch(function(module, "wait_for"), stream, 1, gate, gate + 4));
    EXPECT_OK(cuMemFreeAsync(first, stream));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemFreeAsync(first, stream));
    auto second = allocate_async(1000, stream), third = allocate_async(1000, other);
    EXPECT_EQ(second, first);  // the same stream may have it again at once
    EXPECT_NE(third, first);
    int one = 1;
    EXPECT_OK(cuMemcpyHtoDAsync(gate, &one, 4, other));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT_OK(cuMemFree(second));
    EXPECT_OK(cuMemFreeAsync(third, other));
    EXPECT_OK(cuCtxSynchronize());
    int value;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(&value, third, 4));
    EXPECT_OK(cuMemAllocAsync(&first, 0, stream));
    EXPECT_EQ(first, 0u);
}

TEST_F(Pools, KeepWhatTheThresholdSays) {
    auto pool = standard();
    CUmemoryPool current = nullptr;
    EXPECT_OK(cuDeviceGetMemPool(&current, device));
    EXPECT_EQ(current, pool);
    auto pointer = allocate_async(1 << 20);
    EXPECT_EQ(number(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 1u << 20);
    EXPECT_EQ(number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 1u << 20);
    EXPECT_OK(cuMemFreeAsync(pointer, nullptr));
    EXPECT_EQ(number(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 0u);
    EXPECT_OK(cuStreamSynchronize(nullptr));
    EXPECT_EQ(number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0u);
    cuuint64_t most = ~cuuint64_t{0};
    EXPECT_OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &most));
    EXPECT_OK(cuMemFreeAsync(allocate_async(1 << 20), nullptr));
    EXPECT_OK(cuStreamSynchronize(nullptr));
    EXPECT_EQ(number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 1u << 20);
    EXPECT_EQ(number(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH), 1u << 20);
    EXPECT_OK(cuMemPoolTrimTo(pool, 0));
    EXPECT_EQ(number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0u);
    most = 0;
    EXPECT_OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &most));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(pool));
}

TEST_F(Pools, OwnOnesAndAccess) {
    CUmemPoolProps props = {};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, {1}};
    CUmemoryPool pool = nullptr, seen = nullptr;
    EXPECT_OK(cuMemPoolCreate(&pool, &props));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuDeviceSetMemPool(device, pool));
    CUdeviceptr pointer = 0;
    EXPECT_OK(cuMemAllocFromPoolAsync(&pointer, 64, pool, nullptr));
    EXPECT_OK(cuPointerGetAttribute(&seen, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, pointer));
    EXPECT_EQ(seen, pool);
    CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, {0}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemAccess_flags flags;
    EXPECT_OK(cuMemPoolGetAccess(&flags, pool, &access.location));
    EXPECT_EQ(flags, CU_MEM_ACCESS_FLAGS_PROT_NONE);
    EXPECT_OK(cuMemPoolSetAccess(pool, &access, 1));
    EXPECT_OK(cuMemPoolGetAccess(&flags, pool, &access.location));
    EXPECT_EQ(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    EXPECT_OK(launch(function(load(), "store"), nullptr, 1, pointer, 4));
    EXPECT_EQ(read<int>(pointer), 4);
    access.location.id = 1;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemPoolSetAccess(pool, &access, 1));
    EXPECT_OK(cuMemPoolDestroy(pool));
    EXPECT_EQ(read<int>(pointer), 4);  // allocations outlive it
    EXPECT_OK(cuMemFreeAsync(pointer, nullptr));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(pool));
}

TEST_F(Pools, AreCaptured) {
    CUstream stream;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    auto out = allocate(4);
    EXPECT_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    auto pointer = allocate_async(64, stream);
    EXPECT_OK(cuMemsetD32Async(pointer, 6, 16, stream));
    EXPECT_OK(cuMemcpyDtoDAsync(out, pointer + 60, 4, stream));
    EXPECT_OK(cuMemFreeAsync(pointer, stream));
    CUgraph graph = nullptr;
    EXPECT_OK(cuStreamEndCapture(stream, &graph));
    CUgraphExec exec = nullptr;
    EXPECT_OK(cuGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 2; ++i) {
        EXPECT_OK(cuGraphLaunch(exec, stream));
        EXPECT_OK(cuStreamSynchronize(stream));
        EXPECT_EQ(read<int>(out), 6);
        write(out, 0);
    }
}
