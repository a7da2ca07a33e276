// SPDX-License-Identifier: MIT
#include <atomic>
#include <thread>

#include "fixture.h"

using Launches = Gpu;
using Sticky = Gpu;

TEST_F(Launches, ParametersAreCopied) {
    auto module = load();
    auto add = function(module, "vector_add");
    constexpr int kCount = 1000;
    std::vector<float> a(kCount), b(kCount), c(kCount);
    for (int i = 0; i < kCount; ++i) a[i] = static_cast<float>(i), b[i] = 0.5f;
    auto da = allocate(kCount * 4), db = allocate(kCount * 4), dc = allocate(kCount * 4);
    EXPECT_OK(cuMemcpyHtoD(da, a.data(), kCount * 4));
    EXPECT_OK(cuMemcpyHtoD(db, b.data(), kCount * 4));
    int n = kCount;
    CUdeviceptr out = dc;
    void* params[] = {&da, &db, &out, &n};
    EXPECT_OK(cuLaunchKernel(add, (kCount + 127) / 128, 1, 1, 128, 1, 1, 0, nullptr, params, nullptr));
    out = 0, n = 0;  // too late to matter
    EXPECT_OK(cuMemcpyDtoH(c.data(), dc, kCount * 4));
    for (int i = 0; i < kCount; ++i) ASSERT_EQ(c[i], a[i] + 0.5f) << i;
}

TEST_F(Launches, PackedParameters) {
    auto module = load();
    auto f = function(module, "use_pair");
    auto out = allocate(8);
    struct {
        char first;
        double second;
        char tail;
        CUdeviceptr out;
    } packed = {1, 2.5, 3, out};
    size_t size = sizeof packed;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                     CU_LAUNCH_PARAM_END};
    EXPECT_OK(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra));
    EXPECT_EQ(read<double>(out), 6.5);
    size = 8;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra));
    void* params[] = {nullptr};
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, nullptr, params, extra));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
}

TEST_F(Launches, ShapesAreChecked) {
    auto module = load();
    auto f = function(module, "bounded");
    auto out = allocate(4);
    void* params[] = {&out};
    auto shape = [&](unsigned grid, unsigned x, unsigned y, unsigned z, unsigned shared) {
        return cuLaunchKernel(f, grid, 1, 1, x, y, z, shared, nullptr, params, nullptr);
    };
    EXPECT_OK(shape(1, 64, 1, 1, 0));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, shape(0, 1, 1, 1, 0));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, shape(1, 1025, 1, 1, 0));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, shape(1, 1, 1, 65, 0));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, shape(1, 64, 32, 1, 0));
    EXPECT_CU(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, shape(1, 65, 1, 1, 0));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, shape(1, 1, 1, 1, (48 << 10) + 4));
    EXPECT_OK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 10));
    EXPECT_OK(shape(1, 1, 1, 1, 64 << 10));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel(reinterpret_cast<CUfunction>(0x77), 1, 1, 1, 1, 1, 1,
                                                        0, nullptr, params, nullptr));
    EXPECT_OK(cuCtxSynchronize());
}

TEST_F(Launches, WithAttributes) {
    auto module = load();
    auto out = allocate(256 * 4);
    std::vector<int> values(256), back(256);
    for (int i = 0; i < 256; ++i) values[i] = i;
    EXPECT_OK(cuMemcpyHtoD(out, values.data(), 1024));
    CUevent event;
    EXPECT_OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    CUlaunchAttribute attributes[3] = {};
    attributes[0].id = CU_LAUNCH_ATTRIBUTE_PRIORITY;
    attributes[1].id = CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT;
    attributes[1].value.launchCompletionEvent.event = event;
    attributes[2].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attributes[2].value.clusterDim = {1, 1, 1};
    CUlaunchConfig config = {1, 1, 1, 256, 1, 1, 1024, nullptr, attributes, 3};
    void* params[] = {&out};
    EXPECT_OK(cuLaunchKernelEx(&config, function(module, "reverse"), params, nullptr));
    EXPECT_OK(cuEventSynchronize(event));
    EXPECT_OK(cuMemcpyDtoH(back.data(), out, 1024));
    for (int i = 0; i < 256; ++i) ASSERT_EQ(back[i], 255 - i);
    attributes[2].value.clusterDim = {2, 1, 1};
    EXPECT_CU(CUDA_ERROR_NOT_SUPPORTED,
              cuLaunchKernelEx(&config, function(module, "reverse"), params, nullptr));
}

TEST_F(Launches, KernelsOfTwoStreamsRunAtOnce) {
    auto module = load();
    CUstream first, second;
    EXPECT_OK(cuStreamCreate(&first, CU_STREAM_NON_BLOCKING));
    EXPECT_OK(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING));
    auto words = allocate(8);
    write(words, uint64_t{0});
    EXPECT_OK(launch(function(module, "wait_for"), first, 1, words, words + 4));
    EXPECT_OK(launch(function(module, "store"), second, 1, words, 1));
    EXPECT_OK(cuStreamSynchronize(first));
    EXPECT_EQ(read<int>(words + 4), 1);
}

TEST_F(Launches, RegisteredHostMemoryAndVmm) {
    auto module = load();
    alignas(4096) static int host[1024];
    host[3] = 41;
    ASSERT_OK(cuMemHostRegister(host, sizeof host, 0));
    auto address = reinterpret_cast<CUdeviceptr>(host) + 12;
    EXPECT_OK(launch(function(module, "add_one"), nullptr, 1, address));
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_EQ(host[3], 42);
    EXPECT_OK(cuMemHostUnregister(host));

    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    CUmemGenericAllocationHandle handle;
    CUdeviceptr base = 0;
    constexpr size_t kSize = 2 << 20;
    EXPECT_OK(cuMemAddressReserve(&base, kSize, 0, 0, 0));
    EXPECT_OK(cuMemCreate(&handle, kSize, &prop, 0));
    EXPECT_OK(cuMemMap(base, kSize, 0, handle, 0));
    CUmemAccessDesc access = {prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    EXPECT_OK(cuMemSetAccess(base, kSize, &access, 1));
    EXPECT_OK(launch(function(module, "store"), nullptr, 1, base + kSize - 4, 9));
    EXPECT_EQ(read<int>(base + kSize - 4), 9);
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READ;
    EXPECT_OK(cuMemSetAccess(base, kSize, &access, 1));
    EXPECT_OK(launch(function(module, "store"), nullptr, 1, base, 9));
    EXPECT_CU(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
    EXPECT_OK(cuMemUnmap(base, kSize));
    EXPECT_OK(cuMemRelease(handle));
    EXPECT_OK(cuMemAddressFree(base, kSize));
}

TEST_F(Launches, DeviceHeap) {
    auto module = load();
    auto cell = allocate(8), out = allocate(4);
    EXPECT_OK(launch(function(module, "allocate"), nullptr, 1, cell));
    auto pointer = read<CUdeviceptr>(cell);
    ASSERT_NE(pointer, 0u);
    int value;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(&value, pointer, 4));  // kernels only
    EXPECT_OK(launch(function(module, "read_back"), nullptr, 1, cell, out));
    EXPECT_EQ(read<int>(out), 1234);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 1 << 20));
}

TEST_F(Launches, PrintfGoesToStdout) {
    auto module = load();
    testing::internal::CaptureStdout();
    EXPECT_OK(launch(function(module, "say"), nullptr, 1, 42));
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "kernel says 42\n");
}

class Faults : public Gpu {
  protected:
    // The error stays for everything but what ends the context.
    void expect_broken(CUresult error) {
        EXPECT_CU(error, cuCtxSynchronize());
        CUdeviceptr pointer;
        CUstream stream;
        CUmodule module;
        EXPECT_CU(error, cuMemAlloc(&pointer, 4));
        EXPECT_CU(error, cuStreamCreate(&stream, 0));
        EXPECT_CU(error, cuModuleLoadData(&module, image("kernels.ptx").data()));
        EXPECT_CU(error, cuStreamQuery(nullptr));
        EXPECT_OK(cuDevicePrimaryCtxReset(device));
        EXPECT_OK(cuDevicePrimaryCtxRetain(&context, device));
        EXPECT_OK(cuCtxSetCurrent(context));
        EXPECT_OK(cuCtxSynchronize());
        EXPECT_OK(cuMemAlloc(&pointer, 4));
    }
};

TEST_F(Faults, IllegalAddress) {
    EXPECT_OK(launch(function(load(), "store"), nullptr, 1, CUdeviceptr{0x10}, 1));
    expect_broken(CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_F(Faults, FreedMemory) {
    auto module = load();
    auto pointer = allocate(4);
    EXPECT_OK(cuMemFree(pointer));
    EXPECT_OK(launch(function(module, "store"), nullptr, 1, pointer, 1));
    expect_broken(CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_F(Faults, PlainHostMemory) {
    static int host;
    EXPECT_OK(launch(function(load(), "store"), nullptr, 1, &host, 1));
    expect_broken(CUDA_ERROR_ILLEGAL_ADDRESS);
    EXPECT_EQ(host, 0);
}

TEST_F(Faults, MemoryOfAnotherDevice) {
    CUcontext other = nullptr;
    CUdeviceptr there = 0;
    ASSERT_OK(cuDevicePrimaryCtxRetain(&other, 1));
    EXPECT_OK(cuCtxPushCurrent(other));
    EXPECT_OK(cuMemAlloc(&there, 4));
    EXPECT_OK(cuCtxPopCurrent(nullptr));
    auto store = function(load(), "store");
    EXPECT_OK(cuCtxEnablePeerAccess(other, 0));
    EXPECT_OK(launch(store, nullptr, 1, there, 5));
    EXPECT_EQ(read<int>(there), 5);
    EXPECT_OK(cuCtxDisablePeerAccess(other));
    EXPECT_OK(launch(store, nullptr, 1, there, 6));
    expect_broken(CUDA_ERROR_ILLEGAL_ADDRESS);
    EXPECT_OK(cuDevicePrimaryCtxRelease(1));
}

TEST_F(Faults, Misaligned) {
    EXPECT_OK(launch(function(load(), "misaligned"), nullptr, 1, allocate(16)));
    expect_broken(CUDA_ERROR_MISALIGNED_ADDRESS);
}

TEST_F(Faults, Trap) {
    EXPECT_OK(launch(function(load(), "trap"), nullptr, 1));
    expect_broken(CUDA_ERROR_LAUNCH_FAILED);
}

TEST_F(Faults, Assert) {
    auto check = function(load(), "check");
    EXPECT_OK(launch(check, nullptr, 1, 0));
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_OK(launch(check, nullptr, 1, 1));
    expect_broken(CUDA_ERROR_ASSERT);
}

TEST_F(Faults, CallbacksLearnOfThem) {
    std::atomic<int> status = -1, calls = 0;
    EXPECT_OK(launch(function(load(), "trap"), nullptr, 1));
    // The error may have been noticed before either is submitted; then it is reported here.
    auto on_status = [](CUstream, CUresult result, void* data) {
        static_cast<std::atomic<int>*>(data)->store(result);
    };
    auto on_call = [](void* data) { ++*static_cast<std::atomic<int>*>(data); };
    CUresult added = cuStreamAddCallback(nullptr, on_status, &status, 0);
    CUresult called = cuLaunchHostFunc(nullptr, on_call, &calls);
    EXPECT_CU(CUDA_ERROR_LAUNCH_FAILED, cuCtxSynchronize());
    EXPECT_EQ(status, added == CUDA_SUCCESS ? CUDA_ERROR_LAUNCH_FAILED : -1);
    EXPECT_TRUE(called == CUDA_SUCCESS || called == CUDA_ERROR_LAUNCH_FAILED);
    EXPECT_EQ(calls, 0);
}

TEST_F(Launches, ManyThreadsAtOnce) {
    auto module = load();
    auto add = function(module, "add_one");
    constexpr int kThreads = 4, kRounds = 100;
    auto shared = allocate(4 * kThreads);
    EXPECT_OK(cuMemsetD32(shared, 0, kThreads));
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
        threads.emplace_back([&, t] {
            EXPECT_OK(cuCtxSetCurrent(context));
            for (int round = 0; round < kRounds; ++round) {
                CUstream stream;
                CUevent event;
                CUdeviceptr own;
                int value = -1;
                EXPECT_OK(cuStreamCreate(&stream, round % 2 ? CU_STREAM_NON_BLOCKING : 0));
                EXPECT_OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
                EXPECT_OK(cuMemAlloc(&own, 4));
                EXPECT_OK(cuMemsetD32Async(own, static_cast<unsigned>(round), 1, stream));
                EXPECT_OK(launch(add, stream, 1, own));
                EXPECT_OK(launch(add, stream, 1, shared + 4 * static_cast<unsigned>(t)));
                EXPECT_OK(cuEventRecord(event, stream));
                EXPECT_OK(cuStreamWaitEvent(CU_STREAM_PER_THREAD, event, 0));
                EXPECT_OK(cuMemcpyDtoHAsync(&value, own, 4, CU_STREAM_PER_THREAD));
                EXPECT_EQ(value, round + 1);
                EXPECT_OK(cuMemFree(own));
                EXPECT_OK(cuEventDestroy(event));
                EXPECT_OK(cuStreamDestroy(stream));
            }
        });
    for (auto& thread : threads) thread.join();
    for (unsigned t = 0; t < kThreads; ++t) EXPECT_EQ(read<int>(shared + 4 * t), kRounds);
}
