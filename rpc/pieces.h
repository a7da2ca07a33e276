// SPDX-License-Identifier: MIT
// A box of rows, in pieces of limited size that cover it once and in order.
#pragma once

#include "rpc/copy_3d.h"

namespace cricket::rpc {

struct Piece {
    uint64_t x = 0, y = 0, z = 0;  // from the box's first byte: bytes, rows, slices
    CopyExtent extent;
    uint64_t bytes() const { return extent.width * extent.height * extent.depth; }
};

// The pieces of a box, each whole slices, rows of a slice, or part of a row.
class Pieces {
  public:
    Pieces(const CopyExtent& box, uint64_t limit) : box_(box), limit_(limit) {}

    bool next(Piece* piece) {
        if (box_.empty() || z_ == box_.depth) return false;
        *piece = {x_, y_, z_, {box_.width, 1, 1}};
        if (box_.width > limit_) {
            piece->extent.width = box_.width - x_ < limit_ ? box_.width - x_ : limit_;
            x_ += piece->extent.width;
            if (x_ < box_.width) return true;
            x_ = 0;
            advance(1);
            return true;
        }
        const uint64_t rows = limit_ / box_.width;
        if (rows < box_.height) {
            piece->extent.height = box_.height - y_ < rows ? box_.height - y_ : rows;
            advance(piece->extent.height);
            return true;
        }
        const uint64_t slices = rows / box_.height;
        piece->extent.height = box_.height;
        piece->extent.depth = box_.depth - z_ < slices ? box_.depth - z_ : slices;
        z_ += piece->extent.depth;
        return true;
    }

  private:
    void advance(uint64_t rows) {
        y_ += rows;
        if (y_ < box_.height) return;
        y_ = 0;
        ++z_;
    }
    const CopyExtent box_;
    const uint64_t limit_;
    uint64_t x_ = 0, y_ = 0, z_ = 0;
};

}  // namespace cricket::rpc
