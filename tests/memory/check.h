// SPDX-License-Identifier: MIT
// What the programs of this folder share: each call's result is compared with the one expected, native or not.
#pragma once

#include <cuda.h>

#include <vector>

#include "examples/example.h"

inline const char* name_of(CUresult result) {
    const char* name = nullptr;
    return cuGetErrorName(result, &name) == CUDA_SUCCESS && name ? name : "?";
}

#define EXPECT_RESULT(expected, call)                                                                              \
    do {                                                                                                           \
        const CUresult result_ = (call);                                                                           \
        if (result_ != (expected))                                                                                 \
            example::fail("%s:%d: %s: %s, not %s", __FILE__, __LINE__, #call, name_of(result_), name_of(expected)); \
    } while (false)
#define EXPECT_OK(call) EXPECT_RESULT(CUDA_SUCCESS, call)
#define EXPECT(condition)                                                            \
    do {                                                                             \
        if (!(condition)) example::fail("%s:%d: %s", __FILE__, __LINE__, #condition); \
    } while (false)

inline CUcontext begin(CUdevice device = 0) {
    EXPECT_OK(cuInit(0));
    CUcontext context = nullptr;
    EXPECT_OK(cuDevicePrimaryCtxRetain(&context, device));
    EXPECT_OK(cuCtxSetCurrent(context));
    return context;
}

// That `bytes` bytes at a device address all are `value`.
inline void expect_bytes(CUdeviceptr address, size_t bytes, unsigned char value, const char* what) {
    std::vector<unsigned char> seen(bytes, static_cast<unsigned char>(~value));
    EXPECT_OK(cuMemcpyDtoH(seen.data(), address, bytes));
    for (size_t i = 0; i < bytes; ++i)
        if (seen[i] != value) example::fail("%s: byte %zu is %u, not %u", what, i, seen[i], value);
}
