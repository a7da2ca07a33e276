// SPDX-License-Identifier: MIT
// A counter that survives the loss of its GPU's contents: when a call fails it says with which error, tries that once more (it
// must stay the same one), resets the device and begins again from zero. So it is what a program must be that is checkpointed
// without its GPU.
#include <dlfcn.h>

#include "../../examples/example.h"

using namespace example;

__device__ unsigned long long device_counter;

__global__ void increment(unsigned long long by, unsigned long long* also) {
    device_counter += by;
    *also += by;
}

struct Memory {
    unsigned long long* device = nullptr;
    cudaStream_t stream = nullptr;
    unsigned long long host = 0;
};

static cudaError_t begin(Memory& memory) {
    memory.host = 0;
    cudaError_t error = cudaMalloc(&memory.device, sizeof *memory.device);
    if (error == cudaSuccess) error = cudaMemset(memory.device, 0, sizeof *memory.device);
    if (error == cudaSuccess) error = cudaStreamCreate(&memory.stream);
    return error;
}

static cudaError_t step_once(Memory& memory, long step) {
    const auto by = static_cast<unsigned long long>(step) + 1;
    increment<<<1, 1, 0, memory.stream>>>(by, memory.device);
    cudaError_t error = cudaGetLastError();
    unsigned long long seen[2] = {};
    if (error == cudaSuccess) error = cudaStreamSynchronize(memory.stream);
    if (error == cudaSuccess) error = cudaMemcpyFromSymbol(&seen[0], device_counter, sizeof seen[0]);
    if (error == cudaSuccess) error = cudaMemcpy(&seen[1], memory.device, sizeof seen[1], cudaMemcpyDeviceToHost);
    if (error != cudaSuccess) return error;
    memory.host += by;
    if (seen[0] != memory.host || seen[1] != memory.host)
        fail("resets: step %ld: the device counts %llu and %llu, the host %llu", step, seen[0], seen[1], memory.host);
    return cudaSuccess;
}

int main(int argc, char** argv) {
    Common common = {.steps = 1000};
    long device = 0;
    parse(argc, argv, common, {{"device", "to use; where there is none any more after a reset, the first (0)", &device}});
    Memory memory;
    CUDA_CHECK(cudaSetDevice(static_cast<int>(device)));
    CUDA_CHECK(begin(memory));
    long step = 0;
    int losses = 0;
    for (; !done(common, step); ++step) {
        const cudaError_t error = step_once(memory, step);
        if (error != cudaSuccess) {
            std::printf("lost %s\n", cudaGetErrorName(error));
            std::fflush(stdout);
            void* more = nullptr;
            const cudaError_t again = cudaMalloc(&more, 1);
            if (again != error) fail("resets: first %s, then %s", cudaGetErrorName(error), cudaGetErrorName(again));
            ++losses;
            const cudaError_t reset = cudaDeviceReset();
            if (reset != cudaSuccess) {
                cudaGetLastError();
                const cudaError_t still = cudaSetDevice(static_cast<int>(device));
                // What the runtime has once counted it does not count again.
                void* driver = dlopen("libcuda.so.1", RTLD_NOW);
                auto* count = reinterpret_cast<int (*)(int*)>(driver ? dlsym(driver, "cuDeviceGetCount") : nullptr);
                int devices = 0;
                if (!count || count(&devices) != 0) fail("resets: the driver does not tell how many devices there are");
                std::printf("gone %s, %s, %s\n", cudaGetErrorName(reset), cudaGetErrorName(still),
                            device < devices ? "still listed" : "not listed");
                std::fflush(stdout);
                CUDA_CHECK(cudaSetDevice(0));
            }
            cudaGetLastError();  // is that of before
            CUDA_CHECK(begin(memory));
            std::printf("works again\n");
            std::fflush(stdout);
        }
        pause(common);
    }
    return pass("resets: %ld steps, %d losses", step, losses);
}
