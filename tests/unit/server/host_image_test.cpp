// SPDX-License-Identifier: MIT
// What of two copies of host memory is the device's and what the application's, page by page and byte by byte.
#include "host_image.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "cricket/clock.h"
#include "host_memory.h"
#include "scratch.h"
#include "snapshot_store.h"

using namespace cricket;
using namespace cricket::server;

namespace {

constexpr uint64_t page = HostImage::page, pages = 8;
constexpr uint64_t soon_ns = 60'000'000'000;

struct HostImageTest : Scratch {
    std::vector<std::byte> memory = std::vector<std::byte>(pages * page, std::byte(1)), theirs = memory;
    HostImage image{memory.data()};
    // Two pages, a gap of one, and three; in the application in the other order.
    HostImage::Ranges ranges{{0x7000'0000, {3 * page, 3 * page, 0, false}}, {0x7100'0000, {2 * page, 0, 0, false}}};

    void bring_all() {
        for (uint64_t offset = 0; offset < pages * page; offset += page)
            if (image.covers(offset)) image.bring(offset, theirs.data() + offset);
    }
};

TEST_F(HostImageTest, CoversTheRangesAndNothingElse) {
    EXPECT_FALSE(image.known());
    image.take_all(ranges, 7);
    EXPECT_TRUE(image.known());
    EXPECT_FALSE(image.open());
    const bool covered[pages] = {true, true, false, true, true, true, false, false};
    for (uint64_t i = 0; i < pages; ++i) EXPECT_EQ(image.covers(i * page), covered[i]) << i;
}

TEST_F(HostImageTest, WhatWasTakenWholeIsTheApplications) {
    image.take_all(ranges, 7);
    std::ranges::fill(theirs, std::byte(2));
    const auto before = theirs;
    bring_all();
    EXPECT_EQ(theirs, before);
}

TEST_F(HostImageTest, IsForgottenWithTheNextCall) {
    image.take_all(ranges, 7);
    image.expire(7);
    EXPECT_TRUE(image.known());
    image.expire(8);
    EXPECT_FALSE(image.known());
    ASSERT_TRUE(image.copy(ranges, now_ns() + soon_ns));
    image.expire(9);  // not before the device stands still
    EXPECT_TRUE(image.known());
    image.close(9);
    image.expire(9);
    EXPECT_TRUE(image.known());
    image.expire(10);
    EXPECT_FALSE(image.known());
}

TEST_F(HostImageTest, BytesOfTheDeviceAndOfTheApplicationInOnePage) {
    for (const bool closed : {false, true}) {
        memory.assign(memory.size(), std::byte(1));
        theirs = memory;
        ASSERT_TRUE(image.copy(ranges, now_ns() + soon_ns));
        EXPECT_TRUE(image.open());
        for (const uint64_t i : {uint64_t(0), page + 65, 3 * page + page - 1, 5 * page + 8}) memory[i] = std::byte(3);
        for (const uint64_t i : {uint64_t(1), page + 64, 4 * page + 9, 5 * page + 9}) theirs[i] = std::byte(4);
        theirs[5 * page + 8] = std::byte(4);  // both: the device's
        if (closed) image.close(7);
        EXPECT_EQ(image.open(), !closed);
        bring_all();
        for (uint64_t i = 0; i < theirs.size(); ++i) {
            const bool device = i == 0 || i == page + 65 || i == 4 * page - 1 || i == 5 * page + 8;
            const bool application = i == 1 || i == page + 64 || i == 4 * page + 9 || i == 5 * page + 9;
            ASSERT_EQ(theirs[i], std::byte(device ? 3 : application ? 4 : 1)) << i;
        }
    }
}

TEST_F(HostImageTest, NotInTimeIsNotAtAll) {
    EXPECT_FALSE(image.copy(ranges, now_ns() - 1));
    EXPECT_FALSE(image.known());
    EXPECT_FALSE(image.open());
}

TEST_F(HostImageTest, InASnapshot) {
    const std::string folder = path("image");
    ASSERT_TRUE(image.copy(ranges, now_ns() + soon_ns));
    memory[page + 65] = memory[5 * page] = std::byte(3);
    image.close(7);
    {
        SnapshotWriter writer(folder);
        const nlohmann::json saved = image.save(writer);
        writer.finish({}, {{"image", saved}});
    }
    SnapshotReader reader(folder);
    HostImage loaded(memory.data());
    loaded.load(reader.meta().at("image"), reader, 7);
    loaded.expire(7);
    ASSERT_TRUE(loaded.known());
    theirs.assign(theirs.size(), std::byte(4));
    for (uint64_t offset = 0; offset < pages * page; offset += page) {
        ASSERT_EQ(loaded.covers(offset), image.covers(offset));
        if (loaded.covers(offset)) loaded.bring(offset, theirs.data() + offset);
    }
    for (uint64_t i = 0; i < theirs.size(); ++i) ASSERT_EQ(theirs[i], std::byte(i == page + 65 || i == 5 * page ? 3 : 4)) << i;
}

}  // namespace
