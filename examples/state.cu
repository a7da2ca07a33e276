// SPDX-License-Identifier: MIT
// One of everything that a snapshot must bring back, set up once and relied upon at every step: variables of all kinds
// (static and constant ones too), pointers to them in device memory, small and large allocations, a kernel's
// attributes, a stream's priority, events and their times, pinned and registered host memory that kernels use in place.
#include <cstdlib>
#include <vector>

#include "example.h"

using namespace example;

__device__ unsigned plain_variable = 1;
static __device__ unsigned static_variable = 2;
__constant__ unsigned constant_variable = 3;
__device__ unsigned array_variable[2] = {4, 4};
namespace {
__device__ unsigned unnamed_variable = 5;
}

struct Node {
    Node* next;
    unsigned* value;
};

// A linked list through device memory to all the variables: its sum is right only at the old addresses.
__global__ void link(Node* nodes, unsigned* allocated) {
    static __device__ unsigned local_variable = 6;
    unsigned* values[] = {&plain_variable, &static_variable, &array_variable[1], &unnamed_variable, &local_variable, allocated};
    for (int i = 0; i < 6; ++i) nodes[i] = {i < 5 ? &nodes[i + 1] : nullptr, values[i]};
}

__global__ void walk(const Node* node, unsigned* sum, unsigned* registered) {
    extern __shared__ unsigned scratch[];
    unsigned total = constant_variable;
    for (; node; node = node->next) total += (*node->value)++;
    scratch[16383] = total;  // the last word of 64 KiB: refused unless the attribute is kept
    *sum = scratch[16383];
    *registered += 1;
}

int main(int argc, char** argv) {
    Common common = {.steps = 300};
    parse(argc, argv, common);
    constexpr int shared_bytes = 64 * 1024;

    Node* nodes;
    unsigned *allocated, *big, *sum;
    constexpr size_t big_words = 1 << 20;
    CUDA_CHECK(cudaMalloc(&nodes, 6 * sizeof(Node)));
    CUDA_CHECK(cudaMalloc(&allocated, sizeof(unsigned)));
    CUDA_CHECK(cudaMalloc(&big, big_words * sizeof(unsigned)));
    CUDA_CHECK(cudaMallocHost(&sum, 4096));
    const unsigned seven = 7, thirteen = 13;
    CUDA_CHECK(cudaMemcpy(allocated, &seven, sizeof seven, cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaMemcpyToSymbol(constant_variable, &thirteen, sizeof thirteen));
    CUDA_CHECK(cudaMemset(big, 0x5a, big_words * sizeof(unsigned)));
    auto* registered = static_cast<unsigned*>(std::aligned_alloc(4096, 4096));
    std::memset(registered, 0, 4096);
    CUDA_CHECK(cudaHostRegister(registered, 4096, cudaHostRegisterDefault));
    unsigned* registered_device;
    CUDA_CHECK(cudaHostGetDevicePointer(&registered_device, registered, 0));
    CUDA_CHECK(cudaFuncSetAttribute(walk, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));

    int least = 0, greatest = 0, priority = 0;
    CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    cudaStream_t stream;
    CUDA_CHECK(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest));
    cudaEvent_t begin, before, after;
    for (cudaEvent_t* event : {&begin, &before, &after}) CUDA_CHECK(cudaEventCreate(event));
    CUDA_CHECK(cudaDeviceSynchronize());  // the stream does not wait for the copies and the memset
    link<<<1, 1, 0, stream>>>(nodes, allocated);
    CUDA_CHECK(cudaEventRecord(begin, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));

    std::vector<unsigned> pattern(big_words);
    unsigned expected = thirteen + 1 + 2 + 4 + 5 + 6 + 7;
    float last_ms = 0;
    long step = 0;
    for (; !done(common, step); ++step, expected += 6) {
        CUDA_CHECK(cudaEventRecord(before, stream));
        walk<<<1, 1, shared_bytes, stream>>>(nodes, sum, registered_device);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaEventRecord(after, stream));
        CUDA_CHECK(cudaEventSynchronize(after));
        if (*sum != expected) fail("state: step %ld: the list sums to %u, not %u", step, *sum, expected);
        if (*registered != static_cast<unsigned>(step) + 1)
            fail("state: step %ld: registered memory counts %u", step, *registered);
        float since_begin = 0, one = 0;
        CUDA_CHECK(cudaEventElapsedTime(&since_begin, begin, after));
        CUDA_CHECK(cudaEventElapsedTime(&one, before, after));
        // Event times are good to about a microsecond a second of distance.
        if (one < 0 || since_begin + 0.5f < last_ms)
            fail("state: step %ld: time runs backwards: %f ms, %f after %f ms", step, one, since_begin, last_ms);
        last_ms = since_begin;
        CUDA_CHECK(cudaStreamGetPriority(stream, &priority));
        if (priority != greatest) fail("state: step %ld: the stream's priority is %d, not %d", step, priority, greatest);
        if (step % 16 == 0) {
            CUDA_CHECK(cudaMemcpy(pattern.data(), big, big_words * sizeof(unsigned), cudaMemcpyDeviceToHost));
            for (size_t i = 0; i < big_words; ++i)
                if (pattern[i] != 0x5a5a5a5a) fail("state: step %ld: word %zu of memory is %#x", step, i, pattern[i]);
        }
        if (time_to_report(common)) {
            std::printf("step %ld sum %u\n", step, *sum);
            std::fflush(stdout);
        }
        pause(common);
    }
    CUDA_CHECK(cudaHostUnregister(registered));
    if (*registered != static_cast<unsigned>(step)) fail("state: unregistered memory holds %u", *registered);
    return pass("state: %ld steps, the list sums to %u", step, expected - 6);
}
