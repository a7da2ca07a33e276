// SPDX-License-Identifier: MIT
#include <thread>

#include "fixture.h"

using Modules = Gpu;
using Libraries = Gpu;

TEST_F(Modules, EveryPackagingOfTheSamePtx) {
    for (auto name : {"kernels.ptx", "none.fatbin", "lz4.fatbin", "zstd.fatbin"}) {
        SCOPED_TRACE(name);
        auto module = load(name);
        ASSERT_NE(module, nullptr);
        auto out = allocate(4);
        EXPECT_OK(launch(function(module, "store"), nullptr, 1, out, 77));
        EXPECT_EQ(read<int>(out), 77);
        EXPECT_OK(cuModuleUnload(module));
        EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload(module));
    }
}

TEST_F(Modules, VariablesOfEveryKind) {
    auto module = load();
    CUdeviceptr counter = 0, scale = 0, managed = 0, hidden = 0;
    size_t size = 0;
    EXPECT_OK(cuModuleGetGlobal(&counter, &size, module, "counter"));
    EXPECT_EQ(size, 4u);
    EXPECT_OK(cuModuleGetGlobal(&scale, &size, module, "scale"));
    EXPECT_EQ(size, 8u);
    EXPECT_OK(cuModuleGetGlobal(&managed, nullptr, module, "managed"));
    EXPECT_OK(cuModuleGetGlobal(&hidden, &size, module, "unseen"));  // local: found by name all the same
    EXPECT_EQ(size, 6u);
    EXPECT_CU(CUDA_ERROR_NOT_FOUND, cuModuleGetGlobal(&hidden, &size, module, "absent"));
    EXPECT_EQ(read<int>(counter), 40);
    write(scale, 10);
    auto out = allocate(4);
    EXPECT_OK(launch(function(module, "use_variables"), nullptr, 1, out));
    EXPECT_EQ(read<int>(out), 42 * 10 + 5);
    EXPECT_EQ(read<int>(counter), 42);
    EXPECT_EQ(*reinterpret_cast<long*>(managed), 8);  // a managed variable is the host's, too
    unsigned is_managed = 0;
    EXPECT_OK(cuPointerGetAttribute(&is_managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, managed));
    EXPECT_EQ(is_managed, 1u);
}

TEST_F(Modules, AddressesRepeat) {
    std::vector<CUdeviceptr> first, second;
    for (auto* list : {&first, &second}) {
        auto a = load(), b = load();
        for (auto module : {a, b})
            for (auto name : {"counter", "scale", "managed"}) {
                list->push_back(0);
                EXPECT_OK(cuModuleGetGlobal(&list->back(), nullptr, module, name));
            }
        EXPECT_OK(cuModuleUnload(a));
        EXPECT_OK(cuModuleUnload(b));
    }
    EXPECT_EQ(first, second);
    EXPECT_NE(first[0], first[3]);
    EXPECT_EQ(first[0] >> 32, 0x0b00u);
}

TEST_F(Modules, FunctionsDescribeThemselves) {
    auto module = load();
    unsigned count = 0;
    EXPECT_OK(cuModuleGetFunctionCount(&count, module));
    std::vector<CUfunction> list(count);
    EXPECT_OK(cuModuleEnumerateFunctions(list.data(), count, module));
    std::vector<std::string> names;
    for (auto f : list) {
        const char* name = nullptr;
        EXPECT_OK(cuFuncGetName(&name, f));
        names.push_back(name);
    }
    EXPECT_NE(std::find(names.begin(), names.end(), "vector_add"), names.end());
    EXPECT_CU(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&list[0], module, "absent"));

    auto pair = function(module, "use_pair");
    size_t offset = 0, size = 0;
    EXPECT_OK(cuFuncGetParamInfo(pair, 0, &offset, &size));
    EXPECT_EQ(offset, 0u);
    EXPECT_EQ(size, 16u);
    EXPECT_OK(cuFuncGetParamInfo(pair, 2, &offset, &size));
    EXPECT_EQ(offset, 24u);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuFuncGetParamInfo(pair, 3, &offset, &size));
    CUmodule of = nullptr;
    EXPECT_OK(cuFuncGetModule(&of, pair));
    EXPECT_EQ(of, module);

    int value = 0;
    EXPECT_OK(
        cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function(module, "bounded")));
    EXPECT_EQ(value, 64);
    auto f = function(module, "reverse");
    EXPECT_OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, f));
    EXPECT_EQ(value, 48 << 10);
    EXPECT_OK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 10));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
              cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 65 << 10));
    int blocks = 0, block = 0, grid = 0;
    EXPECT_OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 256, 32 << 10));
    EXPECT_EQ(blocks, 2);
    EXPECT_OK(cuOccupancyMaxPotentialBlockSize(&grid, &block, function(module, "bounded"), nullptr, 0, 0));
    EXPECT_EQ(block, 64);
    EXPECT_EQ(grid, 16 * 8);
}

TEST_F(Modules, BadImagesAreRefusedWithAReason) {
    CUmodule module = nullptr;
    EXPECT_CU(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, image("sm_75.cubin").data()));
    EXPECT_CU(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, image("cubins.fatbin").data()));
    EXPECT_CU(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, "\1\2\3\4"));
    EXPECT_CU(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&module, "/nowhere/at/all.ptx"));
    char errors[512] = "?";
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void* values[] = {errors, reinterpret_cast<void*>(sizeof errors)};
    const char* text =
        ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k()\n{\n  frobnicate.u32 %r1;\n  "
        "ret;\n}\n";
    EXPECT_CU(CUDA_ERROR_INVALID_PTX, cuModuleLoadDataEx(&module, text, 2, options, values));
    EXPECT_NE(std::string(errors).find("frobnicate"), std::string::npos) << errors;
    EXPECT_NE(std::string(errors).find("6"), std::string::npos) << errors;  // its line
    EXPECT_EQ(reinterpret_cast<size_t>(values[1]), strlen(errors));
}

TEST_F(Libraries, KernelsAndVariables) {
    CUlibrary library = nullptr;
    ASSERT_OK(
        cuLibraryLoadData(&library, image("zstd.fatbin").data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
    CUkernel kernel = nullptr, other = nullptr;
    EXPECT_OK(cuLibraryGetKernel(&kernel, library, "store"));
    EXPECT_OK(cuLibraryGetKernel(&other, library, "use_variables"));
    EXPECT_CU(CUDA_ERROR_NOT_FOUND, cuLibraryGetKernel(&other, library, "absent"));
    unsigned count = 0;
    EXPECT_OK(cuLibraryGetKernelCount(&count, library));
    EXPECT_GT(count, 10u);
    const char* name = nullptr;
    EXPECT_OK(cuKernelGetName(&name, kernel));
    EXPECT_STREQ(name, "store");
    size_t offset = 0, size = 0;
    EXPECT_OK(cuKernelGetParamInfo(kernel, 1, &offset, &size));
    EXPECT_EQ(offset, 8u);
    EXPECT_EQ(size, 4u);
    // Launched as a kernel, and as its function in this context.
    auto out = allocate(4);
    EXPECT_OK(launch(reinterpret_cast<CUfunction>(kernel), nullptr, 1, out, 5));
    EXPECT_EQ(read<int>(out), 5);
    CUfunction function = nullptr;
    EXPECT_OK(cuKernelGetFunction(&function, kernel));
    EXPECT_OK(launch(function, nullptr, 1, out, 6));
    EXPECT_EQ(read<int>(out), 6);
    int value = 0;
    EXPECT_OK(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 60000, kernel, device));
    EXPECT_OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, function));
    EXPECT_EQ(value, 60000);
    CUmodule module = nullptr;
    CUdeviceptr counter = 0, same = 0;
    EXPECT_OK(cuLibraryGetModule(&module, library));
    EXPECT_OK(cuLibraryGetGlobal(&counter, &size, library, "counter"));
    EXPECT_OK(cuModuleGetGlobal(&same, nullptr, module, "counter"));
    EXPECT_EQ(counter, same);
    EXPECT_OK(cuLibraryGetManaged(&same, &size, library, "managed"));
    EXPECT_CU(CUDA_ERROR_NOT_FOUND, cuLibraryGetManaged(&same, &size, library, "counter"));

    // Another context has variables of its own.
    CUcontext second = nullptr;
    ASSERT_OK(cuCtxCreate(&second, nullptr, 0, 1));
    EXPECT_OK(cuLibraryGetGlobal(&same, nullptr, library, "counter"));
    EXPECT_NE(same, counter);
    EXPECT_OK(cuCtxDestroy(second));

    EXPECT_CU(CUDA_ERROR_NOT_PERMITTED, cuModuleUnload(module));
    EXPECT_OK(cuLibraryUnload(library));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuLibraryUnload(library));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuKernelGetFunction(&function, kernel));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, launch(function, nullptr, 1, out, 6));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(&value, counter, 4));
}

TEST_F(Modules, UnloadWaitsForKernels) {
    auto module = load();
    void* memory = nullptr;
    ASSERT_OK(cuMemHostAlloc(&memory, 4096, 0));
    auto flag = static_cast<volatile int*>(memory);
    memset(memory, 0, 8);
    CUstream stream;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    auto address = reinterpret_cast<CUdeviceptr>(memory);
    EXPECT_OK(launch(function(module, "wait_for"), stream, 1, address, address + 4));
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
    std::thread opener([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        flag[0] = 1;
    });
    EXPECT_OK(cuModuleUnload(module));
    EXPECT_EQ(flag[1], 1);
    opener.join();
}
