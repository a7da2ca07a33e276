// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <thread>

#include "fixture.h"

using Devices = Gpu;
using Contexts = Gpu;

TEST_F(Devices, DescribeThemselves) {
    int count = 0, value = 0, version = 0;
    EXPECT_OK(cuDeviceGetCount(&count));
    EXPECT_EQ(count, 2);  // as the environment of the test says
    EXPECT_OK(cuDriverGetVersion(&version));
    EXPECT_EQ(version, 13000);
    char name[64];
    EXPECT_OK(cuDeviceGetName(name, sizeof name, device));
    EXPECT_STREQ(name, "Cricket Software GPU");
    EXPECT_OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device));
    EXPECT_EQ(value, 7);
    EXPECT_OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, device));
    EXPECT_EQ(value, 1);
    for (int which = 1; which < CU_DEVICE_ATTRIBUTE_MAX; ++which)
        EXPECT_OK(cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(which), device)) << which;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MAX, device));
    size_t memory = 0;
    EXPECT_OK(cuDeviceTotalMem(&memory, device));
    EXPECT_EQ(memory, size_t{256} << 20);
    EXPECT_CU(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&device, 2));
    CUuuid first, second;
    EXPECT_OK(cuDeviceGetUuid(&first, 0));
    EXPECT_OK(cuDeviceGetUuid(&second, 1));
    EXPECT_NE(memcmp(&first, &second, sizeof first), 0);
}

TEST_F(Devices, AreFoundByBusId) {
    char id[32];
    CUdevice found = -1;
    EXPECT_OK(cuDeviceGetPCIBusId(id, sizeof id, 1));
    EXPECT_OK(cuDeviceGetByPCIBusId(&found, id));
    EXPECT_EQ(found, 1);
    EXPECT_CU(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetByPCIBusId(&found, "0000:77:00.0"));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuDeviceGetByPCIBusId(&found, "nonsense"));
}

TEST_F(Contexts, FormAStack) {
    CUcontext made = nullptr, seen = nullptr;
    ASSERT_OK(cuCtxCreate(&made, nullptr, CU_CTX_SCHED_SPIN, 1));
    EXPECT_OK(cuCtxGetCurrent(&seen));
    EXPECT_EQ(seen, made);
    CUdevice of = -1;
    EXPECT_OK(cuCtxGetDevice(&of));
    EXPECT_EQ(of, 1);
    unsigned flags = 0;
    EXPECT_OK(cuCtxGetFlags(&flags));
    EXPECT_EQ(flags, unsigned{CU_CTX_SCHED_SPIN});
    EXPECT_OK(cuCtxPushCurrent(context));
    EXPECT_OK(cuCtxPopCurrent(&seen));
    EXPECT_EQ(seen, context);
    EXPECT_OK(cuCtxDestroy(made));
    EXPECT_OK(cuCtxGetCurrent(&seen));
    EXPECT_EQ(seen, context);
    EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuCtxPushCurrent(made));
    EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy(made));
    EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy(context));  // primary ones are released instead
    EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent(reinterpret_cast<CUcontext>(0x1234)));
}

TEST_F(Contexts, DestroyedElsewhereIsNoticed) {
    CUcontext made = nullptr;
    ASSERT_OK(cuCtxCreate(&made, nullptr, 0, device));
    std::thread([&] { EXPECT_OK(cuCtxDestroy(made)); }).join();
    EXPECT_CU(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
    EXPECT_OK(cuCtxPopCurrent(nullptr));
    EXPECT_OK(cuCtxSynchronize());
}

TEST_F(Contexts, NoneCurrentOnANewThread) {
    std::thread([] {
        CUcontext seen = reinterpret_cast<CUcontext>(1);
        EXPECT_OK(cuCtxGetCurrent(&seen));
        EXPECT_EQ(seen, nullptr);
        CUdeviceptr pointer;
        EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuMemAlloc(&pointer, 16));
        EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuCtxPopCurrent(nullptr));
    }).join();
}

TEST_F(Contexts, PrimaryIsCountedAndReset) {
    CUcontext again = nullptr;
    unsigned flags = 9;
    int active = 0;
    EXPECT_OK(cuDevicePrimaryCtxRetain(&again, device));
    EXPECT_EQ(again, context);
    EXPECT_OK(cuDevicePrimaryCtxRelease(device));
    EXPECT_OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
    EXPECT_EQ(active, 1);
    auto pointer = allocate(1 << 20);
    CUstream stream;
    EXPECT_OK(cuStreamCreate(&stream, 0));
    EXPECT_OK(cuDevicePrimaryCtxRelease(device));
    EXPECT_OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
    EXPECT_EQ(active, 0);
    EXPECT_CU(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
    EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease(device));
    EXPECT_OK(cuDevicePrimaryCtxRetain(&again, device));
    EXPECT_EQ(again, context);  // the same handle, so it is current again
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(stream));
    int value;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(&value, pointer, sizeof value));
    size_t free = 0, total = 0;
    EXPECT_OK(cuMemGetInfo(&free, &total));
    EXPECT_EQ(free, total);
    // A reset does not change the count; the last release then has nothing to end.
    EXPECT_OK(cuDevicePrimaryCtxReset(device));
    EXPECT_OK(cuDevicePrimaryCtxRetain(&again, device));
    EXPECT_OK(cuDevicePrimaryCtxRelease(device));
    EXPECT_OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
    EXPECT_EQ(active, 1);
    EXPECT_OK(cuDevicePrimaryCtxReset(device));
    EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease(device));
    EXPECT_OK(cuDevicePrimaryCtxRetain(&again, device));
    EXPECT_OK(cuDevicePrimaryCtxRelease(device));
    EXPECT_OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
    EXPECT_EQ(active, 0);
}

TEST_F(Contexts, Limits) {
    size_t value = 0;
    EXPECT_OK(cuCtxGetLimit(&value, CU_LIMIT_MALLOC_HEAP_SIZE));
    EXPECT_EQ(value, size_t{8} << 20);
    EXPECT_OK(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 16 << 20));
    EXPECT_OK(cuCtxGetLimit(&value, CU_LIMIT_MALLOC_HEAP_SIZE));
    EXPECT_EQ(value, size_t{16} << 20);
    EXPECT_CU(CUDA_ERROR_UNSUPPORTED_LIMIT, cuCtxGetLimit(&value, static_cast<CUlimit>(77)));
    int least = 1, greatest = 1;
    EXPECT_OK(cuCtxGetStreamPriorityRange(&least, &greatest));
    EXPECT_EQ(least, 0);
    EXPECT_LT(greatest, 0);
}

TEST_F(Contexts, PeerAccess) {
    CUcontext other = nullptr;
    int can = 0;
    EXPECT_OK(cuDeviceCanAccessPeer(&can, 0, 1));
    EXPECT_EQ(can, 1);
    EXPECT_OK(cuDevicePrimaryCtxRetain(&other, 1));
    EXPECT_OK(cuCtxEnablePeerAccess(other, 0));
    EXPECT_CU(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, cuCtxEnablePeerAccess(other, 0));
    EXPECT_OK(cuCtxDisablePeerAccess(other));
    EXPECT_CU(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, cuCtxDisablePeerAccess(other));
    EXPECT_CU(CUDA_ERROR_INVALID_DEVICE, cuCtxEnablePeerAccess(context, 0));
    EXPECT_OK(cuDevicePrimaryCtxRelease(1));
}

TEST_F(Contexts, UnsupportedFunctionsSaySo) {
    EXPECT_CU(CUDA_ERROR_NOT_SUPPORTED, cuCtxRecordEvent(context, nullptr));
    void* pointer = nullptr;
    CUdriverProcAddressQueryResult status;
    EXPECT_OK(cuGetProcAddress("cuMemAlloc", &pointer, 13000, 0, &status));
    EXPECT_EQ(pointer, reinterpret_cast<void*>(&cuMemAlloc));  // cuda.h makes it cuMemAlloc_v2
    EXPECT_OK(cuGetProcAddress("cuNothing", &pointer, 13000, 0, &status));
    EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    EXPECT_EQ(pointer, nullptr);
}

TEST(Errors, HaveNamesAndTexts) {
    const char* text = nullptr;
    EXPECT_OK(cuGetErrorString(CUDA_ERROR_ILLEGAL_ADDRESS, &text));
    EXPECT_STREQ(text, "an illegal memory access was encountered");
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGetErrorName(static_cast<CUresult>(12345), &text));
    EXPECT_EQ(text, nullptr);
}

TEST_F(Contexts, AForkedChildIsNotInitialized) {
    EXPECT_EXIT(
        _exit(cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED && cuInit(0) == CUDA_ERROR_NOT_INITIALIZED
                  ? 0
                  : 1),
        testing::ExitedWithCode(0), "");
}
