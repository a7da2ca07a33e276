// SPDX-License-Identifier: MIT
// Kernels in ordinary CUDA C++, compiled to PTX with and without optimization for cuda_test.cpp.
#include <assert.h>
#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdio.h>

#include "functions.h"

#define KERNEL extern "C" __global__ void

__device__ int counter = 5;
__constant__ float weights[4] = {0.5f, 0.25f, 0.125f, 2.0f};
__managed__ int managed_word = 11;

__device__ __forceinline__ int thread_number() {
    return blockIdx.x * blockDim.x + threadIdx.x;
}

KERNEL all_integers(int64_t* out, int n) {
    int t = thread_number();
    if (t >= n) return;
    out[t] = divisions(t) + branches(t) + select_case(t, t * 3) + local_sort(t);
}

KERNEL recursion(int* out) {
    out[threadIdx.x] = ackermann(threadIdx.x % 3, threadIdx.x % 5);
}

KERNEL doubles(const double* in, double* out, int n) {
    int t = thread_number();
    if (t < n) out[t] = double_functions(t % 10, in[t]);
}

KERNEL floats(const float* in, float* out, int n) {
    int t = thread_number();
    if (t < n) out[t] = float_functions(t % 10, in[t]);
}

KERNEL reduce(const float* in, float* out, int n) {
    __shared__ float partial[32];
    float sum = 0;
    for (int i = thread_number(); i < n; i += gridDim.x * blockDim.x) sum += in[i] * weights[i % 4];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffff, sum, step);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0;
        for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
        if (threadIdx.x == 0) atomicAdd(out, sum);
    }
}

KERNEL histogram(const unsigned char* in, int* out, int n) {
    __shared__ int bins[256];
    for (int i = threadIdx.x; i < 256; i += blockDim.x) bins[i] = 0;
    __syncthreads();
    for (int i = thread_number(); i < n; i += gridDim.x * blockDim.x) atomicAdd(&bins[in[i]], 1);
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += blockDim.x)
        if (bins[i]) atomicAdd(&out[i], bins[i]);
}

KERNEL scan(const int* in, int* out) {
    extern __shared__ int values[];
    int t = threadIdx.x;
    values[t] = in[t];
    __syncthreads();
    for (int step = 1; step < blockDim.x; step *= 2) {
        int add = t >= step ? values[t - step] : 0;
        __syncthreads();
        values[t] += add;
        __syncthreads();
    }
    out[t] = values[t];
}

KERNEL transpose(const float* in, float* out, int width, int height) {
    __shared__ float tile[16][17];
    int x = blockIdx.x * 16 + threadIdx.x, y = blockIdx.y * 16 + threadIdx.y;
    if (x < width && y < height) tile[threadIdx.y][threadIdx.x] = in[y * width + x];
    __syncthreads();
    x = blockIdx.y * 16 + threadIdx.x;
    y = blockIdx.x * 16 + threadIdx.y;
    if (x < height && y < width) out[y * height + x] = tile[threadIdx.x][threadIdx.y];
}

struct Shape {
    __device__ virtual float area() const = 0;
};
struct Square : Shape {
    float side;
    __device__ float area() const override { return side * side; }
};
struct Box : Shape {
    float a, b;
    __device__ float area() const override { return a * b; }
};

__device__ int twice(int x) {
    return 2 * x;
}
__device__ int squared(int x) {
    return x * x;
}
__device__ int (*operations[2])(int) = {twice, squared};

KERNEL indirect(float* out, Mixed m, int flip) {
    int t = threadIdx.x;
    Square square;
    Box box;
    square.side = t;
    box.a = t;
    box.b = 3;
    const Shape* shape = t & flip ? static_cast<const Shape*>(&square) : &box;
    out[t] = shape->area() + operations[t % 3 == 0](t);
    Mixed changed = change(m, t + 1);
    out[t] += changed.word + (float)changed.real + changed.pair[t % 3] + (float)(changed.wide >> 40) +
              changed.small;
}

KERNEL print(int n, const char* text) {
    int t = threadIdx.x;
    if (t % 2 == n)
        printf("[%d] %5u|%-4x|%+.2f|%s|%c|%lld|%%|%08.3e|%llx\n", t, 7u, 255, 1.5 * t, text, 'a' + t,
               -(1ll << 40), 12345.678, 0xdeadbeefcafeull);
}

KERNEL check(int limit) {
    assert(threadIdx.x < limit && "too many threads");
}

KERNEL heap(int* out) {
    int* p = new int[threadIdx.x + 1];
    for (int i = 0; i <= threadIdx.x; ++i) p[i] = i;
    int sum = 0;
    for (int i = 0; i <= threadIdx.x; ++i) sum += p[i];
    out[threadIdx.x] = sum;
    delete[] p;
}

KERNEL halves(const float* in, float* out, int n) {
    int t = thread_number();
    if (t >= n) return;
    __half a = __float2half(in[t]), b = __float2half(in[(t + 1) % n]);
    __half2 pair = __halves2half2(a, b);
    pair = __hfma2(pair, pair, __float2half2_rn(0.5f));
    __nv_bfloat16 c = __float2bfloat16(in[t]);
    out[4 * t] = __half2float(__hadd(a, b));
    out[4 * t + 1] = __low2float(pair) + (__hgt(a, b) ? 100.0f : 0.0f);
    out[4 * t + 2] = __bfloat162float(__hmul(c, c));
    out[4 * t + 3] = __half2float(hexp2(a)) + __half2int_rn(b) + __half2float(__hmax(a, b));
}

KERNEL globals(int* out) {
    if (threadIdx.x == 0) {
        atomicAdd(&counter, 3);
        out[0] = counter;
        out[1] = managed_word;
        managed_word = 99;
    }
}

// Locks, last-block detection, warp votes: what waits for others.
__device__ int lock, finished;
KERNEL contention(int* protected_sum, int* out) {
    for (bool done = false; !done;) {
        if (atomicCAS(&lock, 0, 1) == 0) {
            __threadfence();
            *(volatile int*)protected_sum += threadIdx.x;
            __threadfence();
            atomicExch(&lock, 0);
            done = true;
        }
    }
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc((unsigned*)&finished, gridDim.x - 1) == gridDim.x - 1;
    if (__syncthreads_or(last)) {
        unsigned votes = __ballot_sync(0xffffffff, threadIdx.x % 3 == 0);
        if (threadIdx.x == 0) out[0] = *(volatile int*)protected_sum, out[1] = __popc(votes);
    }
}

// Every block sees what all blocks wrote before, round after round.
KERNEL grid_rounds(int* values, int* out) {
    cooperative_groups::grid_group grid = cooperative_groups::this_grid();
    int t = grid.thread_rank();
    for (int round = 0; round < 5; ++round) {
        values[t] = t * round;
        grid.sync();
        int other = (t * 7 + round) % grid.size();
        out[t] += values[other];
        grid.sync();
    }
    auto tile = cooperative_groups::tiled_partition<8>(cooperative_groups::this_thread_block());
    out[t] += 1000000 * tile.shfl(t, 3);
}

KERNEL bits(uint64_t* out) {
    unsigned t = threadIdx.x, v = (unsigned)mix(t);
    uint64_t w = mix(t + 1000);
    out[t] = (__brev(v) ^ __popcll(w)) + __clzll(w >> t) + __ffs(v) + __byte_perm(v, t, 0x2143) +
             __umulhi(v, 12345u) + __mul64hi(w, w) + __funnelshift_l(v, t, 5) + __sad(t, v, 3u) +
             __uhadd(v, t) + __vadd4(v, t) + __dp4a((int)v, (int)t, 3);
}
