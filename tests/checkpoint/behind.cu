// SPDX-License-Identifier: MIT
// A copy into pageable memory behind a host function that takes its time: the answer to a call that waits when the program is
// dumped, with data that the device has not written yet.
#include <vector>

#include "../../examples/example.h"

using namespace example;

constexpr unsigned words = 64 * 1024;
static long work_us = 0;

__global__ void fill(unsigned* all, unsigned with) { all[blockIdx.x * blockDim.x + threadIdx.x] = with; }

static void CUDART_CB take_time(void*) { usleep(static_cast<useconds_t>(work_us)); }

int main(int argc, char** argv) {
    Common common = {.steps = 10};
    parse(argc, argv, common, {{"work-us", "time that a host function takes (0)", &work_us}});
    unsigned* device = nullptr;
    CUDA_CHECK(cudaMalloc(&device, words * sizeof(unsigned)));
    std::vector<unsigned> host(words);
    long step = 0;
    for (; !done(common, step); ++step) {
        const auto with = static_cast<unsigned>(step) + 1;
        CUDA_CHECK(cudaLaunchHostFunc(nullptr, take_time, nullptr));
        fill<<<words / 256, 256>>>(device, with);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaMemcpy(host.data(), device, words * sizeof(unsigned), cudaMemcpyDeviceToHost));
        for (unsigned i = 0; i < words; ++i)
            if (host[i] != with) fail("behind: in step %ld word %u is %u", step, i, host[i]);
        std::printf("step %ld\n", step);
        std::fflush(stdout);
    }
    CUDA_CHECK(cudaFree(device));
    return pass("behind: %ld steps", step);
}
