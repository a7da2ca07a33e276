// SPDX-License-Identifier: MIT
// What is asked again is answered from files; what differs in anything, is damaged or has no room is not.
#include "client/compile_cache.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace cricket::client::compile_cache {
namespace {

namespace fs = std::filesystem;

struct Asked {
    uint32_t kind = 2, arch = 90;
    std::string input = "BC a program", options = " -arch=sm_90", target = "HOST64", built = "Aug 20 2025";
};

class CompileCache : public testing::Test {
  protected:
    void SetUp() override {
        char path[] = "/tmp/cricket-compile-cache-XXXXXX";
        root_ = ::mkdtemp(path);
        ::setenv("CUDA_CACHE_PATH", (root_ + "/deep/er").c_str(), 1);
        ::unsetenv("CUDA_CACHE_DISABLE");
        ::unsetenv("CUDA_CACHE_MAXSIZE");
    }
    void TearDown() override { fs::remove_all(root_); }
    fs::path folder() const { return root_ + "/deep/er/cricket"; }
    std::vector<fs::path> files() const {
        std::vector<fs::path> found;
        if (fs::exists(folder()))
            for (const auto& one : fs::directory_iterator(folder())) found.push_back(one.path());
        return found;
    }

    static Question* question(const Asked& asked) {
        Question* made = nullptr;
        EXPECT_EQ(begin(&made, asked.kind, asked.input.data(), asked.input.size(), asked.options.c_str(), asked.target.c_str(),
                        asked.built.c_str(), asked.arch), CUDA_SUCCESS);
        return made;
    }
    static void keep(const Asked& asked, const std::string& answer, uint32_t part = 0) {
        Question* made = question(asked);
        EXPECT_EQ(store(made, part, answer.data(), static_cast<uint32_t>(answer.size())), CUDA_SUCCESS);
        EXPECT_EQ(end(made), CUDA_SUCCESS);
    }
    // "-": not there.
    static std::string answer(const Asked& asked, uint32_t part = 0) {
        Question* made = question(asked);
        void* data = nullptr;
        uint32_t bytes = 0;
        errno = 77;
        const CUresult status = find(made, part, &data, &bytes);
        EXPECT_EQ(errno, 77);
        EXPECT_EQ(end(made), CUDA_SUCCESS);
        if (status != CUDA_SUCCESS) {
            EXPECT_EQ(status, CUDA_ERROR_NOT_FOUND);
            return "-";
        }
        const std::string text(static_cast<char*>(data), bytes);
        EXPECT_EQ(release(data), CUDA_SUCCESS);
        return text;
    }

    std::string root_;
};

TEST_F(CompileCache, TheSameIsFoundAndNothingElse) {
    EXPECT_EQ(answer({}), "-");
    keep({}, std::string("ptx\0with a zero", 15));
    keep({.kind = 1}, "cubin");
    keep({}, "second part", 1);
    EXPECT_EQ(answer({}), std::string("ptx\0with a zero", 15));
    EXPECT_EQ(answer({.kind = 1}), "cubin");
    EXPECT_EQ(answer({}, 1), "second part");
    for (const Asked& other : {Asked{.kind = 3}, Asked{.arch = 80}, Asked{.input = "BC a Program"}, Asked{.input = "BC a program "},
                               Asked{.options = " -arch=sm_90 -G"}, Asked{.target = "HOST32"}, Asked{.built = "Aug 21 2025"}})
        EXPECT_EQ(answer(other), "-");
    EXPECT_EQ(answer({}, 2), "-");
    keep({}, "made anew");
    EXPECT_EQ(answer({}), "made anew");
    EXPECT_EQ(files().size(), 3u);
    keep({.input = ""}, "");
    EXPECT_EQ(answer({.input = ""}), "");
}

// As NVRTC asks: the options of the PTX are not told again with the cubin.
TEST_F(CompileCache, ACubinBelongsToItsPtx) {
    const Asked cubin{.kind = 1}, exact{}, fast{.options = " -arch=sm_90 -ftz=1"};
    keep(exact, "exact ptx");
    keep(cubin, "exact cubin");
    EXPECT_EQ(answer(fast), "-");
    EXPECT_EQ(answer(cubin), "-");
    keep(fast, "fast ptx");
    keep(cubin, "fast cubin");
    EXPECT_EQ(answer(exact), "exact ptx");
    EXPECT_EQ(answer(cubin), "exact cubin");
    EXPECT_EQ(answer(fast), "fast ptx");
    EXPECT_EQ(answer(cubin), "fast cubin");
    // Of another input than that of the PTX before: from which PTX it is made cannot be told.
    keep({.kind = 1, .input = "other"}, "other cubin");
    EXPECT_EQ(answer({.kind = 1, .input = "other"}), "-");
    std::thread([&] { EXPECT_EQ(answer(cubin), "-"); }).join();
    // As nvJitLink asks: of another input, before the PTX has its end.
    Question* open = question(exact);
    keep({.kind = 1, .input = "linked"}, "linked cubin");
    EXPECT_EQ(answer({.kind = 1, .input = "linked"}), "linked cubin");
    EXPECT_EQ(end(open), CUDA_SUCCESS);
    EXPECT_EQ(answer({.kind = 1, .input = "linked"}), "-");
}

TEST_F(CompileCache, DamageIsNoAnswer) {
    keep({}, std::string(1000, 'x'));
    ASSERT_EQ(files().size(), 1u);
    const fs::path file = files()[0];
    const auto size = fs::file_size(file);
    for (const uint64_t at : {uint64_t(0), uint64_t(8), uint64_t(16), uint64_t(40), size - 1}) {
        std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
        bytes.seekg(static_cast<std::streamoff>(at));
        const int before = bytes.get();
        bytes.seekp(static_cast<std::streamoff>(at));
        bytes.put(static_cast<char>(before ^ 1)).flush();
        EXPECT_EQ(answer({}), "-") << at;
        bytes.seekp(static_cast<std::streamoff>(at));
        bytes.put(static_cast<char>(before)).flush();
        EXPECT_EQ(answer({}), std::string(1000, 'x')) << at;
    }
    fs::resize_file(file, size - 1);
    EXPECT_EQ(answer({}), "-");
    fs::remove(file);
    fs::create_symlink("/etc/passwd", file);
    EXPECT_EQ(answer({}), "-");
}

TEST_F(CompileCache, WhatWasUsedLastStays) {
    ::setenv("CUDA_CACHE_MAXSIZE", "4000", 1);
    for (const char* input : {"a", "b", "c"}) keep({.input = input}, std::string(1000, 'x'));
    EXPECT_NE(answer({.input = "a"}), "-");
    keep({.input = "d"}, std::string(1000, 'x'));
    EXPECT_EQ(answer({.input = "b"}), "-");
    for (const char* input : {"a", "c", "d"}) EXPECT_NE(answer({.input = input}), "-") << input;
    keep({.input = "large"}, std::string(4000, 'x'));
    EXPECT_EQ(answer({.input = "large"}), "-");
    EXPECT_EQ(files().size(), 3u);
}

TEST_F(CompileCache, WhatWasBegunAndLeftGoes) {
    keep({}, "x");
    const fs::path left = folder() / ".0123456789abcdef", young = folder() / ".fedcba9876543210";
    for (const fs::path& one : {left, young}) std::ofstream(one) << "half";
    fs::last_write_time(left, fs::file_time_type::clock::now() - std::chrono::hours(1));
    keep({.input = "other"}, "y");
    EXPECT_FALSE(fs::exists(left));
    EXPECT_TRUE(fs::exists(young));
}

TEST_F(CompileCache, NoFileAboveTheLimitIsBegun) {
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const rlimit limit{1000, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);  // a write beyond it would end the process
    keep({}, std::string(2000, 'x'));
    EXPECT_EQ(answer({}), "-");
    keep({}, "small");
    EXPECT_EQ(answer({}), "small");
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
}

TEST_F(CompileCache, NowhereToBe) {
    ::setenv("CUDA_CACHE_DISABLE", "1", 1);
    keep({}, "x");
    EXPECT_EQ(answer({}), "-");
    EXPECT_FALSE(fs::exists(folder()));
    ::setenv("CUDA_CACHE_DISABLE", "0", 1);
    keep({}, "x");
    EXPECT_EQ(answer({}), "x");
    fs::permissions(folder(), fs::perms::all);  // others could put their code there
    EXPECT_EQ(answer({}), "-");
    ::setenv("CUDA_CACHE_PATH", "/dev/null/no", 1);
    keep({}, "x");
    EXPECT_EQ(answer({}), "-");
    ::setenv("CUDA_CACHE_PATH", std::string(5000, 'p').c_str(), 1);
    keep({}, "x");
    EXPECT_EQ(answer({}), "-");
}

}  // namespace
}  // namespace cricket::client::compile_cache
