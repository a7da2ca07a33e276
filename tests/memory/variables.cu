// SPDX-License-Identifier: MIT
// __managed__ variables: what the host writes is there in the next kernel, what a kernel writes is there after waiting for
// it, and neither loses what the other wrote beside it.
#include <vector>

#include "examples/example.h"

using namespace example;

constexpr int kCount = 5000;
__managed__ int counter = 7;
__managed__ float table[kCount] = {1, 2, 3};
__managed__ struct Pair {
    int host, device;
} pair;

__global__ void work(int step) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i == 0) {
        counter += 10;
        pair.device = pair.host * 2 + step;
    }
    if (i < kCount) table[i] += static_cast<float>(i);
}

int main(int argc, char** argv) {
    Common common{.steps = 50};
    parse(argc, argv, common);
    if (counter != 7 || table[0] != 1 || table[2] != 3 || table[3] != 0) fail("the variables do not begin as they should");
    counter = 0;
    for (int i = 0; i < kCount; ++i) table[i] = 0;
    long step = 0;
    int expected = 0;
    for (; !done(common, step); ++step) {
        pair.host = static_cast<int>(step) + 5;
        work<<<(kCount + 127) / 128, 128>>>(static_cast<int>(step));
        CUDA_CHECK(cudaDeviceSynchronize());
        expected += 10;
        if (counter != expected) fail("step %ld: the counter is %d, not %d", step, counter, expected);
        if (pair.device != (static_cast<int>(step) + 5) * 2 + static_cast<int>(step) || pair.host != static_cast<int>(step) + 5)
            fail("step %ld: the pair is %d, %d", step, pair.host, pair.device);
        for (int i = 0; i < kCount; i += 7)
            if (table[i] != static_cast<float>(i) * static_cast<float>(step % 100 + 1)) fail("step %ld: table[%d] is %g", step, i, table[i]);
        if (step % 100 == 99)
            for (int i = 0; i < kCount; ++i) table[i] = 0;
        counter += 1;  // the host's own, in the midst
        expected += 1;
        if (time_to_report(common)) {
            std::printf("step %ld\n", step);
            std::fflush(stdout);
        }
        pause(common);
    }
    // By copies.
    int value = 4711;
    CUDA_CHECK(cudaMemcpyToSymbol(counter, &value, sizeof value));
    if (counter != 4711) fail("after a copy to it the counter is %d", counter);
    counter = 12;
    CUDA_CHECK(cudaMemcpyFromSymbol(&value, counter, sizeof value));
    if (value != 12) fail("a copy from the counter gives %d", value);
    return pass("%ld steps, the counter was %d", step, expected);
}
