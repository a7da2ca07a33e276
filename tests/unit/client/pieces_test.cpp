// SPDX-License-Identifier: MIT
// Boxes of memory: their pieces cover them once and in order, and what a copy touches is known to the byte.
#include "rpc/pieces.h"

#include <gtest/gtest.h>

#include <vector>

#include "rpc/array_format.h"
#include "rpc/copy_batch.h"

namespace cricket::rpc {
namespace {

void covers(const CopyExtent& box, uint64_t limit) {
    std::vector<unsigned> order(box.width * box.height * box.depth, 0);
    unsigned count = 0;
    Pieces pieces(box, limit);
    for (Piece piece; pieces.next(&piece);) {
        ++count;
        ASSERT_GT(piece.bytes(), 0u);
        ASSERT_LE(piece.bytes(), limit);
        for (uint64_t z = 0; z < piece.extent.depth; ++z)
            for (uint64_t y = 0; y < piece.extent.height; ++y)
                for (uint64_t x = 0; x < piece.extent.width; ++x) {
                    const uint64_t at = ((piece.z + z) * box.height + piece.y + y) * box.width + piece.x + x;
                    ASSERT_LT(at, order.size());
                    ASSERT_EQ(order[at], 0u) << "covered twice";
                    order[at] = count;
                }
    }
    for (size_t i = 1; i < order.size(); ++i) ASSERT_LE(order[i - 1], order[i]) << "out of order, or not covered";
    if (!order.empty()) {
        EXPECT_EQ(order.front(), 1u);
    }
}

TEST(Pieces, CoverBoxesOfAnyShape) {
    for (uint64_t width : {1u, 7u, 64u})
        for (uint64_t height : {1u, 5u, 16u})
            for (uint64_t depth : {1u, 3u, 8u})
                for (uint64_t limit : {1u, 6u, 7u, 64u, 100u, 10000u}) covers({width, height, depth}, limit);
}

TEST(Pieces, OfNothingThereAreNone) {
    Piece piece;
    EXPECT_FALSE(Pieces({0, 4, 4}, 16).next(&piece));
    EXPECT_FALSE(Pieces({4, 0, 4}, 16).next(&piece));
    EXPECT_FALSE(Pieces({4, 4, 0}, 16).next(&piece));
}

TEST(Touched, IsTheFirstToTheLastByte) {
    CopyEnd end;
    end.address = 1000;
    end.x = 3, end.y = 2, end.z = 1;
    end.pitch = 20, end.height = 10;
    CopyRange range;
    ASSERT_TRUE(touched(end, {5, 4, 3}, &range));
    EXPECT_EQ(range.address, 1000u + 200 + 40 + 3);
    EXPECT_EQ(range.bytes, 2 * 200u + 3 * 20 + 5);
    end.pitch = end.height = 0;  // as tight as the offsets allow
    ASSERT_TRUE(touched(end, {5, 4, 1}, &range));
    EXPECT_EQ(range.address, 1000u + 8 * 6 + 2 * 8 + 3);
    EXPECT_EQ(range.bytes, 3 * 8u + 5);
}

TEST(Touched, BeyondTheAddressSpaceIsNoRange) {
    CopyEnd end;
    end.address = 4096;
    end.pitch = uint64_t(1) << 40;
    end.height = uint64_t(1) << 40;
    CopyRange range;
    EXPECT_TRUE(touched(end, {16, 4, 1}, &range)) << "slices that are not there take no room";
    EXPECT_FALSE(touched(end, {16, 4, 2}, &range));
    EXPECT_FALSE(touched(end, {16, uint64_t(1) << 30, 1}, &range));
    end.address = UINT64_MAX - 8;
    end.pitch = end.height = 0;
    EXPECT_FALSE(touched(end, {16, 1, 1}, &range));
}

TEST(Ends, SourceAndTargetAreTheSameFields) {
    CopyFields copy{};
    CopyEnd end{1, 2, 3, 0, CU_MEMORYTYPE_HOST, 0x1234, nullptr, nullptr, 64, 8};
    set_source(&copy, end);
    set_target(&copy, end);
    for (const CopyEnd& back : {source_of(copy), target_of(copy)}) {
        EXPECT_EQ(back.x, 1u);
        EXPECT_EQ(back.y, 2u);
        EXPECT_EQ(back.z, 3u);
        EXPECT_EQ(back.address, 0x1234u);
        EXPECT_EQ(back.pitch, 64u);
        EXPECT_EQ(back.height, 8u);
    }
    EXPECT_EQ(copy.srcDevice, 0u);
}

TEST(Batches, CountInElements) {
    CUDA_MEMCPY3D_BATCH_OP operation{};
    operation.src.type = CU_MEMCPY_OPERAND_TYPE_POINTER;
    operation.src.op.ptr.ptr = 0x1000;
    operation.src.op.ptr.rowLength = 10;
    operation.dst.type = CU_MEMCPY_OPERAND_TYPE_ARRAY;
    operation.dst.op.array.offset = {2, 3, 1};
    operation.extent = {4, 5, 6};
    const CopyFields copy = fields_of(operation, 8);
    EXPECT_EQ(copy.WidthInBytes, 32u);
    EXPECT_EQ(copy.srcPitch, 80u);
    EXPECT_EQ(copy.srcHeight, 5u);
    EXPECT_EQ(copy.dstXInBytes, 16u);
    EXPECT_EQ(copy.dstY, 3u);
    EXPECT_EQ(copy.dstZ, 1u);
}

TEST(Formats, HaveElementsOrBlocks) {
    EXPECT_EQ(element_layout(CU_AD_FORMAT_HALF, 4).bytes, 8u);
    EXPECT_EQ(element_layout(CU_AD_FORMAT_FLOAT, 1).bytes, 4u);
    EXPECT_EQ(element_layout(CU_AD_FORMAT_UNORM_INT16X4, 4).bytes, 8u);
    EXPECT_EQ(element_layout(CU_AD_FORMAT_BC1_UNORM, 4).bytes, 8u);
    EXPECT_EQ(element_layout(CU_AD_FORMAT_BC1_UNORM, 4).side, 4u);
    EXPECT_EQ(element_layout(CU_AD_FORMAT_NV12, 3).bytes, 0u) << "planes have rows, not the whole";
}

}  // namespace
}  // namespace cricket::rpc
