// SPDX-License-Identifier: MIT
// Where allocations lie, and how often the driver is asked: it is a driver of our own with a limit that counts.
#include "device_memory.h"

#include <gtest/gtest.h>

#include <vector>

using namespace cricket::server;

namespace {

constexpr uint64_t MiB = 1u << 20;

struct Driver {
    uint64_t limit = ~uint64_t(0), used = 0, next = 1;
    unsigned made = 0, mapped = 0, access = 0;
    std::map<uint64_t, uint64_t> handles;  // bytes
} driver;

DriverTable table() {
    DriverTable table{};
    table.cuMemAddressReserve = [](CUdeviceptr* out, size_t, size_t, CUdeviceptr wanted, unsigned long long) {
        *out = wanted;
        return CUDA_SUCCESS;
    };
    table.cuMemCreate = [](CUmemGenericAllocationHandle* out, size_t bytes, const CUmemAllocationProp*, unsigned long long) {
        if (driver.used + bytes > driver.limit) return CUDA_ERROR_OUT_OF_MEMORY;
        driver.used += bytes;
        ++driver.made;
        driver.handles[*out = driver.next++] = bytes;
        return CUDA_SUCCESS;
    };
    table.cuMemMap = [](CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long) {
        ++driver.mapped;
        return CUDA_SUCCESS;
    };
    table.cuMemSetAccess = [](CUdeviceptr, size_t, const CUmemAccessDesc*, size_t count) {
        driver.access += static_cast<unsigned>(count);
        return CUDA_SUCCESS;
    };
    table.cuMemUnmap = [](CUdeviceptr, size_t) {
        --driver.mapped;
        return CUDA_SUCCESS;
    };
    table.cuMemRelease = [](CUmemGenericAllocationHandle handle) {
        driver.used -= driver.handles.at(handle);
        return CUDA_SUCCESS;
    };
    return table;
}

class DeviceMemoryTest : public ::testing::Test {
  protected:
    DeviceMemoryTest() {
        driver = {};
        EXPECT_EQ(memory_.reserve(), CUDA_SUCCESS);
    }
    CUdeviceptr take(uint64_t bytes, CUdevice device = 0) {
        CUdeviceptr address = 0;
        EXPECT_EQ(memory_.allocate(device, bytes, 1, &address), CUDA_SUCCESS);
        return address;
    }
    void give(CUdeviceptr address) {
        EXPECT_EQ(memory_.free(address), CUDA_SUCCESS);
        memory_.reclaim(address);
    }
    const DriverTable table_ = table();
    DeviceMemory memory_{table_};
};

}  // namespace

TEST_F(DeviceMemoryTest, KeepsAnEmptyChunkForTheNextAllocation) {
    for (uint64_t bytes : {MiB, 2 * MiB, 20 * MiB}) {
        const unsigned before = driver.made;
        for (int i = 0; i < 100; ++i) give(take(bytes));
        EXPECT_LE(driver.made, before + 1);
    }
    EXPECT_EQ(memory_.bytes(), 0u);
    EXPECT_EQ(memory_.spare_bytes(0), 22 * MiB);
    EXPECT_EQ(memory_.spare_bytes(1), 0u);
    EXPECT_TRUE(memory_.describe().empty());
    EXPECT_TRUE(memory_.release_spares());
    EXPECT_FALSE(memory_.release_spares());
    EXPECT_EQ(driver.used, 0u);
    EXPECT_EQ(driver.mapped, 0u);
}

TEST_F(DeviceMemoryTest, KeepsLittle) {
    std::vector<CUdeviceptr> all;
    for (int i = 0; i < 100; ++i) all.push_back(take(2 * MiB));
    all.push_back(take(40 * MiB));
    for (CUdeviceptr address : all) give(address);
    EXPECT_EQ(driver.used, 64 * MiB);
    EXPECT_EQ(memory_.spare_bytes(0), 64 * MiB);
}

TEST_F(DeviceMemoryTest, GivesSparesBackBeforeMemoryIsShort) {
    driver.limit = 64 * MiB;
    give(take(32 * MiB));
    give(take(20 * MiB));
    EXPECT_EQ(driver.used, 52 * MiB);
    take(64 * MiB);
    CUdeviceptr address = 0;
    EXPECT_EQ(memory_.allocate(0, 2 * MiB, 1, &address), CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT_EQ(memory_.bytes(), 64 * MiB);
}

TEST_F(DeviceMemoryTest, NewPeersSeeNoOldSpare) {
    give(take(2 * MiB));
    EXPECT_EQ(memory_.allow_peer(0, 1), CUDA_SUCCESS);
    const unsigned before = driver.access;
    give(take(2 * MiB));
    EXPECT_EQ(driver.access, before + 2);
    EXPECT_EQ(memory_.forbid_peer(0, 1), CUDA_SUCCESS);
    EXPECT_EQ(memory_.spare_bytes(0), 0u);
}

TEST_F(DeviceMemoryTest, AnotherDeviceHasItsOwn) {
    const CUdeviceptr first = take(4096);
    EXPECT_EQ(take(4096), first + 4096);
    EXPECT_NE(take(4096, 1) / (2 * MiB), first / (2 * MiB));
}

TEST_F(DeviceMemoryTest, FillsHolesOfSharedChunks) {
    std::vector<CUdeviceptr> all;
    for (int i = 0; i < 4096; ++i) all.push_back(take(4096));  // eight chunks
    EXPECT_EQ(driver.made, 8u);
    for (size_t i = 0; i < all.size(); i += 2) give(all[i]);
    for (size_t i = 0; i < all.size(); i += 2) take(4096);
    EXPECT_EQ(driver.made, 8u);
    take(8192);
    EXPECT_EQ(driver.made, 9u);
}

TEST_F(DeviceMemoryTest, ManyLivingAllocationsCostNoMoreThanFew) {
    // A shared chunk for each two of them; were they looked through one by one, this would take minutes.
    std::vector<CUdeviceptr> all;
    for (int i = 0; i < 100'000; ++i) all.push_back(take(MiB));
    EXPECT_EQ(driver.made, 50'000u);
    for (CUdeviceptr address : all) give(address);
    EXPECT_EQ(driver.used, 64 * MiB);
}

TEST_F(DeviceMemoryTest, IsTheSameAfterARestore) {
    std::vector<CUdeviceptr> all;
    for (int i = 0; i < 600; ++i) all.push_back(take(4096));
    give(all[7]);
    give(take(2 * MiB));
    std::vector<DeviceAllocation> allocations;
    for (const auto& [address, allocation] : memory_.allocations()) allocations.push_back(allocation);
    DeviceMemory restored(table_);
    ASSERT_EQ(restored.reserve(), CUDA_SUCCESS);
    ASSERT_EQ(restored.recreate(memory_.describe(), allocations), CUDA_SUCCESS);
    CUdeviceptr address = 0;
    EXPECT_EQ(restored.allocate(0, 4096, 1, &address), CUDA_SUCCESS);
    EXPECT_EQ(address, all[7]);
    for (const auto& [at, allocation] : memory_.allocations()) EXPECT_TRUE(restored.find(at));
}
