// SPDX-License-Identifier: MIT
// The kernel that drv.cpp loads as PTX, as a cubin and as a fatbin. Its parameters have different sizes, so
// that a launch must place each where the kernel expects it.
extern "C" {

struct Line {
    unsigned char shift;
    unsigned slope;
};

__device__ unsigned launches;
__constant__ unsigned offset;

__global__ void advance(unsigned* values, unsigned short count, Line line, unsigned long long step) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i == 0) ++launches;
    if (i < count) values[i] = values[i] * line.slope + ((unsigned)step << line.shift) + offset;
}
}
