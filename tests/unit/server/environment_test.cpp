// SPDX-License-Identifier: MIT
#include "environment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

namespace cricket::server {
namespace {

TEST(EnvironmentTest, OnlyVariablesOfCudaAreTaken) {
    const char text[] = "CUDA_A=1\0PATH=/bin\0CUDA_NO_VALUE\0CUDA_INJECTION64_PATH=/x.so\0CUDA_B=\0CUDA_CUT=yes";
    EXPECT_EQ(read_variables(text, sizeof text - 1), (Variables{"CUDA_A=1", "CUDA_B="}));  // the last has no end
    EXPECT_EQ(read_variables(nullptr, 0), Variables());
}

TEST(EnvironmentTest, TheSessionsVariablesReplaceTheServers) {
    ::setenv("CUDA_OF_THE_SERVER", "1", 1);
    ::setenv("OTHER_OF_THE_SERVER", "2", 1);
    const Variables all = worker_environment({"CUDA_MINE=3"});
    const auto has = [&](const char* variable) { return std::count(all.begin(), all.end(), std::string(variable)); };
    EXPECT_EQ(has("CUDA_OF_THE_SERVER=1"), 0);
    EXPECT_EQ(has("OTHER_OF_THE_SERVER=2"), 1);
    EXPECT_EQ(has("CUDA_MINE=3"), 1);
    set_variables({"CUDA_MINE=4", "PATH=/nowhere"});
    EXPECT_EQ(current_variables(), Variables{"CUDA_MINE=4"});
    EXPECT_STRNE(::getenv("PATH"), "/nowhere");
}

}  // namespace
}  // namespace cricket::server
