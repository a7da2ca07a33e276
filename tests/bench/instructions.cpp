// SPDX-License-Identifier: MIT
// What the commonest calls cost the application's thread, in instructions: each is made a thousand times between two
// requests to callgrind, which instructions.py counts. Posted calls never wait here, so the counts repeat exactly.
#include <cuda.h>
#include <valgrind/callgrind.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

constexpr unsigned repeats = 1000;

void check(CUresult result, const char* what) {
    if (result == CUDA_SUCCESS) return;
    std::fprintf(stderr, "instructions: %s: error %d\n", what, static_cast<int>(result));
    std::exit(EXIT_FAILURE);
}

template <class Call>
void count(const char* name, Call call) {
    check(call(), name);  // what the first call of a kind asks the server is not of interest
    check(cuCtxSynchronize(), name);
    CALLGRIND_ZERO_STATS;
    CALLGRIND_TOGGLE_COLLECT;
    CUresult result = CUDA_SUCCESS;
    for (unsigned i = 0; i < repeats; ++i)
        if (const CUresult one = call(); one != CUDA_SUCCESS) result = one;
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS_AT(name);
    check(result, name);
    check(cuCtxSynchronize(), name);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: instructions MODULE\n");
        return EXIT_FAILURE;
    }
    std::ifstream file(argv[1], std::ios::binary);
    std::vector<char> image(std::istreambuf_iterator<char>(file), {});
    image.push_back('\0');
    check(cuInit(0), "cuInit");
    CUcontext context;
    check(cuDevicePrimaryCtxRetain(&context, 0), "context");
    check(cuCtxSetCurrent(context), "context");
    CUmodule module;
    check(cuModuleLoadData(&module, image.data()), "module");
    CUfunction kernel;
    check(cuModuleGetFunction(&kernel, module, "advance"), "kernel");
    CUstream stream, other;
    check(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "stream");
    check(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING), "stream");
    CUevent event;
    check(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "event");
    CUdeviceptr memory;
    check(cuMemAlloc(&memory, 4096), "memory");

    unsigned short none = 0;  // of the values: the kernel returns at once
    struct {
        unsigned char shift;
        unsigned slope;
    } line{};
    unsigned long long step = 0;
    void* parameters[] = {&memory, &none, &line, &step};
    count("launch", [&] { return cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr); });
    count("event record", [&] { return cuEventRecord(event, stream); });
    count("stream wait event", [&] { return cuStreamWaitEvent(other, event, 0); });
    count("memset async", [&] { return cuMemsetD8Async(memory, 0, 16, stream); });
    const int four_bytes = 0;
    count("4-byte copy H2D", [&] { return cuMemcpyHtoDAsync(memory, &four_bytes, sizeof four_bytes, stream); });
    count("current device", [&] { CUdevice device; return cuCtxGetDevice(&device); });
    count("current context", [&] { CUcontext current; return cuCtxGetCurrent(&current); });
    count("device attribute", [&] {
        int value;
        return cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0);
    });
    count("function attribute", [&] {
        int value;
        return cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, kernel);
    });
    count("stream is capturing", [&] { CUstreamCaptureStatus status; return cuStreamIsCapturing(stream, &status); });
    count("pointer attributes", [&] {  // those that cudaPointerGetAttributes asks for
        CUcontext owner;
        CUmemorytype kind;
        CUdeviceptr on_device;
        void* on_host;
        unsigned managed;
        int ordinal;
        CUpointer_attribute asked[] = {CU_POINTER_ATTRIBUTE_CONTEXT,      CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
                                       CU_POINTER_ATTRIBUTE_HOST_POINTER, CU_POINTER_ATTRIBUTE_IS_MANAGED,  CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
        void* answers[] = {&owner, &kind, &on_device, &on_host, &managed, &ordinal};
        return cuPointerGetAttributes(6, asked, answers, memory);
    });
    // A large program: ten thousand functions, launched in turn.
    constexpr unsigned modules = 20, in_module = 500;
    std::vector<CUfunction> functions;
    for (unsigned number = 0; number < modules; ++number) {
        std::string text = ".version 7.5\n.target sm_75\n.address_size 64\n";
        for (unsigned i = 0; i < in_module; ++i) text.append(".visible .entry f").append(std::to_string(i)).append("() { ret; }\n");
        CUmodule one;
        check(cuModuleLoadData(&one, text.c_str()), "module");
        for (unsigned i = 0; i < in_module; ++i) {
            CUfunction function;
            char name[16];
            std::snprintf(name, sizeof name, "f%u", i);
            check(cuModuleGetFunction(&function, one, name), "function");
            check(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr), "launch");
            functions.push_back(function);
        }
    }
    size_t next = 0;
    count("launch of 10,000 functions", [&] {
        next = (next + 37) % functions.size();
        return cuLaunchKernel(functions[next], 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr);
    });
    return EXIT_SUCCESS;
}
