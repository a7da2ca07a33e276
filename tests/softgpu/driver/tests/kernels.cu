// SPDX-License-Identifier: MIT
// Kernels and variables for the tests of the software GPU's driver.
#include <cassert>
#include <cstdio>

extern "C" {

__device__ int counter = 40;
__constant__ int scale[2] = {3, 5};
__managed__ long managed = 7;

struct Pair {
    char first;
    double second;
};

__global__ void vector_add(const float* a, const float* b, float* c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) c[i] = a[i] + b[i];
}

__global__ void store(int* p, int value) { *p = value; }
__global__ void add_one(int* p) { *p += 1; }
__global__ void use_variables(int* out) {
    counter += 2;
    managed += 1;
    out[0] = counter * scale[0] + scale[1];
}
__global__ void use_pair(Pair pair, char tail, double* out) { *out = pair.first + pair.second + tail; }
__global__ void reverse(int* data) {
    extern __shared__ int tile[];
    tile[threadIdx.x] = data[threadIdx.x];
    __syncthreads();
    data[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}
// Ends when the host, or another stream, writes the flag.
__global__ void wait_for(volatile int* flag, int* done) {
    while (*flag == 0) {
    }
    *done = 1;
}
__global__ void allocate(int** out) {
    int* p = static_cast<int*>(malloc(sizeof(int)));
    *p = 1234;
    *out = p;
}
__global__ void read_back(int** in, int* out) {
    *out = **in;
    free(*in);
}
__global__ void __launch_bounds__(64) bounded(int* p) { *p = blockDim.x; }
__global__ void say(int value) { printf("kernel says %d\n", value); }
__global__ void check(int value) { assert(value == 0); }
__global__ void multiprocessors(unsigned long long* seen) {
    unsigned id;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
    atomicOr(seen, 1ull << id);
}
__global__ void trap() { asm volatile("trap;"); }
__global__ void misaligned(char* p) { *reinterpret_cast<int*>(p + 1) = 1; }
}

namespace {
__device__ int hidden = 11;
}
static __device__ short unseen[3];
extern "C" __global__ void use_hidden(int* out) { *out = hidden++ + unseen[1]++; }
