// SPDX-License-Identifier: MIT
// Modules, libraries, kernels, functions, occupancy, the linker, launches in all their ways.
#include <cstring>
#include <vector>

#include "conform.h"

namespace conform {
extern "C" const unsigned char conform_kernels[];
}
using conform::conform_kernels;

CASE(modules) {
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    CHECK(cuModuleLoadData(nullptr, conform_kernels));
    CHECK(cuModuleLoadData(&module, nullptr));
    CHECK(cuModuleLoadData(&module, "this is no image"));
    CHECK(cuModuleLoadData(&module, ".version 7.0\n.target sm_52\n.address_size 64\n.visible .entry broken() { nonsense; }\n"));
    CHECK(cuModuleLoad(&module, "/nonexistent/file.ptx"));
    CHECK(cuModuleLoad(&module, nullptr));
    NEED(cuModuleLoadData(&module, conform_kernels));
    unsigned count = 0;
    CHECK(cuModuleGetFunctionCount(&count, module));
    VALUE(count);
    std::vector<CUfunction> all(count + 2);
    CHECK(cuModuleEnumerateFunctions(all.data(), count, module));
    CHECK(cuModuleGetFunction(&function, module, "absent"));
    CHECK(cuModuleGetFunction(&function, module, nullptr));
    CHECK(cuModuleGetFunction(nullptr, module, "fill"));
    CHECK(cuModuleGetFunction(&function, nullptr, "fill"));
    NEED(cuModuleGetFunction(&function, module, "fill"));
    CUmodule of_function = nullptr;
    CHECK(cuFuncGetModule(&of_function, function));
    VALUE(of_function == module);
    const char* name = nullptr;
    CHECK(cuFuncGetName(&name, function));
    conform::text("name", name ? name : "(null)");
    int value = 0;
    for (int attribute : {0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15}) {
        value = -7;
        const CUresult result = cuFuncGetAttribute(&value, static_cast<CUfunction_attribute>(attribute), function);
        char line[64];
        std::snprintf(line, sizeof line, "attribute %d: %d", attribute, static_cast<int>(result));
        conform::value(line, value);
    }
    CHECK(cuFuncGetAttribute(&value, static_cast<CUfunction_attribute>(99), function));
    CHECK(cuFuncGetAttribute(nullptr, CU_FUNC_ATTRIBUTE_NUM_REGS, function));
    CHECK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, nullptr));
    CHECK(cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 60000));
    CHECK(cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 28));
    CHECK(cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_NUM_REGS, 3));
    CHECK(cuFuncSetCacheConfig(function, CU_FUNC_CACHE_PREFER_SHARED));
    size_t offset = 0, size = 0;
    for (int parameter = 0; parameter < 5; ++parameter) {
        CHECK(cuFuncGetParamInfo(function, parameter, &offset, &size));
        VALUE(offset);
        VALUE(size);
    }
    CUfunctionLoadingState state{};
    CHECK(cuFuncIsLoaded(&state, function));
    CHECK(cuFuncLoad(function));
    CHECK(cuFuncIsLoaded(&state, function));
    VALUE(state);
    CUmoduleLoadingMode mode{};
    CHECK(cuModuleGetLoadingMode(&mode));
    CUdeviceptr address = 0;
    CHECK(cuModuleGetGlobal(&address, &size, module, "counter"));
    VALUE(size);
    CHECK(cuMemcpyDtoH(&value, address, 4));
    VALUE(value);
    CHECK(cuModuleGetGlobal(nullptr, &size, module, "table"));
    VALUE(size);
    CHECK(cuModuleGetGlobal(&address, nullptr, module, "table"));
    CHECK(cuModuleGetGlobal(&address, &size, module, "absent"));
    CHECK(cuModuleUnload(module));
    CHECK(cuModuleUnload(nullptr));
}

CASE(jit_options) {
    char info[4096] = "", error[4096] = "";
    CUjit_option options[] = {CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, CU_JIT_ERROR_LOG_BUFFER,
                              CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_MAX_REGISTERS};
    void* values[] = {info, reinterpret_cast<void*>(sizeof info), error, reinterpret_cast<void*>(sizeof error),
                      reinterpret_cast<void*>(uintptr_t{32})};
    CUmodule module = nullptr;
    CHECK(cuModuleLoadDataEx(&module, conform_kernels, 5, options, values));
    CHECK(cuModuleUnload(module));
    CHECK(cuModuleLoadDataEx(&module, ".version 7.0\n.target sm_52\n.address_size 64\nnonsense\n", 5, options, values));
    VALUE(error[0] != 0);
    CHECK(cuModuleLoadDataEx(&module, conform_kernels, 1, nullptr, nullptr));
    CHECK(cuModuleLoadDataEx(&module, conform_kernels, 0, nullptr, nullptr));
    CHECK(cuModuleUnload(module));
}

CASE(libraries) {
    CUlibrary library = nullptr;
    CUkernel kernel = nullptr;
    CHECK(cuLibraryLoadData(&library, nullptr, nullptr, nullptr, 0, nullptr, nullptr, 0));
    CHECK(cuLibraryLoadFromFile(&library, "/nonexistent", nullptr, nullptr, 0, nullptr, nullptr, 0));
    NEED(cuLibraryLoadData(&library, conform_kernels, nullptr, nullptr, 0, nullptr, nullptr, 0));
    unsigned count = 0;
    CHECK(cuLibraryGetKernelCount(&count, library));
    VALUE(count);
    CHECK(cuLibraryGetKernel(&kernel, library, "absent"));
    NEED(cuLibraryGetKernel(&kernel, library, "saxpy"));
    const char* name = nullptr;
    CHECK(cuKernelGetName(&name, kernel));
    conform::text("name", name ? name : "(null)");
    CUfunction function = nullptr;
    CHECK(cuKernelGetFunction(&function, kernel));
    int value = 0;
    CHECK(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, 0));
    VALUE(value);
    CHECK(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, 99));
    CHECK(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 4096, kernel, 0));
    CHECK(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel, 0));
    VALUE(value);
    size_t offset = 0, size = 0;
    CHECK(cuKernelGetParamInfo(kernel, 2, &offset, &size));
    VALUE(offset);
    CHECK(cuKernelGetParamInfo(kernel, 9, &offset, &size));
    CUlibrary of_kernel = nullptr;
    CHECK(cuKernelGetLibrary(&of_kernel, kernel));
    VALUE(of_kernel == library);
    CUmodule module = nullptr;
    CHECK(cuLibraryGetModule(&module, library));
    VALUE(module != nullptr);
    CUdeviceptr address = 0;
    CHECK(cuLibraryGetGlobal(&address, &size, library, "table"));
    VALUE(size);
    CHECK(cuLibraryGetGlobal(&address, &size, library, "absent"));
    CHECK(cuLibraryGetManaged(&address, &size, library, "counter"));
    void* unified = nullptr;
    CHECK(cuLibraryGetUnifiedFunction(&unified, library, "absent"));
    CHECK(cuLibraryUnload(library));
    CHECK(cuLibraryUnload(nullptr));
}

CASE(occupancy) {
    CUfunction function = conform::kernel("fill");
    if (!function) return;
    int blocks = 0, block = 0;
    for (int threads : {32, 128, 1024}) {
        CHECK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, threads, 0));
        VALUE(blocks);
    }
    CHECK(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, function, 256, 1024, 0));
    VALUE(blocks);
    CHECK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, 0, 0));
    CHECK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nullptr, 32, 0));
    CHECK(cuOccupancyMaxActiveBlocksPerMultiprocessor(nullptr, function, 32, 0));
    CHECK(cuOccupancyMaxPotentialBlockSize(&blocks, &block, function, nullptr, 0, 0));
    VALUE(blocks);
    VALUE(block);
    size_t dynamic = 0;
    CHECK(cuOccupancyAvailableDynamicSMemPerBlock(&dynamic, function, 2, 128));
    VALUE(dynamic);
}

CASE(launches) {
    CUfunction fill = conform::kernel("fill"), shape = conform::kernel("shape"), reverse = conform::kernel("reverse");
    CUdeviceptr memory = 0;
    if (!fill || !shape || !reverse) return;
    NEED(cuMemAlloc(&memory, 4096));
    NEED(cuMemsetD8(memory, 0, 4096));
    unsigned value = 5, count = 1000;
    std::vector<unsigned> back(1024);
    void* parameters[] = {&memory, &value, &count};
    const auto show = [&](const char* what) {
        CHECK(cuCtxSynchronize());
        CHECK(cuMemcpyDtoH(back.data(), memory, 4096));
        conform::bytes(what, back.data(), 4096);
    };
    CHECK(cuLaunchKernel(fill, 8, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
    show("parameters");
    struct {
        CUdeviceptr out;
        unsigned value, count;
    } packed{memory, 77, 500};
    size_t size = sizeof packed;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END};
    CHECK(cuLaunchKernel(fill, 8, 1, 1, 128, 1, 1, 0, nullptr, nullptr, extra));
    show("extra");
    FAULT(cuLaunchKernel(fill, 8, 1, 1, 128, 1, 1, 0, nullptr, parameters, extra));
    FAULT(cuLaunchKernel(nullptr, 8, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
    FAULT(cuLaunchKernel(fill, 0, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
    FAULT(cuLaunchKernel(fill, 1, 1, 1, 0, 1, 1, 0, nullptr, parameters, nullptr));
    FAULT(cuLaunchKernel(fill, 1, 1, 1, 2048, 1, 1, 0, nullptr, parameters, nullptr));
    FAULT(cuLaunchKernel(fill, 1, 70000, 1, 32, 1, 1, 0, nullptr, parameters, nullptr));
    FAULT(cuLaunchKernel(fill, 1, 1, 1, 32, 1, 1, 1 << 20, nullptr, parameters, nullptr));
    CHECK(cuMemsetD8(memory, 0, 4096));
    void* one[] = {&memory};
    CHECK(cuLaunchKernel(shape, 3, 4, 5, 6, 2, 3, 0, nullptr, one, nullptr));
    show("shape");
    CHECK(cuLaunchKernel(fill, 8, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
    CHECK(cuLaunchKernel(reverse, 1, 1, 1, 256, 1, 1, 1024, nullptr, one, nullptr));
    show("shared");
    CUlaunchConfig config{};
    config.gridDimX = 4, config.gridDimY = config.gridDimZ = 1;
    config.blockDimX = 64, config.blockDimY = config.blockDimZ = 1;
    CHECK(cuLaunchKernelEx(&config, fill, parameters, nullptr));
    CUlaunchAttribute attribute{};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PRIORITY;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CHECK(cuLaunchKernelEx(&config, fill, parameters, nullptr));
    attribute.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    attribute.value.cooperative = 1;
    CHECK(cuLaunchKernelEx(&config, fill, parameters, nullptr));
    show("configured");
    FAULT(cuLaunchKernelEx(nullptr, fill, parameters, nullptr));
    CHECK(cuLaunchCooperativeKernel(fill, 2, 1, 1, 64, 1, 1, 0, nullptr, parameters));
    FAULT(cuLaunchCooperativeKernel(fill, 1 << 20, 1, 1, 1024, 1, 1, 0, nullptr, parameters));
    show("cooperative");
    CHECK(cuMemFree(memory));
}

CASE(large_parameters) {
    struct {
        int head;
        int values[500];
        double tail;
    } data{};
    CUfunction large = conform::kernel("large");
    CUdeviceptr memory = 0;
    if (!large) return;
    NEED(cuMemAlloc(&memory, 8));
    data.head = 3;
    data.tail = 0.25;
    for (int i = 0; i < 500; ++i) data.values[i] = i;
    void* parameters[] = {&data, &memory};
    CHECK(cuLaunchKernel(large, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
    double sum = 0;
    CHECK(cuMemcpyDtoH(&sum, memory, sizeof sum));
    VALUE(sum * 4);
    CHECK(cuMemFree(memory));
}

CASE_ALONE(globals) {
    CUfunction function = conform::kernel("use_globals");
    CUdeviceptr memory = 0;
    if (!function) return;
    NEED(cuMemAlloc(&memory, 128));
    void* parameters[] = {&memory};
    int back[32];
    for (int turn = 0; turn < 3; ++turn) {
        CHECK(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr));
        CHECK(cuMemcpyDtoH(back, memory, sizeof back));
        conform::bytes("sums", back, sizeof back);
    }
}

CASE(linker) {
    CUlinkState state = nullptr;
    NEED(cuLinkCreate(0, nullptr, nullptr, &state));
    CHECK(cuLinkAddData(state, CU_JIT_INPUT_PTX, const_cast<unsigned char*>(conform_kernels),
                        std::strlen(reinterpret_cast<const char*>(conform_kernels)) + 1, "kernels", 0, nullptr, nullptr));
    CHECK(cuLinkAddFile(state, CU_JIT_INPUT_PTX, "/nonexistent", 0, nullptr, nullptr));
    void* image = nullptr;
    size_t size = 0;
    NEED(cuLinkComplete(state, &image, &size));
    VALUE(size > 0);
    CUmodule module = nullptr;
    CHECK(cuModuleLoadData(&module, image));
    CUfunction function = nullptr;
    CHECK(cuModuleGetFunction(&function, module, "fill"));
    CHECK(cuLinkDestroy(state));
    CHECK(cuModuleUnload(module));
}

// A kernel that reads where nothing is: the error is sticky.
CASE_ALONE(illegal_address) {
    CUfunction fill = conform::kernel("fill");
    if (!fill) return;
    CUdeviceptr nowhere = 0x10, memory = 0;
    unsigned value = 1, count = 32;
    void* parameters[] = {&nowhere, &value, &count};
    CHECK(cuLaunchKernel(fill, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr));
    CHECK(cuCtxSynchronize());
    CHECK(cuCtxSynchronize());
    CHECK(cuMemAlloc(&memory, 16));
    CHECK(cuStreamQuery(nullptr));
    CUevent event = nullptr;
    CHECK(cuEventCreate(&event, 0));
    CUdevice device = -1;
    CHECK(cuCtxGetDevice(&device));
    CHECK(cuDeviceGet(&device, 0));
}
