// SPDX-License-Identifier: MIT
// Another process' memory, read by several threads: a child that holds a pattern.
#include "fetcher.h"

#include <gtest/gtest.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

using cricket::server::Fetcher;

namespace {

constexpr size_t total = 24u << 20;
constexpr uint64_t mark = 0x1122334455667788;

class FetcherTest : public ::testing::Test {
  protected:
    // The pattern is the child's alone: here the same pages stay zero.
    void SetUp() override {
        memory_ = static_cast<uint64_t*>(
            ::mmap(nullptr, total + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        ASSERT_NE(memory_, MAP_FAILED);
        ASSERT_EQ(::mprotect(memory_ + total / 8, 4096, PROT_NONE), 0);
        int ready[2];
        ASSERT_EQ(::pipe(ready), 0);
        child_ = ::fork();
        if (child_ == 0) {
            for (size_t i = 0; i < total / 8; ++i) memory_[i] = mark + i;
            if (::write(ready[1], "x", 1) != 1) ::_exit(1);
            for (;;) ::pause();
        }
        ::close(ready[1]);
        char c;
        ASSERT_EQ(::read(ready[0], &c, 1), 1);
        ::close(ready[0]);
        got_.resize(total / 8);
    }
    void TearDown() override {
        if (child_ > 0) end_child();
        ::munmap(memory_, total + 4096);
    }
    void end_child() {
        ::kill(child_, SIGKILL);
        ::waitpid(child_, nullptr, 0);
        child_ = 0;
    }
    bool follow(Fetcher& fetcher) { return fetcher.follow(child_, address(0), mark); }
    uint64_t address(size_t at) const { return reinterpret_cast<uint64_t>(memory_) + at; }
    Fetcher::Result fetch(Fetcher& fetcher, size_t at, size_t bytes) {
        return fetcher.fetch(reinterpret_cast<std::byte*>(got_.data()), address(at), bytes);
    }
    uint64_t* memory_ = nullptr;
    pid_t child_ = 0;
    std::vector<uint64_t> got_;
};

}  // namespace

TEST_F(FetcherTest, ReadsWhatTheProcessHas) {
    Fetcher fetcher(3, 3);
    ASSERT_TRUE(follow(fetcher));
    for (const auto& [at, bytes] : {std::pair<size_t, size_t>{0, total}, {8, 4u << 20}, {4096, 64}, {total - 8, 8}, {1u << 20, 262144},
                                    {2u << 20, 262152}}) {
        std::fill(got_.begin(), got_.end(), 0);
        ASSERT_EQ(fetch(fetcher, at, bytes), Fetcher::Result::Ok);
        for (size_t i = 0; i < bytes / 8; ++i) ASSERT_EQ(got_[i], mark + at / 8 + i) << at << " " << bytes << " " << i;
        if (bytes / 8 < got_.size()) {
            ASSERT_EQ(got_[bytes / 8], 0u);
        }
    }
}

TEST_F(FetcherTest, ManyFetchesFollowEachOther) {
    Fetcher fetcher(3, 3);
    ASSERT_TRUE(follow(fetcher));
    for (size_t round = 0; round < 3000; ++round) {
        const size_t bytes = 8 + round * 7919 % 100 * 8192;
        const size_t at = round * 4096 % (total - bytes) / 8 * 8;
        ASSERT_EQ(fetch(fetcher, at, bytes), Fetcher::Result::Ok);
        const size_t last = bytes / 8 - 1;
        for (size_t i : {size_t(0), last / 3, last / 2, last}) ASSERT_EQ(got_[i], mark + at / 8 + i) << round;
    }
}

TEST_F(FetcherTest, TellsWhatCannotBeRead) {
    Fetcher fetcher(3, 2);
    ASSERT_TRUE(follow(fetcher));
    EXPECT_EQ(fetch(fetcher, total - 4096, 8192), Fetcher::Result::Fault);
    EXPECT_EQ(fetch(fetcher, 0, 4096), Fetcher::Result::Ok);
    fetcher.refuse();
    EXPECT_EQ(fetch(fetcher, 0, 4096), Fetcher::Result::Refused);
    ASSERT_TRUE(follow(fetcher));
    end_child();
    EXPECT_EQ(fetch(fetcher, 0, 4u << 20), Fetcher::Result::Gone);
}

// As criu gives a restored program its number back, while its memory is being put there.
TEST_F(FetcherTest, ReadsNoOtherProcessThatGotTheNumber) {
    Fetcher fetcher(3, 3);
    ASSERT_TRUE(follow(fetcher));
    pid_t number = child_;
    end_child();
    clone_args how{};
    how.exit_signal = SIGCHLD;
    how.set_tid = reinterpret_cast<uint64_t>(&number);
    how.set_tid_size = 1;
    const long other = ::syscall(SYS_clone3, &how, sizeof how);
    if (other == 0)
        for (;;) ::pause();
    if (other < 0 && errno == EPERM) GTEST_SKIP() << "only root gives a process a number";
    ASSERT_EQ(other, number) << std::strerror(errno);
    child_ = number;
    EXPECT_EQ(fetch(fetcher, 0, 4u << 20), Fetcher::Result::Gone);
}

TEST_F(FetcherTest, ReadsOnlyTheRightProcess) {
    Fetcher fetcher(3, 3);
    EXPECT_FALSE(fetcher.follow(child_, address(0), mark + 1));
    EXPECT_FALSE(fetcher.follow(child_, 0, 0));
    Fetcher none(3, 0);
    EXPECT_FALSE(follow(none));
}
