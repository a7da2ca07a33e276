// SPDX-License-Identifier: MIT
// The stack of contexts, primary contexts, limits, what needs a context and has none.
#include <thread>

#include "conform.h"

CASE_BARE(context_stack) {
    CUcontext first = nullptr, second = nullptr, current = nullptr, popped = nullptr;
    CHECK(cuCtxPopCurrent(&popped));
    CHECK(cuCtxSetCurrent(nullptr));
    CHECK(cuCtxSynchronize());
    CUdevice device = -1;
    CHECK(cuCtxGetDevice(&device));
    CHECK(cuCtxCreate(&first, nullptr, 0, 99));
    CHECK(cuCtxCreate(&first, nullptr, 0xffff, 0));
    CHECK(cuCtxCreate(nullptr, nullptr, 0, 0));
    NEED(cuCtxCreate(&first, nullptr, 0, 0));
    NEED(cuCtxCreate(&second, nullptr, CU_CTX_SCHED_YIELD | CU_CTX_MAP_HOST, 0));
    VALUE(first != second);
    CHECK(cuCtxGetCurrent(&current));
    VALUE(current == second);
    unsigned flags = 0;
    CHECK(cuCtxGetFlags(&flags));
    VALUE(flags);
    CHECK(cuCtxGetDevice(&device));
    VALUE(device);
    unsigned version = 0;
    CHECK(cuCtxGetApiVersion(first, &version));
    VALUE(version);
    unsigned long long id = 0, other = 0;
    CHECK(cuCtxGetId(first, &id));
    CHECK(cuCtxGetId(second, &other));
    VALUE(other - id);
    CHECK(cuCtxPopCurrent(&popped));
    VALUE(popped == second);
    CHECK(cuCtxGetCurrent(&current));
    VALUE(current == first);
    CHECK(cuCtxPushCurrent(second));
    CHECK(cuCtxPushCurrent(second));
    CHECK(cuCtxPopCurrent(nullptr));
    CHECK(cuCtxGetCurrent(&current));
    VALUE(current == second);
    CHECK(cuCtxSetCurrent(first));
    CHECK(cuCtxPopCurrent(&popped));
    VALUE(popped == first);
    CHECK(cuCtxGetCurrent(&current));
    VALUE(current == first);
    CHECK(cuCtxPushCurrent(nullptr));
    // Memory of one context, freed with the other current.
    CUdeviceptr memory = 0;
    CHECK(cuCtxSetCurrent(second));
    CHECK(cuMemAlloc(&memory, 1024));
    CHECK(cuCtxSetCurrent(first));
    CHECK(cuMemFree(memory));
    CUstream stream = nullptr;
    CHECK(cuStreamCreate(&stream, 0));
    CUcontext of_stream = nullptr;
    CHECK(cuStreamGetCtx(stream, &of_stream));
    VALUE(of_stream == first);
    CHECK(cuCtxSetCurrent(second));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuCtxDestroy(second));
    CHECK(cuCtxGetCurrent(&current));
    VALUE(current == nullptr);
    CHECK(cuCtxSetCurrent(first));
    CHECK(cuCtxDestroy(first));
    CHECK(cuMemAlloc(&memory, 16));
    CHECK(cuCtxDestroy(nullptr));
}

CASE_BARE(primary_context) {
    unsigned flags = 77;
    int active = 77;
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    VALUE(flags);
    CHECK(cuDevicePrimaryCtxGetState(0, nullptr, &active));
    CHECK(cuDevicePrimaryCtxGetState(99, &flags, &active));
    CHECK(cuDevicePrimaryCtxRelease(0));
    CHECK(cuDevicePrimaryCtxSetFlags(0, CU_CTX_SCHED_BLOCKING_SYNC));
    CHECK(cuDevicePrimaryCtxSetFlags(0, 0xffff));
    CHECK(cuDevicePrimaryCtxSetFlags(99, 0));
    CUcontext context = nullptr, again = nullptr, current = nullptr;
    NEED(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuDevicePrimaryCtxRetain(&again, 0));
    VALUE(context == again);
    CHECK(cuDevicePrimaryCtxRetain(nullptr, 0));
    CHECK(cuDevicePrimaryCtxRetain(&again, 99));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    VALUE(flags);
    CHECK(cuDevicePrimaryCtxSetFlags(0, CU_CTX_SCHED_YIELD));
    CHECK(cuCtxGetCurrent(&current));
    VALUE(current == nullptr);
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuCtxGetFlags(&flags));
    VALUE(flags);
    CUdeviceptr memory = 0;
    CHECK(cuMemAlloc(&memory, 4096));
    CHECK(cuDevicePrimaryCtxRelease(0));
    FAULT(cuMemsetD8(memory, 1, 16));
    CHECK(cuDevicePrimaryCtxReset(0));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    FAULT(cuMemsetD8(memory, 1, 16));
    CHECK(cuDevicePrimaryCtxRelease(0));
    CHECK(cuDevicePrimaryCtxRelease(0));
    NEED(cuDevicePrimaryCtxRetain(&again, 0));
    CHECK(cuCtxSetCurrent(again));
    CHECK(cuMemAlloc(&memory, 4096));
    CHECK(cuMemFree(memory));
    // A reset does not change how often it is retained.
    CHECK(cuDevicePrimaryCtxRelease(0));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    NEED(cuDevicePrimaryCtxRetain(&again, 0));
    NEED(cuDevicePrimaryCtxRetain(&again, 0));
    CHECK(cuDevicePrimaryCtxReset(0));
    CHECK(cuDevicePrimaryCtxRelease(0));
    NEED(cuDevicePrimaryCtxRetain(&again, 0));
    CHECK(cuDevicePrimaryCtxRelease(0));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    CHECK(cuCtxSetCurrent(again));
    CHECK(cuMemAlloc(&memory, 4096));
    unsigned char byte = 0;
    CHECK(cuMemsetD8(memory, 7, 16));
    CHECK(cuMemcpyDtoH(&byte, memory, 1));
    VALUE(byte);
    CHECK(cuDevicePrimaryCtxReset(0));
    CHECK(cuDevicePrimaryCtxRelease(0));
    for (int life = 0; life < 3; ++life) {
        NEED(cuDevicePrimaryCtxRetain(&again, 0));
        CHECK(cuCtxSetCurrent(again));
        CHECK(cuMemAlloc(&memory, 4096));
        CHECK(cuMemsetD8(memory, static_cast<unsigned char>(life), 16));
        CHECK(cuMemcpyDtoH(&byte, memory, 1));
        VALUE(byte);
        CHECK(cuDevicePrimaryCtxRelease(0));
        CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
        VALUE(active);
    }
}

CASE(context_settings) {
    size_t size = 0;
    for (int limit = 0; limit < CU_LIMIT_MAX + 2; ++limit) {
        size = 0;
        const CUresult result = cuCtxGetLimit(&size, static_cast<CUlimit>(limit));
        char line[64];
        std::snprintf(line, sizeof line, "limit %d: %d", limit, static_cast<int>(result));
        conform::value(line, static_cast<long long>(size));
    }
    CHECK(cuCtxGetLimit(nullptr, CU_LIMIT_STACK_SIZE));
    CHECK(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 4096));
    CHECK(cuCtxGetLimit(&size, CU_LIMIT_STACK_SIZE));
    VALUE(size);
    CHECK(cuCtxSetLimit(CU_LIMIT_PRINTF_FIFO_SIZE, 2 << 20));
    CHECK(cuCtxGetLimit(&size, CU_LIMIT_PRINTF_FIFO_SIZE));
    VALUE(size);
    CHECK(cuCtxSetLimit(CU_LIMIT_MAX, 1));
    CUfunc_cache cache{};
    CHECK(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_L1));
    CHECK(cuCtxGetCacheConfig(&cache));
    VALUE(cache);
    CHECK(cuCtxSetCacheConfig(static_cast<CUfunc_cache>(9)));
    CHECK(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_NONE));
    CUsharedconfig shared{};
    CHECK(cuCtxGetSharedMemConfig(&shared));
    VALUE(shared);
    CHECK(cuCtxSetSharedMemConfig(CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE));
    int least = 0, greatest = 0;
    CHECK(cuCtxGetStreamPriorityRange(&least, &greatest));
    VALUE(least);
    VALUE(greatest);
    CHECK(cuCtxGetStreamPriorityRange(nullptr, nullptr));
    CHECK(cuCtxResetPersistingL2Cache());
    CHECK(cuCtxEnablePeerAccess(nullptr, 0));
    CUcontext current = nullptr;
    CHECK(cuCtxGetCurrent(&current));
    CHECK(cuCtxEnablePeerAccess(current, 0));
    CHECK(cuCtxDisablePeerAccess(current));
    CHECK(cuCtxSetFlags(CU_CTX_SCHED_SPIN));
    unsigned flags = 0;
    CHECK(cuCtxGetFlags(&flags));
    VALUE(flags);
}

CASE(context_threads) {
    CUcontext here = nullptr;
    NEED(cuCtxGetCurrent(&here));
    std::thread([here] {
        CUcontext context = here;
        CHECK(cuCtxGetCurrent(&context));
        VALUE(context == nullptr);
        CUdeviceptr memory = 0;
        CHECK(cuMemAlloc(&memory, 16));
        CHECK(cuCtxPushCurrent(here));
        CHECK(cuMemAlloc(&memory, 16));
        CHECK(cuMemFree(memory));
    }).join();
    CHECK(cuCtxGetCurrent(&here));
    VALUE(here != nullptr);
}
