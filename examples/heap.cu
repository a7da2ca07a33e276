// SPDX-License-Identifier: MIT
// A queue whose nodes kernels take from the device heap with malloc() and give back with free(): device memory that
// no allocation of the host's knows of.
#include "example.h"

using namespace example;

struct Node {
    Node* next;
    unsigned value;
};

__device__ Node* first;
__device__ Node* last;
__device__ unsigned failures;

__global__ void push(unsigned value) {
    auto* node = static_cast<Node*>(malloc(sizeof(Node)));
    if (!node) {
        ++failures;
        return;
    }
    node->next = nullptr;
    node->value = value;
    (last ? last->next : first) = node;
    last = node;
}

__global__ void pop(unsigned* value) {
    Node* node = first;
    *value = node ? node->value : ~0u;
    if (!node) return;
    first = node->next;
    if (!first) last = nullptr;
    free(node);
}

int main(int argc, char** argv) {
    Common common = {.steps = 500};
    parse(argc, argv, common);
    constexpr long length = 20;

    unsigned* out;
    CUDA_CHECK(cudaMalloc(&out, sizeof *out));
    long step = 0;
    for (; !done(common, step); ++step) {
        push<<<1, 1>>>(static_cast<unsigned>(step) * 3);
        if (step >= length) {
            unsigned value = 0;
            pop<<<1, 1>>>(out);
            CUDA_CHECK(cudaMemcpy(&value, out, sizeof value, cudaMemcpyDeviceToHost));
            const auto expected = static_cast<unsigned>(step - length) * 3;
            if (value != expected) fail("heap: step %ld: the queue gives %u, not %u", step, value, expected);
        }
        CUDA_CHECK(cudaGetLastError());
        if (time_to_report(common)) {
            std::printf("step %ld\n", step);
            std::fflush(stdout);
        }
        pause(common);
    }
    unsigned lost = 0;
    CUDA_CHECK(cudaMemcpyFromSymbol(&lost, failures, sizeof lost));
    if (lost) fail("heap: %u of malloc()'s answers were null", lost);
    return pass("heap: %ld steps", step);
}
