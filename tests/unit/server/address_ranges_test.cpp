// SPDX-License-Identifier: MIT
#include "address_ranges.h"

#include <gtest/gtest.h>

using cricket::server::AddressRanges;

TEST(AddressRanges, GivesTheFirstPartWithRoomAndMergesWhatComesBack) {
    AddressRanges ranges;
    ranges.give(0x1000, 0x1000);
    ranges.give(0x4000, 0x4000);
    uint64_t a = 0, b = 0, c = 0;
    ASSERT_TRUE(ranges.take(0x800, 0x200, &a));
    EXPECT_EQ(a, 0x1000u);
    ASSERT_TRUE(ranges.take(0x1000, 0x200, &b));  // the first part has too little left
    EXPECT_EQ(b, 0x4000u);
    ASSERT_TRUE(ranges.take(0x800, 0x200, &c));
    EXPECT_EQ(c, 0x1800u);
    EXPECT_FALSE(ranges.take(0x4000, 0x200, &a));
    ranges.give(b, 0x1000);
    EXPECT_TRUE(ranges.is_whole(0x4000, 0x4000));
}

TEST(AddressRanges, KeepsAlignment) {
    AddressRanges ranges;
    ranges.give(0x1200, 0x10000);
    uint64_t address = 0;
    ASSERT_TRUE(ranges.take(0x1000, 0x4000, &address));
    EXPECT_EQ(address, 0x4000u);
    ASSERT_TRUE(ranges.take(0x2e00, 0x200, &address));  // what was left before it
    EXPECT_EQ(address, 0x1200u);
    EXPECT_FALSE(ranges.take(0x1000, 0x100000, &address));
}

TEST(AddressRanges, TakesExactlyWhatIsFree) {
    AddressRanges ranges;
    ranges.give(0x1000, 0x4000);
    EXPECT_TRUE(ranges.take_exact(0x2000, 0x1000));
    EXPECT_FALSE(ranges.take_exact(0x2000, 0x1000));
    EXPECT_FALSE(ranges.take_exact(0x2800, 0x1000));
    EXPECT_FALSE(ranges.take_exact(0x4000, 0x2000));
    EXPECT_FALSE(ranges.take_exact(0, 0x1000));
    EXPECT_FALSE(ranges.take_exact(0x3000, ~uint64_t(0)));
    EXPECT_TRUE(ranges.take_exact(0x3000, 0x2000));
    EXPECT_TRUE(ranges.take_exact(0x1000, 0x1000));
    EXPECT_TRUE(ranges.parts().empty());
}
