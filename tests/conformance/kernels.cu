// SPDX-License-Identifier: MIT
// Kernels of the conformance cases, compiled to PTX so that any driver takes them.
extern "C" {

__device__ int counter = 7;
__constant__ int table[16] = {3, 1, 4, 1, 5, 9, 2, 6};

__global__ void fill(unsigned* out, unsigned value, unsigned n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = value + i;
}

__global__ void saxpy(float a, const float* x, float* y, unsigned n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}

__global__ void use_globals(int* out) {
    out[threadIdx.x] = counter + table[threadIdx.x % 16];
    if (threadIdx.x == 0) counter += 1;
}

__global__ void reverse(int* data) {
    extern __shared__ int part[];
    part[threadIdx.x] = data[threadIdx.x];
    __syncthreads();
    data[threadIdx.x] = part[blockDim.x - 1 - threadIdx.x];
}

struct Large {
    int head;
    int values[500];
    double tail;
};

__global__ void large(Large data, double* out) {
    double sum = data.head + data.tail;
    for (int i = 0; i < 500; ++i) sum += data.values[i];
    *out = sum;
}

__global__ void shape(unsigned* out) {
    if (blockIdx.x + blockIdx.y + blockIdx.z + threadIdx.x + threadIdx.y + threadIdx.z == 0) {
        out[0] = gridDim.x, out[1] = gridDim.y, out[2] = gridDim.z;
        out[3] = blockDim.x, out[4] = blockDim.y, out[5] = blockDim.z;
    }
    atomicAdd(&out[6], 1u);
}

}
