// SPDX-License-Identifier: MIT
// Managed memory from the host's side: coherence with device work, what pointers are, advice and prefetches as they are told again.
#include <cstdint>

#include "check.h"

using namespace example;

static int told(CUdeviceptr address, size_t bytes, CUmem_range_attribute attribute) {
    int value = 12345;
    EXPECT_OK(cuMemRangeGetAttribute(&value, sizeof value, attribute, address, bytes));
    return value;
}

int main() {
    CUcontext context = begin();
    constexpr size_t bytes = 1 << 20, page = 1 << 16;
    CUdeviceptr p = 0, plain = 0;
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemAllocManaged(&p, 0, CU_MEM_ATTACH_GLOBAL));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemAllocManaged(&p, bytes, CU_MEM_ATTACH_SINGLE));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemAllocManaged(nullptr, bytes, CU_MEM_ATTACH_GLOBAL));
    EXPECT_OK(cuMemAllocManaged(&p, bytes, CU_MEM_ATTACH_GLOBAL));
    EXPECT_OK(cuMemAlloc(&plain, bytes));
    auto* host = reinterpret_cast<unsigned char*>(p);

    // Host writes, device reads, and the other way round.
    for (size_t i = 0; i < bytes; ++i) host[i] = static_cast<unsigned char>(i * 7);
    EXPECT_OK(cuMemcpyDtoD(plain, p, bytes));
    std::vector<unsigned char> seen(bytes);
    EXPECT_OK(cuMemcpyDtoH(seen.data(), plain, bytes));
    for (size_t i = 0; i < bytes; ++i) EXPECT(seen[i] == static_cast<unsigned char>(i * 7));
    EXPECT_OK(cuMemsetD8(p, 42, bytes));
    EXPECT_OK(cuCtxSynchronize());
    for (size_t i = 0; i < bytes; ++i) EXPECT(host[i] == 42);
    EXPECT_OK(cuMemsetD32(plain, 0x01020304, bytes / 4));
    EXPECT_OK(cuMemcpy(p, plain, bytes));
    EXPECT_OK(cuCtxSynchronize());
    EXPECT(host[0] == 4 && host[bytes - 1] == 1);
    std::vector<unsigned char> mine(bytes, 99);
    EXPECT_OK(cuMemcpyHtoD(p, mine.data(), bytes));
    EXPECT(host[0] == 99 && host[bytes - 1] == 99);

    // What the pointer is.
    unsigned type = 0, managed = 0;
    int ordinal = -1;
    CUcontext of = nullptr;
    CUdeviceptr base = 0;
    size_t size = 0;
    void* address = nullptr;
    EXPECT_OK(cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, p + 5));
    EXPECT((managed & 0xff) == 1);
    EXPECT_OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p + 5));
    EXPECT(type == CU_MEMORYTYPE_DEVICE);
    EXPECT_OK(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p + 5));
    EXPECT(ordinal == 0);
    EXPECT_OK(cuPointerGetAttribute(&of, CU_POINTER_ATTRIBUTE_CONTEXT, p + 5));
    EXPECT(of == context);
    EXPECT_OK(cuPointerGetAttribute(&address, CU_POINTER_ATTRIBUTE_HOST_POINTER, p + 5));
    EXPECT(address == host + 5);
    EXPECT_OK(cuMemGetAddressRange(&base, &size, p + 5));
    EXPECT(base == p && size == bytes);
    managed = 0;
    EXPECT_OK(cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, plain));
    EXPECT((managed & 0xff) == 0);

    // Advice.
    EXPECT(told(p, bytes, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY) == 0);
    EXPECT(told(p, bytes, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION) == CU_DEVICE_INVALID);
    EXPECT(told(p, bytes, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION) == CU_DEVICE_INVALID);
    const CUmemLocation device{CU_MEM_LOCATION_TYPE_DEVICE, {0}}, cpu{CU_MEM_LOCATION_TYPE_HOST, {0}};
    EXPECT_OK(cuMemAdvise(p, bytes, CU_MEM_ADVISE_SET_READ_MOSTLY, device));
    EXPECT(told(p, bytes, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY) == 1);
    EXPECT_OK(cuMemAdvise(p + page, page, CU_MEM_ADVISE_UNSET_READ_MOSTLY, device));
    EXPECT(told(p, bytes, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY) == 0);
    EXPECT(told(p, page, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY) == 1);
    EXPECT(told(p + 2 * page, bytes - 2 * page, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY) == 1);
    EXPECT_OK(cuMemAdvise(p, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, cpu));
    EXPECT(told(p, bytes, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION) == CU_DEVICE_CPU);
    EXPECT_OK(cuMemAdvise(p, page, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, device));
    EXPECT(told(p, page, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION) == 0);
    EXPECT(told(p, bytes, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION) == CU_DEVICE_INVALID);
    EXPECT_OK(cuMemAdvise(p, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, device));
    int by[3] = {7, 7, 7};
    EXPECT_OK(cuMemRangeGetAttribute(by, sizeof by, CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, p, bytes));
    EXPECT(by[0] == 0 && by[1] == CU_DEVICE_INVALID && by[2] == CU_DEVICE_INVALID);
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemRangeGetAttribute(by, 3, CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, p, bytes));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemAdvise(plain, bytes, CU_MEM_ADVISE_SET_READ_MOSTLY, device));

    // Prefetches.
    CUstream stream = nullptr;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    EXPECT_OK(cuMemPrefetchAsync(p, bytes, device, 0, stream));
    EXPECT(told(p, bytes, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION) == 0);
    EXPECT_OK(cuMemPrefetchAsync(p, page, cpu, 0, stream));
    EXPECT(told(p, page, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION) == CU_DEVICE_CPU);
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemPrefetchAsync(plain, bytes, device, 0, stream));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemPrefetchAsync(p, 2 * bytes, device, 0, stream));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemPrefetchAsync(p, 0, device, 0, stream));
    int last = 1, mostly = 1;
    void* values[] = {&last, &mostly};
    size_t widths[] = {sizeof last, sizeof mostly};
    CUmem_range_attribute which[] = {CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY};
    EXPECT_OK(cuMemRangeGetAttributes(values, widths, which, 2, p, bytes));
    EXPECT(last == CU_DEVICE_INVALID && mostly == 0);
    EXPECT_OK(cuStreamAttachMemAsync(stream, p, 0, CU_MEM_ATTACH_SINGLE));
    EXPECT_OK(cuStreamAttachMemAsync(stream, p, bytes, CU_MEM_ATTACH_GLOBAL));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuStreamAttachMemAsync(stream, p, 0, 99));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT(host[0] == 99 && host[bytes - 1] == 99);

    EXPECT_OK(cuMemFree(p));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemFree(p));
    EXPECT_OK(cuMemFree(plain));

    // Much of it, again and again.
    for (int i = 0; i < 8; ++i) {
        EXPECT_OK(cuMemAllocManaged(&p, size_t(64) << 20, CU_MEM_ATTACH_GLOBAL));
        *reinterpret_cast<unsigned char*>(p + (size_t(64) << 20) - 1) = 1;
        EXPECT_OK(cuMemFree(p));
    }
    return pass("managed memory");
}
