// SPDX-License-Identifier: MIT
// Code that is loaded after executable graphs and streams which are gone took room of the driver's: a large and a small module between
// them, whose variables hold pointers to themselves. Each step counts in all of them, and finds them where they were.
#include <cuda.h>

#include <cstdio>
#include <string>
#include <vector>

#include "../../examples/example.h"

using namespace example;

#define CU(call)                                                                          \
    do {                                                                                  \
        const CUresult status = (call);                                                   \
        const char* name = "?";                                                           \
        if (status != CUDA_SUCCESS) {                                                     \
            cuGetErrorName(status, &name);                                                \
            fail("displaced: %s: %s", #call, name);                                       \
        }                                                                                 \
    } while (0)

__global__ void nothing() {}

struct Code {
    CUmodule module = nullptr;
    CUfunction count = nullptr;
    CUdeviceptr place = 0;
};

static Code load(size_t bytes) {
    const std::string ptx = R"(
.version 6.4
.target sm_50
.address_size 64
.visible .global .align 8 .b8 words[)" + std::to_string(bytes) + R"(];
.visible .entry count()
{
    .reg .b64 %p, %n;
    mov.u64 %p, words;
    ld.global.u64 %n, [%p];
    add.s64 %n, %n, 1;
    st.global.u64 [%p], %n;
    st.global.u64 [%p+8], %p;
    ret;
}
)";
    Code code;
    size_t size = 0;
    CU(cuModuleLoadData(&code.module, ptx.c_str()));
    CU(cuModuleGetFunction(&code.count, code.module, "count"));
    CU(cuModuleGetGlobal(&code.place, &size, code.module, "words"));
    const unsigned long long zeros[2] = {};
    CU(cuMemcpyHtoD(code.place, zeros, sizeof zeros));
    return code;
}

static void graph_that_goes(long nodes) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaGraphNode_t node;
    CUDA_CHECK(cudaGraphCreate(&graph, 0));
    cudaKernelNodeParams params = {};
    params.func = reinterpret_cast<void*>(nothing);
    params.gridDim = params.blockDim = dim3(1);
    for (long i = 0; i < nodes; ++i) CUDA_CHECK(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
    CUDA_CHECK(cudaGraphInstantiate(&exec, graph, 0));
    CUDA_CHECK(cudaGraphLaunch(exec, nullptr));
    CUDA_CHECK(cudaDeviceSynchronize());
    CUDA_CHECK(cudaGraphExecDestroy(exec));
    CUDA_CHECK(cudaGraphDestroy(graph));
}

static void streams_that_go(long number) {
    for (long i = 0; i < number; ++i) {
        cudaStream_t stream;
        CUDA_CHECK(cudaStreamCreate(&stream));
        nothing<<<1, 1, 0, stream>>>();
        CUDA_CHECK(cudaStreamDestroy(stream));
    }
}

int main(int argc, char** argv) {
    Common common = {.steps = 1000};
    long nodes = 1500, streams = 8;
    parse(argc, argv, common, {{"nodes", "of the graphs that take room (1500)", &nodes}, {"streams", "that take room (8)", &streams}});
    CUDA_CHECK(cudaFree(nullptr));  // begins
    std::vector<Code> all = {load(64)};
    graph_that_goes(nodes);
    all.push_back(load(5 << 20));
    streams_that_go(streams);
    graph_that_goes(2 * nodes);
    all.push_back(load(9 << 20));
    for (int i = 0; i < 30; ++i) all.push_back(load(100 << 10));
    std::puts("all is loaded");
    std::fflush(stdout);
    unsigned long long step = 0;
    for (; !done(common, static_cast<long>(step)); ++step) {
        for (const Code& code : all) {
            CU(cuLaunchKernel(code.count, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
            unsigned long long seen[2] = {};
            CU(cuMemcpyDtoH(seen, code.place, sizeof seen));
            if (seen[0] != step + 1 || seen[1] != code.place)
                fail("displaced: step %llu: %llu at %llx, which is at %llx", step, seen[0], seen[1], static_cast<unsigned long long>(code.place));
        }
        pause(common);
    }
    return pass("displaced: %llu steps", step);
}
