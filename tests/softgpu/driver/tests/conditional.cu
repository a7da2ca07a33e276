// SPDX-License-Identifier: MIT
// A kernel that controls a conditional node. The function is the device runtime's, which only PTX can leave open.
extern "C" {

__device__ void cudaGraphSetConditional(unsigned long long handle, unsigned value);

// Sets the condition to what is left until *p is 5.
__global__ void count_down(int* p, unsigned long long condition) {
    cudaGraphSetConditional(condition, static_cast<unsigned>(5 - ++*p));
}
}
