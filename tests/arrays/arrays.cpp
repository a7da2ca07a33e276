// SPDX-License-Identifier: MIT
// Arrays, mipmaps, texture and surface objects, texture references, batches of copies, tensor maps, and the ABI of 32-bit
// addresses: what the driver API answers, natively or not.
#define __CUDA_API_VERSION_INTERNAL  // cuda.h: every ABI under its own name
#include <cuda.h>

#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

// The helpers call today's functions.
#define cuMemAlloc cuMemAlloc_v2
#define cuMemcpyHtoD cuMemcpyHtoD_v2
#define cuMemcpyDtoH cuMemcpyDtoH_v2
#include "tests/memory/check.h"
#undef cuMemAlloc
#undef cuMemcpyHtoD
#undef cuMemcpyDtoH

using namespace example;

static std::vector<unsigned> count_up(size_t count, unsigned from) {
    std::vector<unsigned> numbers(count);
    std::iota(numbers.begin(), numbers.end(), from);
    return numbers;
}

static CUDA_ARRAY3D_DESCRIPTOR shape(size_t width, size_t height, size_t depth, unsigned flags = 0) {
    return {width, height, depth, CU_AD_FORMAT_UNSIGNED_INT32, 1, flags};
}

static CUarray make(const CUDA_ARRAY3D_DESCRIPTOR& descriptor) {
    CUarray array = nullptr;
    EXPECT_OK(cuArray3DCreate_v2(&array, &descriptor));
    EXPECT(array);
    return array;
}

static void arrays() {
    CUarray array = nullptr;
    CUDA_ARRAY_DESCRIPTOR flat{100, 7, CU_AD_FORMAT_FLOAT, 2};
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuArrayCreate_v2(nullptr, &flat));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuArrayCreate_v2(&array, nullptr));
    EXPECT_OK(cuArrayCreate_v2(&array, &flat));
    CUDA_ARRAY_DESCRIPTOR told{};
    EXPECT_OK(cuArrayGetDescriptor_v2(&told, array));
    EXPECT(told.Width == 100 && told.Height == 7 && told.Format == CU_AD_FORMAT_FLOAT && told.NumChannels == 2);
    CUDA_ARRAY3D_DESCRIPTOR whole{};
    EXPECT_OK(cuArray3DGetDescriptor_v2(&whole, array));
    EXPECT(whole.Width == 100 && whole.Height == 7 && whole.Depth == 0 && whole.Flags == 0);
    EXPECT_OK(cuArrayDestroy(array));

    // One row: offsets count in bytes.
    array = make(shape(256, 0, 0));
    CUarray other = make(shape(256, 0, 0));
    const auto data = count_up(256, 1000);
    CUdeviceptr device = 0;
    EXPECT_OK(cuMemAlloc_v2(&device, 1024));
    EXPECT_OK(cuMemcpyHtoA_v2(array, 0, data.data(), 1024));
    EXPECT_OK(cuMemcpyAtoA_v2(other, 512, array, 0, 512));
    EXPECT_OK(cuMemcpyAtoA_v2(other, 0, array, 512, 512));
    EXPECT_OK(cuMemcpyAtoD_v2(device, other, 4, 1020));
    EXPECT_OK(cuMemcpyDtoA_v2(array, 0, device, 1020));
    std::vector<unsigned> seen(256);
    EXPECT_OK(cuMemcpyAtoH_v2(seen.data(), array, 0, 1020));
    for (unsigned i = 0; i < 255; ++i) EXPECT(seen[i] == data[(i + 1 + 128) % 256]);
    CUstream stream = nullptr;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    unsigned* pinned = nullptr;
    EXPECT_OK(cuMemHostAlloc(reinterpret_cast<void**>(&pinned), 1024, 0));
    std::memcpy(pinned, data.data(), 1024);
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_OK(cuMemcpyHtoAAsync_v2(array, 0, pinned, 1024, stream));
    EXPECT_OK(cuMemcpyAtoHAsync_v2(seen.data(), array, 0, 1024, stream));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT(seen == data);
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoA_v2(array, 0, nullptr, 4));
    EXPECT_OK(cuMemcpyHtoA_v2(array, 0, data.data(), 0));
    EXPECT_OK(cuMemFreeHost(pinned));
    EXPECT_OK(cuMemFree_v2(device));
    EXPECT_OK(cuStreamDestroy_v2(stream));
    EXPECT_OK(cuArrayDestroy(array));
    EXPECT_OK(cuArrayDestroy(other));

    // A volume, through pageable memory with rows and slices longer than the copy.
    array = make(shape(40, 30, 6));
    const auto volume = count_up(50 * 31 * 6, 5);
    std::vector<unsigned> back(volume.size(), 0);
    CUDA_MEMCPY3D copy{};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = volume.data();
    copy.srcPitch = 200;
    copy.srcHeight = 31;
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.dstArray = array;
    copy.WidthInBytes = 160;
    copy.Height = 30;
    copy.Depth = 6;
    EXPECT_OK(cuMemcpy3D_v2(&copy));
    std::swap(copy.srcMemoryType, copy.dstMemoryType);
    copy.srcArray = array;
    copy.srcXInBytes = 40, copy.srcY = 3, copy.srcZ = 2;
    copy.dstHost = back.data();
    copy.dstPitch = 200;
    copy.dstHeight = 31;
    copy.WidthInBytes = 120, copy.Height = 20, copy.Depth = 3;
    EXPECT_OK(cuMemcpy3D_v2(&copy));
    for (unsigned z = 0; z < 6; ++z)
        for (unsigned y = 0; y < 31; ++y)
            for (unsigned x = 0; x < 50; ++x) {
                const bool inside = x < 30 && y < 20 && z < 3;
                EXPECT(back[(z * 31 + y) * 50 + x] == (inside ? volume[((z + 2) * 31 + y + 3) * 50 + x + 10] : 0));
            }
    EXPECT_OK(cuArrayDestroy(array));
}

static void mipmaps() {
    CUmipmappedArray mipmap = nullptr;
    const CUDA_ARRAY3D_DESCRIPTOR descriptor = shape(64, 32, 0);
    EXPECT_OK(cuMipmappedArrayCreate(&mipmap, &descriptor, 4));
    CUarray level = nullptr, again = nullptr;
    EXPECT_OK(cuMipmappedArrayGetLevel(&level, mipmap, 2));
    EXPECT_OK(cuMipmappedArrayGetLevel(&again, mipmap, 2));
    CUDA_ARRAY3D_DESCRIPTOR told{};
    EXPECT_OK(cuArray3DGetDescriptor_v2(&told, level));
    EXPECT(told.Width == 16 && told.Height == 8);
    EXPECT_OK(cuArray3DGetDescriptor_v2(&told, again));
    EXPECT(told.Width == 16 && told.Height == 8);
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMipmappedArrayGetLevel(&level, mipmap, 4));
    EXPECT_OK(cuMipmappedArrayDestroy(mipmap));
}

static void objects() {
    CUarray array = make(shape(16, 16, 0, CUDA_ARRAY3D_SURFACE_LDST));
    CUDA_RESOURCE_DESC resource{};
    resource.resType = CU_RESOURCE_TYPE_ARRAY;
    resource.res.array.hArray = array;
    CUDA_TEXTURE_DESC how{};
    how.addressMode[0] = CU_TR_ADDRESS_MODE_MIRROR;
    how.flags = CU_TRSF_READ_AS_INTEGER;
    CUtexObject texture = 0, second = 0;
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuTexObjectCreate(nullptr, &resource, &how, nullptr));
    EXPECT_OK(cuTexObjectCreate(&texture, &resource, &how, nullptr));
    EXPECT_OK(cuTexObjectCreate(&second, &resource, &how, nullptr));
    EXPECT(texture && second && texture != second);
    CUDA_RESOURCE_DESC told{};
    EXPECT_OK(cuTexObjectGetResourceDesc(&told, texture));
    EXPECT(told.resType == CU_RESOURCE_TYPE_ARRAY && told.res.array.hArray == array);
    CUDA_TEXTURE_DESC how_told{};
    EXPECT_OK(cuTexObjectGetTextureDesc(&how_told, texture));
    EXPECT(how_told.addressMode[0] == CU_TR_ADDRESS_MODE_MIRROR && how_told.flags & CU_TRSF_READ_AS_INTEGER);
    CUsurfObject surface = 0;
    EXPECT_OK(cuSurfObjectCreate(&surface, &resource));
    EXPECT(surface);
    EXPECT_OK(cuSurfObjectGetResourceDesc(&told, surface));
    EXPECT(told.res.array.hArray == array);
    EXPECT_OK(cuSurfObjectDestroy(surface));
    EXPECT_OK(cuTexObjectDestroy(second));
    EXPECT_OK(cuTexObjectDestroy(texture));
    EXPECT_OK(cuArrayDestroy(array));
}

static void references() {
    CUtexref reference = nullptr;
    EXPECT_OK(cuTexRefCreate(&reference));
    EXPECT_OK(cuTexRefSetFormat(reference, CU_AD_FORMAT_FLOAT, 2));
    CUarray_format format{};
    int channels = 0;
    EXPECT_OK(cuTexRefGetFormat(&format, &channels, reference));
    EXPECT(format == CU_AD_FORMAT_FLOAT && channels == 2);
    EXPECT_OK(cuTexRefSetAddressMode(reference, 1, CU_TR_ADDRESS_MODE_CLAMP));
    CUaddress_mode mode{};
    EXPECT_OK(cuTexRefGetAddressMode(&mode, reference, 1));
    EXPECT(mode == CU_TR_ADDRESS_MODE_CLAMP);
    EXPECT_OK(cuTexRefDestroy(reference));
}

static void batches() {
    CUstream stream = nullptr;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    constexpr size_t bytes = 4096;
    CUdeviceptr a = 0, b = 0;
    unsigned char* pinned = nullptr;
    EXPECT_OK(cuMemAlloc_v2(&a, bytes));
    EXPECT_OK(cuMemAlloc_v2(&b, bytes));
    EXPECT_OK(cuMemHostAlloc(reinterpret_cast<void**>(&pinned), bytes, 0));
    std::vector<unsigned char> in(bytes, 7), out(bytes, 0);
    std::memset(pinned, 9, bytes);
    const auto at = [](void* p) { return reinterpret_cast<CUdeviceptr>(p); };
    CUmemcpyAttributes attributes[2]{};
    attributes[0].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
    attributes[1].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL;
    size_t first[2] = {0, 1};
    CUdeviceptr to[] = {a, b}, from[] = {at(pinned), at(in.data())};
    size_t sizes[] = {bytes, bytes}, failed = 77;
    EXPECT_OK(cuMemcpyBatchAsync(to, from, sizes, 2, attributes, first, 2, &failed, stream));
    in.assign(bytes, 1);  // it was read during the call
    EXPECT_OK(cuStreamSynchronize(stream));
    expect_bytes(a, bytes, 9, "pinned to device");
    expect_bytes(b, bytes, 7, "pageable to device");
    CUdeviceptr back_to[] = {at(out.data()), at(pinned)}, back_from[] = {a, b};
    EXPECT_OK(cuMemcpyBatchAsync_v2(back_to, back_from, sizes, 2, attributes, first, 1, stream));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT(out == std::vector<unsigned char>(bytes, 9));
    for (size_t i = 0; i < bytes; ++i) EXPECT(pinned[i] == 7);
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemcpyBatchAsync_v2(to, from, sizes, 2, attributes, first, 0, stream));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemcpyBatchAsync_v2(to, from, sizes, 2, attributes, first, 2, nullptr));
    first[0] = 1;
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemcpyBatchAsync(to, from, sizes, 2, attributes, first, 1, &failed, stream));

    CUarray array = make(shape(8, 8, 0));
    auto data = count_up(64, 1);
    std::vector<unsigned> seen(64);
    CUDA_MEMCPY3D_BATCH_OP operations[2]{};
    operations[0].src.type = CU_MEMCPY_OPERAND_TYPE_POINTER;
    operations[0].src.op.ptr.ptr = at(data.data());
    operations[0].dst.type = CU_MEMCPY_OPERAND_TYPE_ARRAY;
    operations[0].dst.op.array.array = array;
    operations[0].extent = {8, 8, 1};
    operations[0].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
    EXPECT_OK(cuMemcpy3DBatchAsync(1, operations, &failed, 0, stream));
    operations[1] = operations[0];
    std::swap(operations[1].src, operations[1].dst);
    operations[1].dst.op.ptr.ptr = at(seen.data());
    EXPECT_OK(cuMemcpy3DBatchAsync_v2(1, operations + 1, 0, stream));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT(seen == data);
    operations[0].extent.depth = 0;
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemcpy3DBatchAsync_v2(1, operations, 0, stream));
    EXPECT_OK(cuArrayDestroy(array));
    EXPECT_OK(cuMemFreeHost(pinned));
    EXPECT_OK(cuMemFree_v2(a));
    EXPECT_OK(cuMemFree_v2(b));
    EXPECT_OK(cuStreamDestroy_v2(stream));
}

static void fills() {
    CUdeviceptr memory = 0;
    size_t pitch = 0;
    EXPECT_OK(cuMemAllocPitch_v2(&memory, &pitch, 100, 10, 4));
    EXPECT_OK(cuMemsetD8_v2(memory, 1, pitch * 10));
    EXPECT_OK(cuMemsetD2D16_v2(memory + 2, pitch, 0x0505, 20, 4));
    EXPECT_OK(cuMemsetD2D32Async(memory + 4 * pitch, pitch, 0x06060606, 25, 6, nullptr));
    std::vector<unsigned char> seen(pitch * 10);
    EXPECT_OK(cuMemcpyDtoH_v2(seen.data(), memory, seen.size()));
    for (size_t y = 0; y < 10; ++y)
        for (size_t x = 0; x < pitch; ++x)
            EXPECT(seen[y * pitch + x] == (y < 4 ? (x >= 2 && x < 42 ? 5 : 1) : x < 100 ? 6 : 1));
    EXPECT_OK(cuMemFree_v2(memory));
}

static void before_3_2() {
    unsigned small = 1, total = 0, free = 0;
    CUdeviceptr_v1 address = 0;
    EXPECT_RESULT(CUDA_ERROR_INVALID_CONTEXT, cuMemAlloc(&address, 1024));
    EXPECT_RESULT(CUDA_ERROR_INVALID_CONTEXT, cuMemGetInfo(&free, &total));
    EXPECT_RESULT(CUDA_ERROR_INVALID_CONTEXT, cuMemFree(address));
    EXPECT_RESULT(CUDA_ERROR_INVALID_CONTEXT, cuMemsetD8(address, 0, 4));
    EXPECT(address == 0 && total == 0 && free == 0);
    size_t all = 0;
    EXPECT_OK(cuDeviceTotalMem(&small, 0));
    EXPECT_OK(cuDeviceTotalMem_v2(&all, 0));
    EXPECT(small == (all < UINT32_MAX ? all : UINT32_MAX));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuDeviceTotalMem(nullptr, 0));
}

int main() {
    begin();
    arrays();
    std::puts("arrays");
    std::fflush(stdout);
    mipmaps();
    objects();
    references();
    batches();
    fills();
    before_3_2();
    return pass("arrays, mipmaps, objects, references, batches and what was before");
}
