// SPDX-License-Identifier: MIT
// Stream-ordered allocation and memory pools: what is visible of reuse, attributes, thresholds; and what is refused.
#include "check.h"

using namespace example;

static cuuint64_t attribute(CUmemoryPool pool, CUmemPool_attribute which) {
    cuuint64_t value = ~cuuint64_t(0);
    EXPECT_OK(cuMemPoolGetAttribute(pool, which, &value));
    return value;
}

static void expect_memory(CUdeviceptr address, size_t bytes, unsigned char value, CUstream stream) {
    EXPECT_OK(cuStreamSynchronize(stream));
    expect_bytes(address, bytes, value, "memory of a pool");
}

static CUmemPoolProps device_pool(size_t most = 0) {
    CUmemPoolProps props{};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    props.maxSize = most;
    return props;
}

int main() {
    begin();
    constexpr size_t mib = 1 << 20;
    CUstream one = nullptr, two = nullptr;
    EXPECT_OK(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
    EXPECT_OK(cuStreamCreate(&two, CU_STREAM_NON_BLOCKING));

    // Default and current pools.
    CUmemoryPool standard = nullptr, current = nullptr, again = nullptr;
    EXPECT_OK(cuDeviceGetDefaultMemPool(&standard, 0));
    EXPECT_OK(cuDeviceGetMemPool(&current, 0));
    EXPECT(standard && current == standard);
    CUmemLocation here{CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    EXPECT_OK(cuMemGetDefaultMemPool(&again, &here, CU_MEM_ALLOCATION_TYPE_PINNED));
    EXPECT(again == standard);
    EXPECT_RESULT(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetDefaultMemPool(&again, 1000));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuDeviceGetDefaultMemPool(nullptr, 0));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(standard));

    // Attributes as a fresh pool has them.
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) == 0);
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0);
    int reuse = 0;
    EXPECT_OK(cuMemPoolGetAttribute(standard, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &reuse));
    EXPECT(reuse == 1);
    cuuint64_t number = 1;
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemPoolSetAttribute(standard, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &number));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemPoolGetAttribute(standard, static_cast<CUmemPool_attribute>(99), &number));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemPoolGetAttribute(standard, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, nullptr));

    // Allocate, use, free; the same stream gets the same memory again at once.
    CUdeviceptr a = 0, b = 0;
    EXPECT_OK(cuMemAllocAsync(&a, 0, one));
    EXPECT(a == 0);
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemAllocAsync(nullptr, 16, one));
    EXPECT_OK(cuMemAllocAsync(&a, mib, one));
    EXPECT_OK(cuMemsetD8Async(a, 3, mib, one));
    expect_memory(a, mib, 3, one);
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) >= mib);
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) >= attribute(standard, CU_MEMPOOL_ATTR_USED_MEM_CURRENT));
    CUmemoryPool of = nullptr;
    EXPECT_OK(cuPointerGetAttribute(&of, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, a));
    EXPECT(of == standard);
    CUdeviceptr base = 0;
    size_t size = 0;
    EXPECT_OK(cuMemGetAddressRange(&base, &size, a + 100));
    EXPECT(base == a && size == mib);
    unsigned type = 0;
    EXPECT_OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, a));
    EXPECT(type == CU_MEMORYTYPE_DEVICE);
    EXPECT_OK(cuMemFreeAsync(a, one));
    EXPECT_OK(cuMemAllocAsync(&b, mib, one));
    EXPECT(b == a);
    EXPECT_OK(cuMemFreeAsync(b, one));
    EXPECT_OK(cuStreamSynchronize(one));
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0);
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 0);  // above the threshold of 0
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_USED_MEM_HIGH) >= mib);
    number = 0;
    EXPECT_OK(cuMemPoolSetAttribute(standard, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &number));
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 0);

    // Below the threshold memory stays with the pool.
    number = ~cuuint64_t(0);
    EXPECT_OK(cuMemPoolSetAttribute(standard, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &number));
    std::vector<CUdeviceptr> many;
    for (int i = 0; i < 100; ++i) {
        CUdeviceptr p = 0;
        EXPECT_OK(cuMemAllocAsync(&p, 1000 + 7919 * static_cast<size_t>(i), i % 2 ? one : two));
        EXPECT(p % 256 == 0);
        EXPECT_OK(cuMemsetD8Async(p, static_cast<unsigned char>(i), 1000 + 7919 * static_cast<size_t>(i), i % 2 ? one : two));
        many.push_back(p);
    }
    EXPECT_OK(cuCtxSynchronize());
    for (int i = 0; i < 100; ++i)
        expect_bytes(many[static_cast<size_t>(i)], 1000 + 7919 * static_cast<size_t>(i), static_cast<unsigned char>(i), "one of many");
    for (int i = 0; i < 100; ++i) EXPECT_OK(cuMemFreeAsync(many[static_cast<size_t>(i)], i % 2 ? one : two));
    EXPECT_OK(cuCtxSynchronize());
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0);
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) > 0);
    const cuuint64_t reserved = attribute(standard, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
    EXPECT_OK(cuMemAllocAsync(&a, mib, two));  // from what is kept
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) <= reserved + (32 << 20));  // a driver may grow all the same
    EXPECT_OK(cuMemFree(a));  // the other way to free it
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemFree(a));
    EXPECT_OK(cuMemPoolTrimTo(standard, 0));
    EXPECT(attribute(standard, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 0);

    // A pool of our own, of one device, with a limit.
    CUmemPoolProps props = device_pool(64 * mib);
    CUmemoryPool own = nullptr;
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemPoolCreate(nullptr, &props));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemPoolCreate(&own, nullptr));
    EXPECT_OK(cuMemPoolCreate(&own, &props));
    EXPECT_OK(cuMemAllocFromPoolAsync(&a, 8 * mib, own, one));
    EXPECT_OK(cuMemsetD8Async(a, 5, 8 * mib, one));
    expect_memory(a, 8 * mib, 5, one);
    EXPECT_OK(cuPointerGetAttribute(&of, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, a));
    EXPECT(of == own);
    EXPECT_RESULT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocFromPoolAsync(&b, 256 * mib, own, one));
    CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
    EXPECT_OK(cuMemPoolGetAccess(&flags, own, &here));
    EXPECT(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    EXPECT_OK(cuDeviceSetMemPool(0, own));
    EXPECT_OK(cuDeviceGetMemPool(&current, 0));
    EXPECT(current == own);
    EXPECT_OK(cuMemAllocAsync(&b, mib, one));
    EXPECT_OK(cuPointerGetAttribute(&of, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, b));
    EXPECT(of == own);
    // Destroyed while it has allocations: they live on, and the default pool is the current one again.
    EXPECT_OK(cuMemPoolDestroy(own));
    EXPECT_OK(cuDeviceGetMemPool(&current, 0));
    EXPECT(current == standard);
    expect_memory(a, 8 * mib, 5, one);
    EXPECT_OK(cuMemFreeAsync(a, one));
    EXPECT_OK(cuMemFreeAsync(b, one));
    EXPECT_OK(cuStreamSynchronize(one));

    // Pointers that are none of a pool.
    CUdeviceptr plain = 0;
    EXPECT_OK(cuMemAlloc(&plain, mib));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemFreeAsync(0x1234, one));
    EXPECT_OK(cuMemFree(plain));

    EXPECT_OK(cuStreamDestroy(one));
    EXPECT_OK(cuStreamDestroy(two));
    return pass("memory pools");
}
