// SPDX-License-Identifier: MIT
// A driver-API program as one would write it in C: loads a module (argv[1]), adds two vectors, compares.
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(call)                                                               \
    do {                                                                          \
        CUresult result_ = (call);                                                \
        if (result_ != CUDA_SUCCESS) {                                            \
            const char* name_ = "?";                                              \
            cuGetErrorName(result_, &name_);                                      \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, name_); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

int main(int argc, char** argv) {
    enum { kCount = 50000 };
    const size_t size = kCount * sizeof(float);
    if (argc != 2) return fprintf(stderr, "usage: %s MODULE\n", argv[0]), 2;
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction add;
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoad(&module, argv[1]));
    CHECK(cuModuleGetFunction(&add, module, "vector_add"));

    float *a = malloc(size), *b = malloc(size), *c = malloc(size);
    for (int i = 0; i < kCount; ++i) {
        a[i] = (float)rand() / (float)RAND_MAX;
        b[i] = (float)rand() / (float)RAND_MAX;
    }
    CUdeviceptr da, db, dc;
    CHECK(cuMemAlloc(&da, size));
    CHECK(cuMemAlloc(&db, size));
    CHECK(cuMemAlloc(&dc, size));
    CHECK(cuMemcpyHtoD(da, a, size));
    CHECK(cuMemcpyHtoD(db, b, size));
    int count = kCount;
    void* params[] = {&da, &db, &dc, &count};
    CHECK(cuLaunchKernel(add, (kCount + 255) / 256, 1, 1, 256, 1, 1, 0, NULL, params, NULL));
    CHECK(cuCtxSynchronize());
    CHECK(cuMemcpyDtoH(c, dc, size));
    for (int i = 0; i < kCount; ++i)
        if (c[i] != a[i] + b[i]) return fprintf(stderr, "wrong sum at %d\n", i), 1;
    CHECK(cuMemFree(da));
    CHECK(cuMemFree(db));
    CHECK(cuMemFree(dc));
    CHECK(cuModuleUnload(module));
    CHECK(cuDevicePrimaryCtxRelease(device));
    free(a), free(b), free(c);
    printf("%d sums are right\n", kCount);
    return 0;
}
