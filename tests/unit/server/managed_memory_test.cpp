// SPDX-License-Identifier: MIT
#include "managed_memory.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

using namespace cricket::server;

namespace {

constexpr uint64_t base = 0x300000000000, bytes = 1 << 20;
constexpr CUmemLocation nowhere{CU_MEM_LOCATION_TYPE_INVALID, 0}, cpu{CU_MEM_LOCATION_TYPE_HOST, 0};
constexpr CUmemLocation device(int id) { return {CU_MEM_LOCATION_TYPE_DEVICE, id}; }

CUresult two_devices(int* count) {
    *count = 2;
    return CUDA_SUCCESS;
}

class ManagedMemoryTest : public ::testing::Test {
  protected:
    ManagedMemoryTest() {
        driver_.cuDeviceGetCount = two_devices;
        memory_.add({base, bytes, 0, 1, CU_MEM_ATTACH_GLOBAL, 0});
    }
    int told(uint64_t address, uint64_t size, CUmem_range_attribute attribute) {
        std::vector<int32_t> values;
        EXPECT_EQ(memory_.range_attribute(address, size, attribute, 4, &values), CUDA_SUCCESS);
        return values.empty() ? -100 : values[0];
    }
    DriverTable driver_;
    ManagedMemory memory_{driver_};
};

}  // namespace

TEST_F(ManagedMemoryTest, FindsWhatLiesInside) {
    EXPECT_TRUE(memory_.find(base, bytes));
    EXPECT_TRUE(memory_.find(base + bytes - 1));
    EXPECT_FALSE(memory_.find(base + bytes));
    EXPECT_FALSE(memory_.find(base - 1));
    EXPECT_FALSE(memory_.find(base + 1, bytes));
    memory_.remove(base);
    EXPECT_FALSE(memory_.find(base));
}

TEST_F(ManagedMemoryTest, TellsWhatAllPagesAgreeOn) {
    EXPECT_EQ(told(base, bytes, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION), CU_DEVICE_INVALID);
    EXPECT_EQ(memory_.prefetch(base, bytes, device(1)), CUDA_SUCCESS);
    EXPECT_EQ(told(base, bytes, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION), 1);
    EXPECT_EQ(memory_.prefetch(base + 5000, 1, cpu), CUDA_SUCCESS);  // one page
    EXPECT_EQ(told(base, bytes, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION), CU_DEVICE_INVALID);
    EXPECT_EQ(told(base + 4096, 4096, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION), CU_DEVICE_CPU);
    EXPECT_EQ(told(base + 4096, 4096, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE), CU_MEM_LOCATION_TYPE_HOST);
    EXPECT_EQ(told(base + 8192, bytes - 8192, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION), 1);
    EXPECT_EQ(memory_.advise(base, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, device(0)), CUDA_SUCCESS);
    EXPECT_EQ(memory_.advise(base, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, cpu), CUDA_SUCCESS);
    EXPECT_EQ(memory_.advise(base, 4096, CU_MEM_ADVISE_SET_ACCESSED_BY, device(1)), CUDA_SUCCESS);
    std::vector<int32_t> by;
    EXPECT_EQ(memory_.range_attribute(base, bytes, CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, 16, &by), CUDA_SUCCESS);
    EXPECT_EQ(by, (std::vector<int32_t>{0, CU_DEVICE_CPU, CU_DEVICE_INVALID, CU_DEVICE_INVALID}));
}

TEST_F(ManagedMemoryTest, RefusesWhatDoesNotFit) {
    EXPECT_EQ(memory_.prefetch(base, bytes + 1, device(0)), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(memory_.prefetch(base, 0, device(0)), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(memory_.prefetch(base, bytes, device(2)), CUDA_ERROR_INVALID_DEVICE);
    EXPECT_EQ(memory_.prefetch(base, bytes, nowhere), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(memory_.advise(base, bytes, static_cast<CUmem_advise>(77), cpu), CUDA_ERROR_INVALID_VALUE);
    std::vector<int32_t> values;
    EXPECT_EQ(memory_.range_attribute(base, bytes, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, 8, &values), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(memory_.range_attribute(base, bytes, CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, 6, &values), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(ManagedMemoryTest, ComesBackAsItWas) {
    memory_.advise(base, 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, cpu);
    memory_.advise(base, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, device(1));
    const nlohmann::json description = memory_.describe();
    ManagedMemory other{driver_};
    other.recreate(description);
    EXPECT_EQ(other.describe(), description);
    EXPECT_EQ(other.find(base)->id, memory_.find(base)->id);
}
