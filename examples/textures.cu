// SPDX-License-Identifier: MIT
// CUDA arrays as textures and surfaces: each step a kernel reads a plane, a volume, the levels of a mipmap and linear memory
// through texture objects and writes a plane through a surface object, which then becomes the next step's plane. The host
// does the same with unsigned numbers and compares every one.
#include <cuda_runtime.h>

#include <vector>

#include "example.h"

using namespace example;

constexpr unsigned kWidth = 64, kHeight = 32, kSide = 8, kSlices = 4, kLevels = 3, kLine = 777;

struct Objects {
    cudaTextureObject_t plane, volume, levels, line;
    cudaSurfaceObject_t out;
};

__global__ void turn(const Objects* objects, unsigned level) {
    const unsigned x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= kWidth || y >= kHeight) return;
    const unsigned value = 5 * tex2D<unsigned>(objects->plane, x + 0.5f, y + 0.5f) +
                           tex3D<unsigned>(objects->volume, x % kSide + 0.5f, y % kSide + 0.5f, (x + y) % kSlices + 0.5f) +
                           tex2DLod<unsigned>(objects->levels, (x + 0.5f) / kWidth, (y + 0.5f) / kHeight, float(level)) +
                           tex1Dfetch<unsigned>(objects->line, int((y * kWidth + x) % kLine));
    surf2Dwrite(value, objects->out, int(x * sizeof value), int(y));
}

static std::vector<unsigned> numbers(size_t count, unsigned seed) {
    std::vector<unsigned> all(count);
    Random random(seed);
    for (unsigned& one : all) one = random.next();
    return all;
}

static cudaTextureObject_t texture(const cudaResourceDesc& resource, bool normalized) {
    cudaTextureDesc how = {};
    how.addressMode[0] = how.addressMode[1] = how.addressMode[2] = cudaAddressModeClamp;
    how.filterMode = how.mipmapFilterMode = cudaFilterModePoint;
    how.readMode = cudaReadModeElementType;
    how.normalizedCoords = normalized;
    how.maxMipmapLevelClamp = kLevels - 1;
    cudaTextureObject_t object = 0;
    CUDA_CHECK(cudaCreateTextureObject(&object, &resource, &how, nullptr));
    return object;
}

static cudaResourceDesc of(cudaArray_t array) {
    cudaResourceDesc resource = {};
    resource.resType = cudaResourceTypeArray;
    resource.res.array.array = array;
    return resource;
}

static void fill(cudaArray_t array, const std::vector<unsigned>& data, unsigned width, unsigned height) {
    const size_t pitch = width * sizeof(unsigned);
    CUDA_CHECK(cudaMemcpy2DToArray(array, 0, 0, data.data(), pitch, pitch, height, cudaMemcpyHostToDevice));
}

int main(int argc, char** argv) {
    Common common = {.steps = 200};
    parse(argc, argv, common);
    const cudaChannelFormatDesc format = cudaCreateChannelDesc<unsigned>();

    cudaArray_t plane = nullptr, next = nullptr, volume = nullptr;
    CUDA_CHECK(cudaMallocArray(&plane, &format, kWidth, kHeight));
    CUDA_CHECK(cudaMallocArray(&next, &format, kWidth, kHeight, cudaArraySurfaceLoadStore));
    CUDA_CHECK(cudaMalloc3DArray(&volume, &format, make_cudaExtent(kSide, kSide, kSlices)));
    auto plane_now = numbers(kWidth * kHeight, 1);
    fill(plane, plane_now, kWidth, kHeight);
    auto volume_now = numbers(kSide * kSide * kSlices, 2);
    cudaMemcpy3DParms into = {};
    into.srcPtr = make_cudaPitchedPtr(volume_now.data(), kSide * sizeof(unsigned), kSide, kSide);
    into.dstArray = volume;
    into.extent = make_cudaExtent(kSide, kSide, kSlices);
    into.kind = cudaMemcpyHostToDevice;
    CUDA_CHECK(cudaMemcpy3D(&into));

    cudaMipmappedArray_t mipmap = nullptr;
    CUDA_CHECK(cudaMallocMipmappedArray(&mipmap, &format, make_cudaExtent(kWidth, kHeight, 0), kLevels));
    std::vector<unsigned> level_now[kLevels];
    for (unsigned i = 0; i < kLevels; ++i) {
        cudaArray_t level = nullptr;
        CUDA_CHECK(cudaGetMipmappedArrayLevel(&level, mipmap, i));
        level_now[i] = numbers((kWidth >> i) * (kHeight >> i), 3 + i);
        fill(level, level_now[i], kWidth >> i, kHeight >> i);
    }

    unsigned* line = nullptr;
    const auto line_now = numbers(kLine, 9);
    CUDA_CHECK(cudaMalloc(&line, kLine * sizeof *line));
    CUDA_CHECK(cudaMemcpy(line, line_now.data(), kLine * sizeof *line, cudaMemcpyHostToDevice));
    cudaResourceDesc linear = {};
    linear.resType = cudaResourceTypeLinear;
    linear.res.linear.devPtr = line;
    linear.res.linear.desc = format;
    linear.res.linear.sizeInBytes = kLine * sizeof *line;
    cudaResourceDesc levels = {};
    levels.resType = cudaResourceTypeMipmappedArray;
    levels.res.mipmap.mipmap = mipmap;

    // The objects that stay do not have the values that they would be given again if only they were made.
    cudaTextureObject_t gone[3] = {};
    Objects objects = {};
    gone[0] = texture(of(plane), false);
    objects.plane = texture(of(plane), false);
    gone[1] = texture(linear, false);
    objects.volume = texture(of(volume), false);
    gone[2] = texture(levels, true);
    objects.levels = texture(levels, true);
    objects.line = texture(linear, false);
    for (cudaTextureObject_t one : gone) CUDA_CHECK(cudaDestroyTextureObject(one));
    const cudaResourceDesc out = of(next);
    CUDA_CHECK(cudaCreateSurfaceObject(&objects.out, &out));
    Objects* device_objects = nullptr;  // kernels find the values in memory, as they would in a struct of the program's
    CUDA_CHECK(cudaMalloc(&device_objects, sizeof objects));
    CUDA_CHECK(cudaMemcpy(device_objects, &objects, sizeof objects, cudaMemcpyHostToDevice));

    std::vector<unsigned> seen(plane_now.size());
    long step = 0;
    for (; !done(common, step); ++step) {
        const unsigned level = unsigned(step % kLevels);
        turn<<<dim3(kWidth / 16, kHeight / 8), dim3(16, 8)>>>(device_objects, level);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaMemcpy2DArrayToArray(plane, 0, 0, next, 0, 0, kWidth * sizeof(unsigned), kHeight, cudaMemcpyDeviceToDevice));
        CUDA_CHECK(cudaMemcpy2DFromArray(seen.data(), kWidth * sizeof(unsigned), plane, 0, 0, kWidth * sizeof(unsigned), kHeight,
                                         cudaMemcpyDeviceToHost));
        for (unsigned y = 0; y < kHeight; ++y) {
            for (unsigned x = 0; x < kWidth; ++x) {
                unsigned& value = plane_now[y * kWidth + x];
                value = 5 * value + volume_now[((x + y) % kSlices * kSide + y % kSide) * kSide + x % kSide] +
                        level_now[level][(y >> level) * (kWidth >> level) + (x >> level)] + line_now[(y * kWidth + x) % kLine];
                if (seen[y * kWidth + x] != value)
                    fail("textures: step %ld: (%u, %u) is %u, should be %u", step, x, y, seen[y * kWidth + x], value);
            }
        }
        if (time_to_report(common)) {
            std::printf("step %ld corner %u\n", step, seen[0]);
            std::fflush(stdout);
        }
        pause(common);
    }
    CUDA_CHECK(cudaDestroySurfaceObject(objects.out));
    for (cudaTextureObject_t one : {objects.plane, objects.volume, objects.levels, objects.line}) CUDA_CHECK(cudaDestroyTextureObject(one));
    CUDA_CHECK(cudaFree(device_objects));
    CUDA_CHECK(cudaFree(line));
    CUDA_CHECK(cudaFreeMipmappedArray(mipmap));
    for (cudaArray_t array : {plane, next, volume}) CUDA_CHECK(cudaFreeArray(array));
    return pass("textures: %ld steps", step);
}
