// SPDX-License-Identifier: MIT
#include "client/own_maps.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>

using cricket::client::OwnMapping;
using cricket::client::OwnMaps;

namespace {

constexpr size_t bytes = 8 * 4096;
int memfd = -1;
char* view = nullptr;
int left = 0;  // restores still to come

uint64_t inode_of(int fd) {
    struct stat info {};
    return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
}

// What a restore looks like from inside: the same descriptor and addresses, another memfd.
void restored() {
    if (left <= 0) return;
    --left;
    const int fresh = ::memfd_create("own-maps-test", MFD_CLOEXEC);
    ASSERT_EQ(::ftruncate(fresh, bytes), 0);
    ASSERT_EQ(::mmap(view, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fresh, 0), view);
    ASSERT_EQ(::dup2(fresh, memfd), memfd);
    ::close(fresh);
}

class OwnMapsTest : public testing::Test {
  protected:
    void SetUp() override {
        memfd = ::memfd_create("own-maps-test", MFD_CLOEXEC);
        ASSERT_EQ(::ftruncate(memfd, bytes), 0);
        view = static_cast<char*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0));
        ASSERT_NE(view, MAP_FAILED);
    }
    void TearDown() override {
        ::munmap(view, bytes);
        ::close(memfd);
    }
    // Whether the view is among the mappings, as one of the memfd.
    static bool finds_view(OwnMaps& maps) {
        for (OwnMapping map; maps.next(&map);)
            if (map.start <= reinterpret_cast<uint64_t>(view) && reinterpret_cast<uint64_t>(view) + bytes <= map.end)
                return map.shared() && map.inode == maps.memfd_inode() && map.protection() == (PROT_READ | PROT_WRITE);
        return false;
    }
};

}  // namespace

TEST_F(OwnMapsTest, AllMappingsInOrder) {
    OwnMaps maps(memfd);
    ASSERT_TRUE(maps);
    const auto local = reinterpret_cast<uint64_t>(&maps);
    uint64_t before = 0;
    bool stack = false;
    for (OwnMapping map; maps.next(&map); before = map.end) {
        EXPECT_LE(before, map.start);
        EXPECT_LT(map.start, map.end);
        stack |= map.start <= local && local < map.end && map.protection() & PROT_WRITE && !map.shared();
    }
    EXPECT_TRUE(stack);
    OwnMaps again(memfd);
    EXPECT_TRUE(finds_view(again));
}

TEST_F(OwnMapsTest, ReadAgainWhenRestoredWhileReading) {
    const uint64_t first = inode_of(memfd);
    left = 2;
    OwnMaps maps(memfd, restored);
    ASSERT_TRUE(maps);
    EXPECT_EQ(left, 0);
    EXPECT_NE(maps.memfd_inode(), first);
    EXPECT_EQ(maps.memfd_inode(), inode_of(memfd));
    EXPECT_TRUE(finds_view(maps));
}

TEST_F(OwnMapsTest, TextLongerThanTheFirstBuffer) {
    constexpr int count = 3000;  // mappings that cannot become one
    std::byte* many[count];
    for (int i = 0; i < count; ++i)
        many[i] = static_cast<std::byte*>(::mmap(nullptr, 4096, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    OwnMaps maps(memfd);
    unsigned found = 0;
    uint64_t before = 0;
    for (OwnMapping map; maps.next(&map); before = map.end) {
        EXPECT_LE(before, map.start);
        ++found;
    }
    EXPECT_GT(found, static_cast<unsigned>(count));
    for (std::byte* one : many) ::munmap(one, 4096);
}
