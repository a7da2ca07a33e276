// SPDX-License-Identifier: MIT
extern "C" {

__global__ void sample(float* out, cudaTextureObject_t texture, int width, int height) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x < width && y < height) out[y * width + x] = tex2D<float>(texture, x + 0.75f, y + 0.25f);
}

__global__ void draw(cudaSurfaceObject_t surface, int width, int height) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x < width && y < height) surf2Dwrite(static_cast<float>(x * y), surface, x * 4, y);
}

}
