// SPDX-License-Identifier: MIT
// Loading images: what crosses is exactly the image, files are read here, JIT options go out and come back.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "client/contexts.h"
#include "client/jit_options.h"
#include "custom.h"
#include "fake_session.h"

namespace cricket::client {
namespace {

const std::string ptx = ".version 8.0\n.target sm_75\n.address_size 64\n.visible .entry f() { ret; }\n";

// A fatbin as its header describes it, with trailing bytes that do not belong to it.
std::string fatbin(size_t payload) {
    struct {
        uint32_t magic;
        uint16_t version, header_size;
        uint64_t payload_size;
    } header{0xba55ed50, 1, 16, payload};
    std::string made(reinterpret_cast<char*>(&header), sizeof header);
    for (size_t i = 0; i < payload; ++i) made += static_cast<char>(i);
    return made;
}

struct Wrapper {
    uint32_t magic = 0x466243b1, version = 1;
    const void* data;
    const void* unused = nullptr;
};

std::string write_file(const std::string& content) {
    char path[] = "/tmp/cricket-modules-XXXXXX";
    int fd = mkstemp(path);
    EXPECT_EQ(write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    close(fd);
    return path;
}

class Modules : public testing::Test {
  protected:
    void SetUp() override {
        auto& session = fake::session();
        session.initialized = true;
        session.made.clear();
        session.image.clear();
        constexpr uint64_t context = 0x1800000000;
        if (!contexts::known(context)) contexts::add(context, 0, true);
        if (contexts::top() != context) contexts::push(context);
        session.answer<cuModuleLoadData_args, cuModuleLoadData_res>(Proc::cuModuleLoadData,
                                                                    [](auto&, auto& res) {
                                                                        res.module = 0x2000000010;
                                                                        return CUDA_SUCCESS;
                                                                    });
    }
    CUmodule module_ = nullptr;
    const CUmodule expected_ = reinterpret_cast<CUmodule>(0x2000000010);
};

TEST_F(Modules, ExactlyTheImageCrosses) {
    std::string image = fatbin(1000), longer = image + "garbage behind it";
    ASSERT_EQ(impl_cuModuleLoadData(&module_, longer.data()), CUDA_SUCCESS);
    EXPECT_EQ(module_, expected_);
    EXPECT_EQ(fake::session().image, image);
    Wrapper wrapper{.data = longer.data()};
    ASSERT_EQ(impl_cuModuleLoadFatBinary(&module_, &wrapper), CUDA_SUCCESS);
    EXPECT_EQ(fake::session().image, image);
    ASSERT_EQ(impl_cuModuleLoadData(&module_, ptx.c_str()), CUDA_SUCCESS);
    EXPECT_EQ(fake::session().image, std::string(ptx.c_str(), ptx.size() + 1));  // with its NUL
}

TEST_F(Modules, WhatIsNoImageIsRefusedHere) {
    unsigned char garbage[32] = {1, 2, 3, 4};
    EXPECT_EQ(impl_cuModuleLoadData(&module_, garbage), CUDA_ERROR_INVALID_IMAGE);
    Wrapper wrapper{.data = garbage};
    EXPECT_EQ(impl_cuModuleLoadFatBinary(&module_, &wrapper), CUDA_ERROR_INVALID_IMAGE);
    std::string absurd = fatbin(0);
    uint64_t size = ~uint64_t(0);
    memcpy(absurd.data() + 8, &size, sizeof size);
    EXPECT_EQ(impl_cuModuleLoadData(&module_, absurd.data()), CUDA_ERROR_INVALID_IMAGE);
    EXPECT_EQ(impl_cuModuleLoadData(&module_, nullptr), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuModuleLoadData(nullptr, ptx.c_str()), CUDA_ERROR_INVALID_VALUE);
    fake::session().initialized = false;
    EXPECT_EQ(impl_cuModuleLoadData(&module_, ptx.c_str()), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_TRUE(fake::session().made.empty());
}

TEST_F(Modules, Files) {
    for (const std::string& content : {fatbin(100), fatbin(100000), ptx}) {
        std::string path = write_file(content);
        ASSERT_EQ(impl_cuModuleLoad(&module_, path.c_str()), CUDA_SUCCESS);
        EXPECT_EQ(fake::session().image, content == ptx ? std::string(ptx.c_str(), ptx.size() + 1) : content);
        unlink(path.c_str());
        errno = 0;
        EXPECT_EQ(impl_cuModuleLoad(&module_, path.c_str()), CUDA_ERROR_FILE_NOT_FOUND);
        EXPECT_EQ(errno, 0);
    }
    std::string path = write_file("");
    EXPECT_EQ(impl_cuModuleLoad(&module_, path.c_str()), CUDA_ERROR_INVALID_IMAGE);
    EXPECT_EQ(impl_cuModuleLoad(&module_, "/tmp"), CUDA_ERROR_OPERATING_SYSTEM);
    unlink(path.c_str());
}

TEST_F(Modules, TruncatedFileIsSentAsItIs) {
    std::string path = write_file(fatbin(1000).substr(0, 300));
    ASSERT_EQ(impl_cuModuleLoad(&module_, path.c_str()), CUDA_SUCCESS);  // the driver's to judge
    EXPECT_EQ(fake::session().image.size(), 300u);
    unlink(path.c_str());
}

TEST_F(Modules, JitOptionsGoOutAndComeBack) {
    fake::session().answer<cuModuleLoadDataEx_args, cuModuleLoadDataEx_res>(
        Proc::cuModuleLoadDataEx, [](auto& args, auto& res) {
            EXPECT_EQ(args.jit_options.size, 6 * 4u);
            EXPECT_EQ(args.jit_values.size, 6 * 8u);
            auto codes = static_cast<const uint32_t*>(args.jit_options.data);
            static uint64_t values[6];
            memcpy(values, args.jit_values.data, sizeof values);
            EXPECT_EQ(codes[0], CU_JIT_ERROR_LOG_BUFFER);
            EXPECT_EQ(values[0], 1u);  // that there is one: no pointer leaves the process
            EXPECT_EQ(values[1], 8u);
            EXPECT_EQ(values[2], 3u);
            float milliseconds = 1.5f;
            memcpy(&values[3], &milliseconds, sizeof milliseconds);
            EXPECT_EQ(values[4], 1u);
            values[1] = 21;
            values[2] = 999;  // an input: not handed back
            static const char error[] = "error: a long message", info[] = "info";
            res.jit_values = {values, sizeof values, true, false};
            res.error_log = {error, sizeof error, true, false};
            res.info_log = {info, sizeof info, true, false};
            return CUDA_ERROR_INVALID_PTX;
        });
    char error[9] = "????????", info[64] = "?";
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER,   CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
                              CU_JIT_OPTIMIZATION_LEVEL, CU_JIT_WALL_TIME,
                              CU_JIT_INFO_LOG_BUFFER,    CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES};
    void* values[] = {error, reinterpret_cast<void*>(8),          reinterpret_cast<void*>(3), nullptr,
                      info,  reinterpret_cast<void*>(sizeof info)};
    EXPECT_EQ(impl_cuModuleLoadDataEx(&module_, ptx.c_str(), 6, options, values), CUDA_ERROR_INVALID_PTX);
    EXPECT_STREQ(error, "error: ");  // eight bytes with the NUL
    EXPECT_EQ(error[8], 0);
    EXPECT_STREQ(info, "info");
    EXPECT_EQ(values[0], error);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(values[1]), 21u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(values[2]), 3u);
    float milliseconds;
    memcpy(&milliseconds, &values[3], sizeof milliseconds);
    EXPECT_EQ(milliseconds, 1.5f);
}

TEST_F(Modules, JitOptionsThatCannotCross) {
    CUjit_option option = CU_JIT_GLOBAL_SYMBOL_ADDRESSES;
    void* value = &option;
    EXPECT_EQ(impl_cuModuleLoadDataEx(&module_, ptx.c_str(), 1, &option, &value), CUDA_ERROR_NOT_SUPPORTED);
    option = static_cast<CUjit_option>(CU_JIT_NUM_OPTIONS);
    EXPECT_EQ(impl_cuModuleLoadDataEx(&module_, ptx.c_str(), 1, &option, &value), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuModuleLoadDataEx(&module_, ptx.c_str(), 1, nullptr, &value), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuModuleLoadDataEx(&module_, ptx.c_str(), 1000, &option, &value),
              CUDA_ERROR_INVALID_VALUE);
    EXPECT_TRUE(fake::session().made.empty());
}

TEST_F(Modules, Libraries) {
    fake::session().answer<cuLibraryLoadData_args, cuLibraryLoadData_res>(
        Proc::cuLibraryLoadData, [](auto& args, auto& res) {
            EXPECT_EQ(args.numJitOptions, 0u);
            EXPECT_FALSE(args.jit_options.present);
            res.library = 0x3000000010;
            return CUDA_SUCCESS;
        });
    CUlibrary library = nullptr;
    std::string image = fatbin(64);
    CUlibraryOption preserved = CU_LIBRARY_BINARY_IS_PRESERVED;
    void* yes = reinterpret_cast<void*>(1);
    ASSERT_EQ(impl_cuLibraryLoadData(&library, image.data(), nullptr, nullptr, 0, &preserved, &yes, 1),
              CUDA_SUCCESS);
    EXPECT_EQ(library, reinterpret_cast<CUlibrary>(0x3000000010));
    EXPECT_EQ(fake::session().image, image);
    std::string path = write_file(image);
    EXPECT_EQ(impl_cuLibraryLoadFromFile(&library, path.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0),
              CUDA_SUCCESS);
    EXPECT_EQ(impl_cuLibraryLoadFromFile(&library, path.c_str(), nullptr, nullptr, 0, &preserved, &yes, 1),
              CUDA_ERROR_INVALID_VALUE);
    unlink(path.c_str());
    preserved = static_cast<CUlibraryOption>(77);
    EXPECT_EQ(impl_cuLibraryLoadData(&library, image.data(), nullptr, nullptr, 0, &preserved, &yes, 1),
              CUDA_ERROR_INVALID_VALUE);
}

}  // namespace
}  // namespace cricket::client
