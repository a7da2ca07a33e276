// SPDX-License-Identifier: MIT
// A test with the primary context of device 0 current, reset afterwards so that tests do not see each other.
#pragma once

#include <cuda.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

inline std::string name_of(CUresult result) {
    const char* name = nullptr;
    cuGetErrorName(result, &name);
    return name ? name : std::to_string(result);
}

#define EXPECT_CU(expected, call) EXPECT_EQ(name_of(expected), name_of(call))
#define EXPECT_OK(call) EXPECT_CU(CUDA_SUCCESS, call)
#define ASSERT_OK(call) ASSERT_EQ("CUDA_SUCCESS", name_of(call))

class Gpu : public testing::Test {
  protected:
    void SetUp() override {
        ASSERT_OK(cuInit(0));
        ASSERT_OK(cuDeviceGet(&device, 0));
        ASSERT_OK(cuDevicePrimaryCtxRetain(&context, device));
        ASSERT_OK(cuCtxSetCurrent(context));
    }

    void TearDown() override {
        EXPECT_OK(cuDevicePrimaryCtxReset(device));
        while (cuDevicePrimaryCtxRelease(device) == CUDA_SUCCESS) continue;
        while (cuCtxPopCurrent(nullptr) == CUDA_SUCCESS) continue;
    }

    CUdeviceptr allocate(size_t size) {
        CUdeviceptr pointer = 0;
        EXPECT_OK(cuMemAlloc(&pointer, size));
        return pointer;
    }

    template <typename T>
    T read(CUdeviceptr from) {
        T value{};
        EXPECT_OK(cuMemcpyDtoH(&value, from, sizeof value));
        return value;
    }

    template <typename T>
    void write(CUdeviceptr to, T value) {
        EXPECT_OK(cuMemcpyHtoD(to, &value, sizeof value));
    }

    // An image that the build made of kernels.cu, with a NUL behind it.
    static std::vector<char> image(const std::string& name) {
        std::ifstream file(std::string(SOFTGPU_TEST_IMAGES) + "/" + name, std::ios::binary);
        std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
        EXPECT_FALSE(bytes.empty()) << name;
        bytes.push_back(0);
        return bytes;
    }

    CUmodule load(const std::string& name = "kernels.ptx") {
        CUmodule module = nullptr;
        EXPECT_OK(cuModuleLoadData(&module, image(name).data()));
        return module;
    }

    CUfunction function(CUmodule module, const char* name) {
        CUfunction found = nullptr;
        EXPECT_OK(cuModuleGetFunction(&found, module, name));
        return found;
    }

    // One block of `threads` threads.
    template <typename... Args>
    CUresult launch(CUfunction f, CUstream stream, unsigned threads, Args... args) {
        void* params[] = {&args..., nullptr};
        return cuLaunchKernel(f, 1, 1, 1, threads, 1, 1, 0, stream, params, nullptr);
    }

    CUdevice device = 0;
    CUcontext context = nullptr;
};
