// SPDX-License-Identifier: MIT
// Kernels that take memory from the device heap, and one that does not.
extern "C" {
__global__ void allocating(int** out) { *out = static_cast<int*>(malloc(sizeof(int))); }
__global__ void plain(int* out) { *out = 1; }
}
static __device__ __noinline__ void* deeper(int bytes) { return bytes > 0 ? malloc(bytes) : nullptr; }
extern "C" __global__ void calling(void** out, int bytes) { *out = deeper(bytes); }
