// SPDX-License-Identifier: MIT
// The virtual-memory API as applications use it: reserve, create, map, grow, map twice, retain; and what is refused.
#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "check.h"

using namespace example;

static CUmemAllocationProp device_memory(unsigned handle_types = 0) {
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    prop.requestedHandleTypes = static_cast<CUmemAllocationHandleType>(handle_types);
    return prop;
}

static void allow(CUdeviceptr address, size_t bytes) {
    CUmemAccessDesc access{};
    access.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    EXPECT_OK(cuMemSetAccess(address, bytes, &access, 1));
}

int main() {
    begin();
    CUmemAllocationProp prop = device_memory();
    size_t granule = 0;
    EXPECT_OK(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    EXPECT(granule >= 4096);
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemGetAllocationGranularity(nullptr, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));

    // Addresses.
    CUdeviceptr base = 0, other = 0;
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemAddressReserve(&base, 0, 0, 0, 0));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemAddressReserve(&base, 8 * granule, 0, 0, 1));
    EXPECT_OK(cuMemAddressReserve(&base, 8 * granule, 0, 0, 0));
    EXPECT(base % granule == 0);
    EXPECT_OK(cuMemAddressReserve(&other, 4 * granule, 64 * granule, 0, 0));
    EXPECT(other % (64 * granule) == 0);
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(base, 4 * granule));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(base + granule, granule));
    // More than the device has, as growing allocators reserve it.
    CUdeviceptr huge[8] = {};
    for (CUdeviceptr& one : huge) EXPECT_OK(cuMemAddressReserve(&one, 160ull << 30, 0, 0, 0));
    for (CUdeviceptr one : huge) EXPECT_OK(cuMemAddressFree(one, 160ull << 30));

    // Physical memory, mapped piece by piece.
    CUmemGenericAllocationHandle first = 0, second = 0;
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&first, granule / 2, &prop, 0));
    EXPECT_OK(cuMemCreate(&first, granule, &prop, 0));
    EXPECT_OK(cuMemCreate(&second, 2 * granule, &prop, 0));
    CUmemAllocationProp told{};
    EXPECT_OK(cuMemGetAllocationPropertiesFromHandle(&told, second));
    EXPECT(told.type == CU_MEM_ALLOCATION_TYPE_PINNED && told.location.type == CU_MEM_LOCATION_TYPE_DEVICE && told.location.id == 0);
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemMap(base + granule / 2, granule, 0, first, 0));
    EXPECT_OK(cuMemMap(base, granule, 0, first, 0));
    EXPECT_OK(cuMemMap(base + granule, 2 * granule, 0, second, 0));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemMap(base, 2 * granule, 0, second, 0));  // taken
    EXPECT_RESULT(CUDA_ERROR_NOT_SUPPORTED, cuMemMap(base + 4 * granule, granule, 0, second, 0));  // a part of it
    allow(base, 3 * granule);
    unsigned long long flags = 0;
    CUmemLocation here{CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    EXPECT_OK(cuMemGetAccess(&flags, &here, base + granule));
    EXPECT(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);

    EXPECT_OK(cuMemsetD8(base, 7, 3 * granule));  // over the border of the two
    expect_bytes(base, 3 * granule, 7, "memory mapped in two pieces");

    // The same memory at a second place.
    EXPECT_OK(cuMemMap(other, 2 * granule, 0, second, 0));
    allow(other, 2 * granule);
    EXPECT_OK(cuMemsetD8(other, 9, 2 * granule));
    expect_bytes(base, granule, 7, "memory that nobody wrote");
    expect_bytes(base + granule, 2 * granule, 9, "memory seen at two places");

    // What pointers into it are.
    unsigned type = 0;
    EXPECT_OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, base + 5));
    EXPECT(type == CU_MEMORYTYPE_DEVICE);
    int ordinal = -1;
    EXPECT_OK(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, base));
    EXPECT(ordinal == 0);

    // References: the handle that mapped it, once more; released, mapped memory stays.
    CUmemGenericAllocationHandle again = 0;
    EXPECT_OK(cuMemRetainAllocationHandle(&again, reinterpret_cast<void*>(base + granule + 17)));
    EXPECT(again == second);
    EXPECT_OK(cuMemRelease(again));
    EXPECT_OK(cuMemRelease(second));
    EXPECT_OK(cuMemRelease(first));
    expect_bytes(base + granule, 2 * granule, 9, "memory whose handle was released");
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemRetainAllocationHandle(&again, reinterpret_cast<void*>(base + 5 * granule)));

    // Unmapping: whole mappings.
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemUnmap(base + granule, granule));
    EXPECT_OK(cuMemUnmap(base, 3 * granule));
    expect_bytes(other, 2 * granule, 9, "memory that is still mapped elsewhere");
    EXPECT_OK(cuMemUnmap(other, 2 * granule));
    EXPECT_OK(cuMemUnmap(base, granule));  // nothing is there

    // A descriptor: nothing of the GPU, and good for the program that made it.
    int supported = 0;
    EXPECT_OK(cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 0));
    if (supported) {
        prop = device_memory(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        EXPECT_OK(cuMemCreate(&first, granule, &prop, 0));
        EXPECT_OK(cuMemMap(base, granule, 0, first, 0));
        allow(base, granule);
        EXPECT_OK(cuMemsetD8(base, 33, granule));
        int fd = -1;
        EXPECT_OK(cuMemExportToShareableHandle(&fd, first, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
        EXPECT(fcntl(fd, F_GETFD) >= 0);
        CUmemGenericAllocationHandle imported = 0;
        EXPECT_OK(cuMemImportFromShareableHandle(&imported, reinterpret_cast<void*>(static_cast<long>(fd)),
                                                 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
        close(fd);
        EXPECT_OK(cuMemMap(other, granule, 0, imported, 0));
        allow(other, granule);
        expect_bytes(other, granule, 33, "memory that came back by its descriptor");
        EXPECT_OK(cuMemUnmap(other, granule));
        EXPECT_OK(cuMemRelease(imported));
        EXPECT_OK(cuMemUnmap(base, granule));
        EXPECT_OK(cuMemRelease(first));
        const int nothing = open("/dev/null", O_RDONLY);
        EXPECT(cuMemImportFromShareableHandle(&imported, reinterpret_cast<void*>(static_cast<long>(nothing)),
                                              CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != CUDA_SUCCESS);
        close(nothing);
    }
    EXPECT_OK(cuMemAddressFree(base, 8 * granule));
    EXPECT_OK(cuMemAddressFree(other, 4 * granule));
    return pass("virtual memory, granularity %zu%s", granule, supported ? ", with descriptors" : "");
}
