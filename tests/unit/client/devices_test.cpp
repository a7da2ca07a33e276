// SPDX-License-Identifier: MIT
// What does not change about a device is asked for once.
#include <gtest/gtest.h>

#include <cstring>

#include "client/devices.h"
#include "custom.h"
#include "fake_session.h"

namespace cricket::client {
namespace {

// The caches live as long as the process: the tests share one driver, and its answers do not change.
class Devices : public testing::Test {
  protected:
    void SetUp() override {
        auto& session = fake::session();
        session.initialized = true;
        session.made.clear();
        session.answer<cuDeviceGetCount_args, cuDeviceGetCount_res>(Proc::cuDeviceGetCount,
                                                                    [](auto&, auto& res) {
                                                                        res.count = 2;
                                                                        return CUDA_SUCCESS;
                                                                    });
        session.answer<cuDeviceGetAttribute_args, cuDeviceGetAttribute_res>(
            Proc::cuDeviceGetAttribute, [](auto& args, auto& res) {
                if (args.dev > 1 || args.attrib > 140) return CUDA_ERROR_INVALID_VALUE;
                res.pi = args.attrib == 13 ? -5 : static_cast<int>(args.attrib) * 100 + args.dev;
                return CUDA_SUCCESS;
            });
        session.answer<cuDeviceGetName_args, cuDeviceGetName_res>(
            Proc::cuDeviceGetName, [](auto& args, auto& res) {
                static const char name[] = "A GPU of the test";
                if (args.dev > 1) return CUDA_ERROR_INVALID_DEVICE;
                res.name = {name, sizeof name, true, false};
                return CUDA_SUCCESS;
            });
        session.answer<cuDeviceGetUuid_v2_args, cuDeviceGetUuid_v2_res>(
            Proc::cuDeviceGetUuid_v2, [](auto& args, auto& res) {
                std::memset(&res.uuid, 0x40 + args.dev, sizeof res.uuid);
                return CUDA_SUCCESS;
            });
        session.answer<cuDeviceGetUuid_args, cuDeviceGetUuid_res>(
            Proc::cuDeviceGetUuid_v1, [](auto& args, auto& res) {
                std::memset(&res.uuid, 0x60 + args.dev, sizeof res.uuid);
                return CUDA_SUCCESS;
            });
        session.answer<cuDeviceTotalMem_v2_args, cuDeviceTotalMem_v2_res>(Proc::cuDeviceTotalMem_v2,
                                                                          [](auto&, auto& res) {
                                                                              res.bytes = uint64_t(141) << 30;
                                                                              return CUDA_SUCCESS;
                                                                          });
        session.answer<cuDriverGetVersion_args, cuDriverGetVersion_res>(
            Proc::cuDriverGetVersion, [](auto&, auto& res) {
                res.driverVersion = CUDA_VERSION + 30;
                return CUDA_SUCCESS;
            });
    }
};

TEST_F(Devices, CountAndOrdinals) {
    int count = 0;
    CUdevice device = -1;
    EXPECT_EQ(impl_cuDeviceGetCount(&count), CUDA_SUCCESS);
    EXPECT_EQ(count, 2);
    EXPECT_EQ(impl_cuDeviceGet(&device, 1), CUDA_SUCCESS);
    EXPECT_EQ(device, 1);
    EXPECT_EQ(impl_cuDeviceGet(&device, 2), CUDA_ERROR_INVALID_DEVICE);
    EXPECT_EQ(impl_cuDeviceGet(&device, -1), CUDA_ERROR_INVALID_DEVICE);
    EXPECT_EQ(impl_cuDeviceGet(nullptr, 0), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuDeviceGetCount(nullptr), CUDA_ERROR_INVALID_VALUE);
    EXPECT_LE(fake::session().times(Proc::cuDeviceGetCount), 1);
}

TEST_F(Devices, AttributesAreAskedOnce) {
    for (int round = 0; round < 3; ++round)
        for (int attribute = 1; attribute <= 140; ++attribute)
            for (CUdevice device : {0, 1}) {
                int value = 0;
                ASSERT_EQ(
                    impl_cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(attribute), device),
                    CUDA_SUCCESS);
                ASSERT_EQ(value, attribute == 13 ? -5 : attribute * 100 + device);
            }
    EXPECT_EQ(fake::session().times(Proc::cuDeviceGetAttribute), 280);
}

TEST_F(Devices, ErrorsAreNotKept) {
    int value;
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(impl_cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(141), 0),
                  CUDA_ERROR_INVALID_VALUE);
        EXPECT_EQ(impl_cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(99999), 0),
                  CUDA_ERROR_INVALID_VALUE);
        EXPECT_EQ(impl_cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 4711),
                  CUDA_ERROR_INVALID_VALUE);
        EXPECT_EQ(impl_cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, -1),
                  CUDA_SUCCESS);  // the driver's word
    }
    EXPECT_EQ(fake::session().times(Proc::cuDeviceGetAttribute), 8);
    EXPECT_EQ(impl_cuDeviceGetAttribute(nullptr, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(Devices, NameIsCutAsTheDriverDoes) {
    char name[64];
    for (int i = 0; i < 2; ++i) {
        std::memset(name, 'x', sizeof name);
        ASSERT_EQ(impl_cuDeviceGetName(name, sizeof name, 1), CUDA_SUCCESS);
        EXPECT_STREQ(name, "A GPU of the test");
        ASSERT_EQ(impl_cuDeviceGetName(name, 6, 1), CUDA_SUCCESS);
        EXPECT_STREQ(name, "A GPU");
        ASSERT_EQ(impl_cuDeviceGetName(name, 1, 1), CUDA_SUCCESS);
        EXPECT_STREQ(name, "");
    }
    EXPECT_EQ(fake::session().times(Proc::cuDeviceGetName), 1);
    EXPECT_EQ(impl_cuDeviceGetName(name, 0, 1), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuDeviceGetName(nullptr, 5, 1), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(Devices, UuidAndMemory) {
    for (int i = 0; i < 2; ++i) {
        CUuuid uuid;
        size_t bytes;
        ASSERT_EQ(impl_cuDeviceGetUuid_v2(&uuid, 1), CUDA_SUCCESS);
        EXPECT_EQ(uuid.bytes[15], 0x41);
        ASSERT_EQ(impl_cuDeviceGetUuid(&uuid, 1), CUDA_SUCCESS);
        EXPECT_EQ(uuid.bytes[15], 0x61);
        ASSERT_EQ(impl_cuDeviceTotalMem_v2(&bytes, 0), CUDA_SUCCESS);
        EXPECT_EQ(bytes, size_t(141) << 30);
    }
    EXPECT_EQ(fake::session().times(Proc::cuDeviceGetUuid_v2), 1);
    EXPECT_EQ(fake::session().times(Proc::cuDeviceTotalMem_v2), 1);
}

TEST_F(Devices, VersionIsNeverNewerThanTheApiWeSpeak) {
    int version = 0;
    ASSERT_EQ(impl_cuDriverGetVersion(&version), CUDA_SUCCESS);
    EXPECT_EQ(version, CUDA_VERSION);
    fake::session().initialized = false;  // and legal without cuInit
    ASSERT_EQ(impl_cuDriverGetVersion(&version), CUDA_SUCCESS);
    EXPECT_EQ(version, CUDA_VERSION);
    EXPECT_EQ(impl_cuDriverGetVersion(nullptr), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(Devices, ValidityRecords) {
    ValidityDevice found[devices::max_cached];
    ASSERT_EQ(devices::validity_devices(found), 2u);
    EXPECT_EQ(found[1].uuid[0], 0x61);
    EXPECT_EQ(found[1].pci_bus, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID * 100 + 1);
    EXPECT_EQ(found[0].pci_device, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID * 100);
    EXPECT_EQ(found[0].pci_domain, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID * 100);
}

}  // namespace
}  // namespace cricket::client
