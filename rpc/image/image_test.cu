// SPDX-License-Identifier: MIT
// One variable of each kind that an image can name, and enough text that a compressor finds something to do.
namespace {
__device__ short anonymous_variable;
}
static __device__ int static_variable = 7;
__device__ double plain_variable[3];
__device__ float4 vector_variable[2];
__constant__ float constant_variable[4] = {1, 2, 3, 4};
__managed__ long managed_variable = 5;

template <typename T>
__global__ void templated(T* a, int n) {
    static __device__ int local_variable;
    __shared__ T shared_variable[64];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    shared_variable[threadIdx.x % 64] = a[i];
    __syncthreads();
    a[i] = shared_variable[(i + 1) % 64] * constant_variable[i % 4] + static_variable + anonymous_variable;
    local_variable++;
    managed_variable++;
    plain_variable[i % 3] += vector_variable[i % 2].z;
}
template __global__ void templated<float>(float*, int);
template __global__ void templated<double>(double*, int);

extern "C" __global__ void plain_kernel(int* p) { atomicAdd(p, 1); }
