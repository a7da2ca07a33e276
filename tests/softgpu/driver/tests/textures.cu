// SPDX-License-Identifier: MIT
// Kernels that read textures, and read and write surfaces, at places the host chooses.
extern "C" {

__global__ void sample_1d(cudaTextureObject_t t, const float* x, float* out) {
    out[threadIdx.x] = tex1D<float>(t, x[threadIdx.x]);
}
__global__ void fetch(cudaTextureObject_t t, const int* x, float* out) {
    out[threadIdx.x] = tex1Dfetch<float>(t, x[threadIdx.x]);
}
__global__ void sample_2d(cudaTextureObject_t t, const float2* at, float* out) {
    out[threadIdx.x] = tex2D<float>(t, at[threadIdx.x].x, at[threadIdx.x].y);
}
__global__ void sample_bytes(cudaTextureObject_t t, const float2* at, uchar4* out) {
    out[threadIdx.x] = tex2D<uchar4>(t, at[threadIdx.x].x, at[threadIdx.x].y);
}
__global__ void sample_3d(cudaTextureObject_t t, const float4* at, float* out) {
    float4 p = at[threadIdx.x];
    out[threadIdx.x] = tex3D<float>(t, p.x, p.y, p.z);
}
__global__ void sample_layer(cudaTextureObject_t t, const float2* at, float* out) {
    out[threadIdx.x] = tex2DLayered<float>(t, at[threadIdx.x].x, at[threadIdx.x].y, threadIdx.x);
}
__global__ void sample_cube(cudaTextureObject_t t, const float4* at, float* out) {
    float4 p = at[threadIdx.x];
    out[threadIdx.x] = texCubemap<float>(t, p.x, p.y, p.z);
}
__global__ void sample_level(cudaTextureObject_t t, const float* level, float* out) {
    out[threadIdx.x] = tex2DLod<float>(t, 0.5f, 0.5f, level[threadIdx.x]);
}
__global__ void gather(cudaTextureObject_t t, float4* out) { *out = tex2Dgather<float4>(t, 1.5f, 1.5f, 0); }
// Adds one to every element of the surface, and writes outside of it where that is allowed.
__global__ void add_one(cudaSurfaceObject_t s) {
    int x = threadIdx.x * sizeof(float), y = threadIdx.y;
    surf2Dwrite(surf2Dread<float>(s, x, y) + 1, s, x, y);
    surf2Dwrite(99.0f, s, x - 4000, y, cudaBoundaryModeZero);
}
__global__ void read_outside(cudaSurfaceObject_t s, float* out) {
    out[0] = surf2Dread<float>(s, -4, 0, cudaBoundaryModeZero);
    out[1] = surf2Dread<float>(s, -4, 0, cudaBoundaryModeClamp);
}
__global__ void trap_outside(cudaSurfaceObject_t s) { surf2Dwrite(1.0f, s, 4000, 0); }
}
