// SPDX-License-Identifier: MIT
// Device memory, copies and sets in all directions, pinned and managed host memory, attributes of pointers.
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "conform.h"

CASE(allocation) {
    CUdeviceptr a = 0, b = 0, base = 0;
    size_t size = 0, pitch = 0;
    CHECK(cuMemAlloc(nullptr, 16));
    CHECK(cuMemAlloc(&a, 0));
    CHECK(cuMemAlloc(&a, size_t{1} << 50));
    NEED(cuMemAlloc(&a, 1000));
    VALUE(a % 256);
    CHECK(cuMemGetAddressRange(&base, &size, a + 500));
    VALUE(base == a);
    VALUE(size);
    CHECK(cuMemGetAddressRange(nullptr, &size, a));
    CHECK(cuMemGetAddressRange(&base, nullptr, a));
    CHECK(cuMemGetAddressRange(&base, &size, 0));
    CHECK(cuMemGetAddressRange(&base, &size, 0x1234));
    for (unsigned element : {4u, 8u, 16u, 3u, 0u}) {
        CHECK(cuMemAllocPitch(&b, &pitch, 1000, 20, element));
        if (element == 4) VALUE(pitch);
    }
    CHECK(cuMemAllocPitch(&b, &pitch, 0, 20, 4));
    CHECK(cuMemAllocPitch(&b, &pitch, 10, 0, 4));
    CHECK(cuMemFree(a + 16));
    CHECK(cuMemFree(a));
    CHECK(cuMemFree(a));
    CHECK(cuMemFree(0));
    size_t free_size = 0, total = 0;
    CHECK(cuMemGetInfo(&free_size, &total));
    VALUE(free_size <= total && total > 0);
    CHECK(cuMemGetInfo(nullptr, nullptr));
}

CASE(copies) {
    constexpr size_t size = 100000;
    CUdeviceptr a = 0, b = 0;
    NEED(cuMemAlloc(&a, size));
    NEED(cuMemAlloc(&b, size));
    std::vector<unsigned char> host(size), back(size);
    for (size_t i = 0; i < size; ++i) host[i] = static_cast<unsigned char>(i * 7 + i / 256);
    CHECK(cuMemcpyHtoD(a, host.data(), size));
    CHECK(cuMemcpyDtoD(b, a, size));
    CHECK(cuMemcpyDtoH(back.data(), b, size));
    conform::bytes("there and back", back.data(), size);
    CHECK(cuMemcpy(b + 10, a, 1000));
    CHECK(cuMemcpy(reinterpret_cast<CUdeviceptr>(back.data()), b, size));
    conform::bytes("unified", back.data(), size);
    CHECK(cuMemcpyHtoD(a, host.data(), 0));
    CHECK(cuMemcpyHtoD(0, host.data(), 0));
    FAULT(cuMemcpyHtoD(0, host.data(), 10));
    FAULT(cuMemcpyHtoD(a, nullptr, 10));
    FAULT(cuMemcpyDtoH(nullptr, a, 10));
    FAULT(cuMemcpyDtoH(back.data(), 0, 10));
    FAULT(cuMemcpyDtoD(a, 0, 10));
    CHECK(cuMemcpyHtoD(a + size - 4, host.data(), 4));
    FAULT(cuMemcpyHtoD(a + (size_t{64} << 20), host.data(), 8));
    FAULT(cuMemcpyPeer(b, nullptr, a, nullptr, 100));
    CUcontext context = nullptr;
    CHECK(cuCtxGetCurrent(&context));
    CHECK(cuMemcpyPeer(b, context, a, context, 100));
    CUstream stream = nullptr;
    NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuMemcpyHtoDAsync(a, host.data(), size / 2, stream));
    CHECK(cuMemcpyDtoDAsync(b, a, size / 2, stream));
    CHECK(cuMemcpyDtoHAsync(back.data(), b, size, stream));
    CHECK(cuMemcpyAsync(b, a, 50, stream));
    CHECK(cuStreamSynchronize(stream));
    conform::bytes("asynchronous", back.data(), size);
    CHECK(cuStreamDestroy(stream));
    CHECK(cuMemFree(a));
    CHECK(cuMemFree(b));
}

CASE(sets) {
    CUdeviceptr memory = 0;
    NEED(cuMemAlloc(&memory, 4096));
    std::vector<unsigned char> back(4096);
    CHECK(cuMemsetD8(memory, 0xab, 4096));
    CHECK(cuMemsetD16(memory + 2, 0x1234, 100));
    CHECK(cuMemsetD32(memory + 1024, 0xdeadbeef, 64));
    CHECK(cuMemsetD2D8(memory + 2048, 64, 0x11, 10, 8));
    CHECK(cuMemsetD2D16(memory + 2560, 64, 0x2222, 5, 4));
    CHECK(cuMemsetD2D32(memory + 3072, 64, 0x33333333, 3, 4));
    CHECK(cuMemsetD8Async(memory + 4000, 1, 50, nullptr));
    CHECK(cuMemsetD32Async(memory + 3584, 0x01020304, 5, nullptr));
    CHECK(cuMemcpyDtoH(back.data(), memory, 4096));
    conform::bytes("memory", back.data(), back.size());
    FAULT(cuMemsetD16(memory + 1, 1, 4));
    FAULT(cuMemsetD32(memory + 2, 1, 4));
    FAULT(cuMemsetD8(0, 1, 4));
    CHECK(cuMemsetD8(memory, 1, 0));
    CHECK(cuMemsetD8(0, 1, 0));
    FAULT(cuMemsetD8(memory, 1, size_t{1} << 40));
    FAULT(cuMemsetD2D8(memory, 4, 1, 10, 2));
    CHECK(cuMemsetD2D32(memory, 64, 1, 0, 0));
    CHECK(cuMemFree(memory));
}

CASE(two_and_three_dimensions) {
    CUdeviceptr memory = 0;
    size_t pitch = 0;
    NEED(cuMemAllocPitch(&memory, &pitch, 100, 64, 4));
    NEED(cuMemsetD8(memory, 0, pitch * 64));
    std::vector<unsigned char> host(100 * 64), back(100 * 64);
    for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<unsigned char>(i * 13 + 1);
    CUDA_MEMCPY2D box{};
    box.srcMemoryType = CU_MEMORYTYPE_HOST;
    box.srcHost = host.data();
    box.srcPitch = 100;
    box.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    box.dstDevice = memory;
    box.dstPitch = pitch;
    box.dstXInBytes = 3;
    box.dstY = 2;
    box.WidthInBytes = 90;
    box.Height = 60;
    CHECK(cuMemcpy2D(&box));
    CHECK(cuMemcpy2DUnaligned(&box));
    CHECK(cuMemcpy2DAsync(&box, nullptr));
    CUDA_MEMCPY2D out{};
    out.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    out.srcDevice = memory;
    out.srcPitch = pitch;
    out.dstMemoryType = CU_MEMORYTYPE_HOST;
    out.dstHost = back.data();
    out.dstPitch = 100;
    out.WidthInBytes = 100;
    out.Height = 64;
    CHECK(cuMemcpy2D(&out));
    conform::bytes("rows", back.data(), back.size());
    box.srcPitch = 10;
    CHECK(cuMemcpy2D(&box));
    box.srcPitch = 100;
    box.WidthInBytes = 0;
    CHECK(cuMemcpy2D(&box));
    box.srcMemoryType = static_cast<CUmemorytype>(99);
    box.WidthInBytes = 4;
    CHECK(cuMemcpy2D(&box));
    CHECK(cuMemcpy2D(nullptr));
    CUDA_MEMCPY3D block{};
    block.srcMemoryType = CU_MEMORYTYPE_HOST;
    block.srcHost = host.data();
    block.srcPitch = 20;
    block.srcHeight = 10;
    block.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    block.dstDevice = memory;
    block.dstPitch = 32;
    block.dstHeight = 12;
    block.WidthInBytes = 18;
    block.Height = 9;
    block.Depth = 5;
    CHECK(cuMemcpy3D(&block));
    CHECK(cuMemcpy3DAsync(&block, nullptr));
    CHECK(cuMemcpy2D(&out));
    conform::bytes("block", back.data(), back.size());
    block.Depth = 0;
    CHECK(cuMemcpy3D(&block));
    CHECK(cuMemFree(memory));
}

CASE(pinned) {
    void* host = nullptr;
    CHECK(cuMemAllocHost(nullptr, 100));
    CHECK(cuMemAllocHost(&host, 0));
    NEED(cuMemAllocHost(&host, 10000));
    unsigned flags = 99;
    CHECK(cuMemHostGetFlags(&flags, host));
    VALUE(flags);
    CUdeviceptr device = 0;
    CHECK(cuMemHostGetDevicePointer(&device, host, 0));
    VALUE(device == reinterpret_cast<CUdeviceptr>(host));
    CHECK(cuMemHostGetDevicePointer(&device, host, 1));
    CHECK(cuMemFreeHost(static_cast<char*>(host) + 8));
    CHECK(cuMemFreeHost(host));
    CHECK(cuMemFreeHost(nullptr));
    int local = 0;
    CHECK(cuMemFreeHost(&local));
    CHECK(cuMemHostGetDevicePointer(&device, &local, 0));
    CHECK(cuMemHostGetFlags(&flags, &local));
    for (unsigned wish : {0u, 1u, 2u, 3u, 4u, 7u, 8u, 0x100u}) {
        host = nullptr;
        if (CHECK(cuMemHostAlloc(&host, 5000, wish)) != CUDA_SUCCESS) continue;
        std::memset(host, 5, 5000);
        CHECK(cuMemHostGetFlags(&flags, host));
        VALUE(flags);
        CHECK(cuMemFreeHost(host));
    }
    void* pages = mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(pages, 3, 1 << 16);
    CHECK(cuMemHostRegister(nullptr, 100, 0));
    CHECK(cuMemHostRegister(pages, 0, 0));
    CHECK(cuMemHostRegister(pages, 1 << 16, CU_MEMHOSTREGISTER_DEVICEMAP));
    CHECK(cuMemHostRegister(pages, 1 << 16, 0));
    CHECK(cuMemHostGetDevicePointer(&device, pages, 0));
    CHECK(cuMemHostGetFlags(&flags, pages));
    VALUE(flags);
    CUdeviceptr memory = 0;
    CHECK(cuMemAlloc(&memory, 1 << 16));
    CHECK(cuMemcpyHtoDAsync(memory, pages, 1 << 16, nullptr));
    CHECK(cuMemsetD8Async(memory, 9, 100, nullptr));
    CHECK(cuMemcpyDtoHAsync(pages, memory, 1 << 16, nullptr));
    CHECK(cuStreamSynchronize(nullptr));
    conform::bytes("registered", pages, 1 << 16);
    CHECK(cuMemHostUnregister(static_cast<char*>(pages) + 4096));
    CHECK(cuMemHostUnregister(pages));
    CHECK(cuMemHostUnregister(pages));
    CHECK(cuMemHostUnregister(nullptr));
    CHECK(cuMemFree(memory));
}

CASE(managed) {
    CUdeviceptr memory = 0;
    CHECK(cuMemAllocManaged(&memory, 0, CU_MEM_ATTACH_GLOBAL));
    CHECK(cuMemAllocManaged(&memory, 100, 77));
    NEED(cuMemAllocManaged(&memory, 1 << 16, CU_MEM_ATTACH_GLOBAL));
    auto* host = reinterpret_cast<unsigned char*>(memory);
    std::memset(host, 4, 1 << 16);
    CHECK(cuMemsetD8(memory + 10, 6, 100));
    CHECK(cuCtxSynchronize());
    conform::bytes("managed", host, 1 << 16);
    CUmemLocation where{CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    CHECK(cuMemPrefetchAsync(memory, 1 << 16, where, 0, nullptr));
    CHECK(cuMemAdvise(memory, 1 << 16, CU_MEM_ADVISE_SET_READ_MOSTLY, where));
    int value = 99;
    CHECK(cuMemRangeGetAttribute(&value, sizeof value, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, memory, 1 << 16));
    VALUE(value);
    FAULT(cuMemPrefetchAsync(0, 1 << 16, where, 0, nullptr));
    CHECK(cuStreamAttachMemAsync(nullptr, memory, 0, CU_MEM_ATTACH_GLOBAL));
    CHECK(cuStreamSynchronize(nullptr));
    conform::bytes("after prefetching", host, 1 << 16);
    CHECK(cuMemFree(memory));
}

CASE(pointer_attributes) {
    CUdeviceptr memory = 0;
    void* host = nullptr;
    NEED(cuMemAlloc(&memory, 4096));
    NEED(cuMemHostAlloc(&host, 4096, CU_MEMHOSTALLOC_DEVICEMAP));
    const auto one = [](const char* what, CUdeviceptr pointer) {
        for (int attribute : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 99}) {
            unsigned long long data[2] = {};
            const CUresult result = cuPointerGetAttribute(data, static_cast<CUpointer_attribute>(attribute), pointer);
            char line[80];
            std::snprintf(line, sizeof line, "%s attribute %d: %d", what, attribute, static_cast<int>(result));
            // Contexts, addresses and ids are what they are.
            const bool plain = attribute == 2 || attribute == 6 || attribute == 8 || attribute == 9 || attribute == 10 ||
                               attribute == 12 || attribute == 13 || attribute == 14 || attribute == 15 || attribute == 16;
            conform::value(line, plain ? static_cast<long long>(data[0] & 0xffffffff) : data[0] != 0);
        }
    };
    one("device", memory + 100);
    one("pinned", reinterpret_cast<CUdeviceptr>(host) + 8);
    int local = 0;
    one("local", reinterpret_cast<CUdeviceptr>(&local));
    one("null", 0);
    CUdeviceptr base = 0;
    CHECK(cuPointerGetAttribute(&base, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, memory + 100));
    VALUE(base == memory);
    int sync = 1;
    CHECK(cuPointerSetAttribute(&sync, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, memory));
    CHECK(cuPointerSetAttribute(&sync, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, memory));
    CHECK(cuPointerSetAttribute(&sync, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, 0));
    CUpointer_attribute wanted[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED};
    unsigned type = 77, is_managed = 77;
    void* places[] = {&type, &is_managed};
    CHECK(cuPointerGetAttributes(2, wanted, places, memory));
    VALUE(type);
    VALUE(is_managed & 0xff);
    CHECK(cuPointerGetAttributes(2, wanted, places, reinterpret_cast<CUdeviceptr>(&local)));
    VALUE(type);
    CHECK(cuPointerGetAttributes(0, wanted, places, memory));
    CHECK(cuMemFree(memory));
    CHECK(cuMemFreeHost(host));
}

CASE(sharing_between_processes) {
    CUdeviceptr memory = 0;
    CUevent event = nullptr;
    NEED(cuMemAlloc(&memory, 4096));
    CUipcMemHandle of_memory{};
    CUipcEventHandle of_event{};
    CHECK(cuIpcGetMemHandle(&of_memory, memory));
    CHECK(cuIpcGetMemHandle(&of_memory, 0));
    CHECK(cuIpcGetMemHandle(nullptr, memory));
    CUdeviceptr opened = 0;
    CHECK(cuIpcOpenMemHandle(&opened, of_memory, 0));
    CHECK(cuIpcOpenMemHandle(&opened, CUipcMemHandle{}, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    CHECK(cuIpcCloseMemHandle(memory));
    CHECK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    CHECK(cuIpcGetEventHandle(&of_event, event));
    CHECK(cuEventDestroy(event));
    CHECK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS));
    CHECK(cuIpcGetEventHandle(&of_event, event));
    CHECK(cuEventDestroy(event));
    CHECK(cuMemFree(memory));
}
