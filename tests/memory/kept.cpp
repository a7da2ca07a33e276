// SPDX-License-Identifier: MIT
// Everything that a snapshot must bring back of the memory families: address ranges and mappings, pools and what is in
// them, managed memory with its advice. Every step writes all of it and looks at what the step before wrote.
#include "check.h"

using namespace example;

struct Mapped {
    CUdeviceptr base = 0, alias = 0;
    size_t granule = 0;
};

static void allow(CUdeviceptr address, size_t bytes) {
    CUmemAccessDesc access{};
    access.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    EXPECT_OK(cuMemSetAccess(address, bytes, &access, 1));
}

static Mapped map_memory() {
    Mapped m;
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    EXPECT_OK(cuMemGetAllocationGranularity(&m.granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    CUmemGenericAllocationHandle handle = 0;
    EXPECT_OK(cuMemAddressReserve(&m.base, 8 * m.granule, 0, 0, 0));
    EXPECT_OK(cuMemAddressReserve(&m.alias, m.granule, 0, 0, 0));
    EXPECT_OK(cuMemCreate(&handle, m.granule, &prop, 0));
    EXPECT_OK(cuMemMap(m.base + 3 * m.granule, m.granule, 0, handle, 0));
    EXPECT_OK(cuMemMap(m.alias, m.granule, 0, handle, 0));
    EXPECT_OK(cuMemRelease(handle));
    allow(m.base + 3 * m.granule, m.granule);
    allow(m.alias, m.granule);
    return m;
}

int main(int argc, char** argv) {
    Common common{.steps = 200};
    parse(argc, argv, common);
    begin();
    const Mapped mapped = map_memory();
    CUstream stream = nullptr;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CUmemPoolProps props{};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    CUmemoryPool pool = nullptr, current = nullptr;
    EXPECT_OK(cuMemPoolCreate(&pool, &props));
    EXPECT_OK(cuDeviceSetMemPool(0, pool));
    cuuint64_t threshold = 100 << 20;
    EXPECT_OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
    constexpr size_t bytes = 70000;
    CUdeviceptr pooled = 0, managed = 0;
    EXPECT_OK(cuMemAllocAsync(&pooled, bytes, stream));
    EXPECT_OK(cuMemAllocManaged(&managed, bytes, CU_MEM_ATTACH_GLOBAL));
    EXPECT_OK(cuMemAdvise(managed, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CUmemLocation{CU_MEM_LOCATION_TYPE_HOST, {0}}));
    auto* seen = reinterpret_cast<volatile unsigned char*>(managed);

    unsigned char value = 0;
    EXPECT_OK(cuMemsetD8(mapped.alias, value, mapped.granule));
    EXPECT_OK(cuMemsetD8Async(pooled, value, bytes, stream));
    EXPECT_OK(cuMemsetD8(managed, value, bytes));
    EXPECT_OK(cuCtxSynchronize());
    CUdeviceptr passing = 0;
    long step = 0;
    for (; !done(common, step); ++step) {
        expect_bytes(mapped.base + 3 * mapped.granule, 4096, value, "mapped memory");
        expect_bytes(mapped.alias + mapped.granule - 4096, 4096, value, "mapped memory at its second place");
        expect_bytes(pooled, bytes, value, "memory of a pool");
        for (size_t i = 0; i < bytes; i += 997) EXPECT(seen[i] == value);
        if (passing) {
            expect_bytes(passing, 300, value, "memory of a pool for one step");
            EXPECT_OK(cuMemFreeAsync(passing, stream));
        }
        ++value;
        EXPECT_OK(cuMemAllocAsync(&passing, 300 + static_cast<size_t>(step % 7) * 100000, stream));
        EXPECT_OK(cuMemsetD8Async(passing, value, 300, stream));
        EXPECT_OK(cuMemsetD8(step % 2 ? mapped.alias : mapped.base + 3 * mapped.granule, value, mapped.granule));
        EXPECT_OK(cuMemsetD8Async(pooled, value, bytes, stream));
        if (step % 2)
            EXPECT_OK(cuMemsetD8(managed, value, bytes));
        else
            std::memset(reinterpret_cast<void*>(managed), value, bytes);
        EXPECT_OK(cuStreamSynchronize(stream));
        int preferred = 0;
        EXPECT_OK(cuMemRangeGetAttribute(&preferred, sizeof preferred, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, managed, bytes));
        EXPECT(preferred == CU_DEVICE_CPU);
        cuuint64_t now = 0;
        EXPECT_OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &now));
        EXPECT(now == threshold);
        EXPECT_OK(cuDeviceGetMemPool(&current, 0));
        EXPECT(current == pool);
        if (time_to_report(common)) {
            std::printf("step %ld\n", step);
            std::fflush(stdout);
        }
        pause(common);
    }
    return pass("%ld steps", step);
}
