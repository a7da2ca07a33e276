// SPDX-License-Identifier: MIT
#include <sys/mman.h>

#include "fixture.h"

using Memory = Gpu;
using Vmm = Gpu;
using HostMemory = Gpu;
using Copies = Gpu;

constexpr size_t kMiB = 1 << 20;
constexpr size_t kUnit = 2 * kMiB;

TEST_F(Memory, IsCountedAndBounded) {
    size_t before = 0, after = 0, total = 0;
    EXPECT_OK(cuMemGetInfo(&before, &total));
    auto pointer = allocate(10 * kMiB);
    EXPECT_OK(cuMemGetInfo(&after, &total));
    EXPECT_EQ(before - after, 10 * kMiB);
    CUdeviceptr more;
    EXPECT_CU(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&more, total));
    EXPECT_CU(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&more, total - 5 * kMiB));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemAlloc(&more, 0));
    CUdeviceptr base = 0;
    size_t size = 0;
    EXPECT_OK(cuMemGetAddressRange(&base, &size, pointer + 5));
    EXPECT_EQ(base, pointer);
    EXPECT_EQ(size, 10 * kMiB);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemFree(pointer + 16));
    EXPECT_OK(cuMemFree(pointer));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemFree(pointer));
    EXPECT_OK(cuMemFree(0));
    EXPECT_OK(cuMemGetInfo(&after, &total));
    EXPECT_EQ(before, after);
}

TEST_F(Memory, AddressesRepeat) {
    std::vector<CUdeviceptr> first, second;
    for (auto* list : {&first, &second}) {
        for (size_t size : {100, 70000, 5, 1 << 20}) list->push_back(allocate(size));
        EXPECT_OK(cuMemFree((*list)[1]));
        list->push_back(allocate(60000));
        EXPECT_OK(cuMemFree(list->at(0)));
        for (size_t i = 2; i < list->size(); ++i) EXPECT_OK(cuMemFree(list->at(i)));
    }
    EXPECT_EQ(first, second);
    EXPECT_EQ(first[0], 0x0a0000000000u);
}

TEST_F(Memory, PointerAttributes) {
    auto pointer = allocate(100);
    CUmemorytype type;
    EXPECT_OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer + 10));
    EXPECT_EQ(type, CU_MEMORYTYPE_DEVICE);
    CUdeviceptr start = 0;
    EXPECT_OK(cuPointerGetAttribute(&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, pointer + 10));
    EXPECT_EQ(start, pointer);
    void* host;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
              cuPointerGetAttribute(&host, CU_POINTER_ATTRIBUTE_HOST_POINTER, pointer));
    int plain = 0, ordinal = 0;
    unsigned managed = 7;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                                              reinterpret_cast<CUdeviceptr>(&plain)));
    CUpointer_attribute which[] = {CU_POINTER_ATTRIBUTE_IS_MANAGED, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    void* out[] = {&managed, &ordinal};
    EXPECT_OK(cuPointerGetAttributes(2, which, out, reinterpret_cast<CUdeviceptr>(&plain)));
    EXPECT_EQ(managed, 0u);
    EXPECT_EQ(ordinal, -2);
    CUdeviceptr unified = 0;
    EXPECT_OK(cuMemAllocManaged(&unified, 4096, CU_MEM_ATTACH_GLOBAL));
    EXPECT_OK(cuPointerGetAttributes(2, which, out, unified));
    EXPECT_EQ(managed, 1u);
    EXPECT_EQ(ordinal, 0);
    *reinterpret_cast<int*>(unified) = 99;
    EXPECT_EQ(read<int>(unified), 99);
    EXPECT_OK(cuMemFree(unified));
}

TEST_F(Vmm, FixedAddressesAndContents) {
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    size_t unit = 0;
    EXPECT_OK(cuMemGetAllocationGranularity(&unit, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    EXPECT_EQ(unit, kUnit);
    constexpr CUdeviceptr kBase = 0x200000000000;
    constexpr size_t kSize = size_t{1} << 40;
    CUdeviceptr base = 0, other = 0;
    ASSERT_OK(cuMemAddressReserve(&base, kSize, 0, kBase, 0));
    ASSERT_EQ(base, kBase);
    EXPECT_OK(cuMemAddressReserve(&other, kUnit, 0, kBase, 0));  // taken: somewhere else
    EXPECT_NE(other, kBase);
    EXPECT_OK(cuMemAddressFree(other, kUnit));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemAddressReserve(&other, 4096, 0, 0, 0));

    CUmemGenericAllocationHandle first, second;
    ASSERT_OK(cuMemCreate(&first, kUnit, &prop, 0));
    ASSERT_OK(cuMemCreate(&second, 2 * kUnit, &prop, 0));
    EXPECT_OK(cuMemMap(base, kUnit, 0, first, 0));
    EXPECT_OK(cuMemMap(base + kUnit, 2 * kUnit, 0, second, 0));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemMap(base + kUnit, kUnit, 0, first, 0));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemMap(base + kSize, kUnit, 0, first, 0));
    std::vector<int> values(3 * kUnit / 4), back(values.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int>(i * 7);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(base, values.data(), 16));  // no access yet
    CUmemAccessDesc access = {prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    EXPECT_OK(cuMemSetAccess(base, 3 * kUnit, &access, 1));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemSetAccess(base, 4 * kUnit, &access, 1));
    unsigned long long flags = 0;
    EXPECT_OK(cuMemGetAccess(&flags, &prop.location, base + kUnit));
    EXPECT_EQ(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    // Over the edge between the mappings, but not over the end.
    EXPECT_OK(cuMemcpyHtoD(base, values.data(), 3 * kUnit));
    EXPECT_OK(cuMemcpyDtoH(back.data(), base, 3 * kUnit));
    EXPECT_EQ(values, back);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(base + kUnit, values.data(), 2 * kUnit + 1));

    // The memory outlives its handle, and moves with it to another address.
    CUmemGenericAllocationHandle again;
    EXPECT_OK(cuMemRelease(second));
    EXPECT_OK(cuMemRetainAllocationHandle(&again, reinterpret_cast<void*>(base + kUnit + 12345)));
    CUmemAllocationProp told = {};
    EXPECT_OK(cuMemGetAllocationPropertiesFromHandle(&told, again));
    EXPECT_EQ(told.location.type, CU_MEM_LOCATION_TYPE_DEVICE);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemUnmap(base + kUnit, kUnit));
    EXPECT_OK(cuMemUnmap(base, 3 * kUnit));
    EXPECT_OK(cuMemMap(base + 10 * kUnit, 2 * kUnit, 0, again, 0));
    EXPECT_OK(cuMemSetAccess(base + 10 * kUnit, 2 * kUnit, &access, 1));
    EXPECT_EQ(read<int>(base + 10 * kUnit + 4), values[kUnit / 4 + 1]);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(base, kSize));  // still mapped
    EXPECT_OK(cuMemUnmap(base + 10 * kUnit, 2 * kUnit));
    EXPECT_OK(cuMemAddressFree(base, kSize));
    EXPECT_OK(cuMemRelease(again));
    EXPECT_OK(cuMemRelease(first));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemRelease(first));
    size_t free = 0, total = 0;
    EXPECT_OK(cuMemGetInfo(&free, &total));
    EXPECT_EQ(free, total);
    CUmemGenericAllocationHandle huge;
    EXPECT_CU(CUDA_ERROR_OUT_OF_MEMORY, cuMemCreate(&huge, total + kUnit, &prop, 0));
}

TEST_F(HostMemory, AllocatedAndRegistered) {
    void *pinned = nullptr, *mapped = nullptr;
    CUdeviceptr pointer = 0;
    EXPECT_OK(cuMemHostAlloc(&pinned, 5000, CU_MEMHOSTALLOC_DEVICEMAP));
    EXPECT_OK(cuMemHostGetDevicePointer(&pointer, static_cast<char*>(pinned) + 8, 0));
    EXPECT_EQ(pointer, reinterpret_cast<CUdeviceptr>(pinned) + 8);
    unsigned flags = 0;
    EXPECT_OK(cuMemHostGetFlags(&flags, pinned));
    EXPECT_TRUE(flags & CU_MEMHOSTALLOC_DEVICEMAP);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(static_cast<char*>(pinned) + 8));
    EXPECT_OK(cuMemFreeHost(pinned));

    mapped = mmap(nullptr, 2 * kMiB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_OK(cuMemHostRegister(mapped, kMiB, 0));
    EXPECT_CU(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister(mapped, kMiB, 0));
    EXPECT_OK(cuMemHostGetDevicePointer(&pointer, mapped, 0));
    EXPECT_EQ(pointer, reinterpret_cast<CUdeviceptr>(mapped));
    CUmemorytype type;
    EXPECT_OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer));
    EXPECT_EQ(type, CU_MEMORYTYPE_HOST);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(mapped));
    EXPECT_OK(cuMemHostUnregister(mapped));
    EXPECT_CU(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(mapped));
    munmap(mapped, 2 * kMiB);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemHostRegister(mapped, kMiB, 0));
}

TEST_F(Copies, LinesAndFills) {
    auto a = allocate(4096), b = allocate(4096);
    EXPECT_OK(cuMemsetD32(a, 0x01020304, 1024));
    EXPECT_OK(cuMemcpyDtoD(b, a, 4096));
    EXPECT_EQ(read<unsigned>(b + 4092), 0x01020304u);
    EXPECT_OK(cuMemsetD16(b + 2, 0xabcd, 1));
    EXPECT_OK(cuMemsetD8(b + 1, 0x77, 1));
    EXPECT_EQ(read<unsigned>(b), 0xabcd7704u);
    EXPECT_OK(cuMemcpy(a, b, 4));
    unsigned value = 5;
    EXPECT_OK(cuMemcpy(reinterpret_cast<CUdeviceptr>(&value), a, 4));
    EXPECT_EQ(value, 0xabcd7704u);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(a, &value, 5000));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(&value, reinterpret_cast<CUdeviceptr>(&value), 4));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD32(a + 2, 0, 1));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD8(a, 0, 4097));
    EXPECT_OK(cuMemcpyHtoD(a, nullptr, 0));
}

TEST_F(Copies, RectanglesAndBoxes) {
    CUdeviceptr pitched = 0;
    size_t pitch = 0;
    EXPECT_OK(cuMemAllocPitch(&pitched, &pitch, 100, 10, 4));
    EXPECT_EQ(pitch % 512, 0u);
    EXPECT_OK(cuMemsetD2D8(pitched, pitch, 0, 100, 10));
    std::vector<unsigned char> source(64 * 10);
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<unsigned char>(i);
    CUDA_MEMCPY2D p = {};
    p.srcMemoryType = CU_MEMORYTYPE_HOST;
    p.srcHost = source.data();
    p.srcPitch = 64;
    p.srcXInBytes = 3;
    p.srcY = 2;
    p.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    p.dstDevice = pitched;
    p.dstPitch = pitch;
    p.dstXInBytes = 7;
    p.dstY = 1;
    p.WidthInBytes = 20;
    p.Height = 5;
    EXPECT_OK(cuMemcpy2D(&p));
    for (size_t y = 0; y < 5; ++y) {
        EXPECT_EQ(read<unsigned char>(pitched + (y + 1) * pitch + 7), source[(y + 2) * 64 + 3]) << y;
        EXPECT_EQ(read<unsigned char>(pitched + (y + 1) * pitch + 26), source[(y + 2) * 64 + 22]) << y;
        EXPECT_EQ(read<unsigned char>(pitched + (y + 1) * pitch + 27), 0) << y;
    }
    p.WidthInBytes = 70;  // wider than the pitch of the source
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(&p));
    p.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuMemcpy2D(&p));

    auto box = allocate(4 * 5 * 6);
    std::vector<unsigned char> back(4 * 5 * 6, 1);
    EXPECT_OK(cuMemsetD8(box, 9, back.size()));
    CUDA_MEMCPY3D q = {};
    q.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    q.srcDevice = box;
    q.srcPitch = 4;
    q.srcHeight = 5;
    q.dstMemoryType = CU_MEMORYTYPE_HOST;
    q.dstHost = back.data();
    q.dstPitch = 4;
    q.dstHeight = 5;
    q.dstZ = 1;
    q.dstY = 2;
    q.dstXInBytes = 1;
    q.WidthInBytes = 2;
    q.Height = 3;
    q.Depth = 4;
    EXPECT_OK(cuMemcpy3D(&q));
    int nines = 0;
    for (size_t z = 0; z < 6; ++z)
        for (size_t y = 0; y < 5; ++y)
            for (size_t x = 0; x < 4; ++x) {
                bool inside = x >= 1 && x < 3 && y >= 2 && z >= 1 && z < 5;
                EXPECT_EQ(back[(z * 5 + y) * 4 + x], inside ? 9 : 1) << x << y << z;
                nines += inside;
            }
    EXPECT_EQ(nines, 24);
}
