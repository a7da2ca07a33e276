// SPDX-License-Identifier: MIT
// Which names dlopen takes for the driver's.
#include "client/interpose.h"

#include <gtest/gtest.h>

namespace cricket::client {
namespace {

TEST(Interpose, DriverNames) {
    for (const char* name :
         {"libcuda.so", "libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.1", "./libcuda.so",
          "/usr/lib64/libcuda.so.580.159.04", "../x/libcuda.so.1", "//libcuda.so.1"})
        EXPECT_TRUE(names_driver(name)) << name;
}

TEST(Interpose, OtherNames) {
    for (const char* name : {"", "/", "libcudart.so.13", "libcuda.so.", "libcuda.so.1.bak", "libcuda.so.1/",
                             "libcuda.so.1/libfoo.so", "mylibcuda.so.1", "/tmp/libcuda.socket", "libcuda.a",
                             "libcudadebugger.so.1", "libcuda"})
        EXPECT_FALSE(names_driver(name)) << name;
    EXPECT_FALSE(names_driver(nullptr));
}

TEST(Interpose, NvmlNames) {
    for (const char* name : {"libnvidia-ml.so", "libnvidia-ml.so.1", "/usr/lib64/nvidia/libnvidia-ml.so.580.159.04"})
        EXPECT_TRUE(names_nvml(name)) << name;
    for (const char* name : {"libcuda.so.1", "libnvidia-ml.so.", "libnvidia-ml.so.1.bak", "libnvidia-ml.a",
                             "libnvidia-ml.so.1/x", "libnvidia-ml-extra.so.1", "libcricket-nvml.so", ""})
        EXPECT_FALSE(names_nvml(name)) << name;
    EXPECT_FALSE(names_nvml(nullptr));
    for (const char* name : {"libnvcuvid.so.1", "/usr/lib/libnvcuvid.so.580.159.04", "libnvidia-encode.so.1"})
        EXPECT_TRUE(names_video(name)) << name;
    for (const char* name : {"libnvcuvid", "libnvidia-encoder.so", "libnvjpeg.so.13"}) EXPECT_FALSE(names_video(name)) << name;
}

}  // namespace
}  // namespace cricket::client
