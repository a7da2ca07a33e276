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

}  // namespace
}  // namespace cricket::client
