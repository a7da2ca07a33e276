// SPDX-License-Identifier: MIT
// Two counters, one in a __device__ variable and one on the host, that must agree for ever. The smallest
// program whose state lives half in the GPU: a launch that was lost or done twice makes them differ, a
// snapshot that forgot the variable too.
#include "example.h"

using namespace example;

__device__ unsigned long long device_counter;

__global__ void increment(unsigned long long by) {
    device_counter += by;
}

int main(int argc, char** argv) {
    Common common = {.steps = 1000};
    parse(argc, argv, common);

    unsigned long long host_counter = 0;
    long step = 0;
    for (; !done(common, step); ++step) {
        // The step number is added, not one: two launches in each other's place change nothing, but one left
        // out and another done twice do not cancel out.
        increment<<<1, 1>>>(static_cast<unsigned long long>(step) + 1);
        CUDA_CHECK(cudaGetLastError());
        host_counter += static_cast<unsigned long long>(step) + 1;

        unsigned long long seen = 0;
        CUDA_CHECK(cudaMemcpyFromSymbol(&seen, device_counter, sizeof seen));
        if (seen != host_counter)
            fail("counter: step %ld: the device counts %llu, the host %llu", step, seen, host_counter);
        if (time_to_report(common)) {
            std::printf("step %ld counter %llu\n", step, seen);
            std::fflush(stdout);
        }
        pause(common);
    }
    return pass("counter: %ld steps, both counters at %llu", step, host_counter);
}
