// SPDX-License-Identifier: MIT
// Copies and fills of boxes of bytes: a line is a box of one row, a rectangle one of many.
#pragma once

#include "array.h"
#include "memory.h"
#include "stream.h"

namespace softgpu {

enum class Side { Host, Device, Either, Array };

// Where one end of a copy lies. Row y of slice z begins at base + y * pitch + z * slice.
struct End {
    Side side;
    uint64_t base;
    size_t pitch = 0, slice = 0;
    std::shared_ptr<Array> array = nullptr;  // with Side::Array, and where in it the copy begins, x in bytes
    size_t x = 0, y = 0, z = 0;
};

struct Box {
    size_t width, height = 1, depth = 1;  // bytes, rows, slices
};

// Copies in the stream with CUDA's rules: pageable host memory is read before this returns and written before
// this returns, page-locked and device memory when the stream comes to it. `wait`: the function is one
// without "Async".
void copy(const std::shared_ptr<Stream>& stream, End to, End from, Box box, bool wait);

// Fills with a pattern of 1, 2 or 4 bytes; pitch and alignment as cuMemset* demands them.
void fill(const std::shared_ptr<Stream>& stream, uint64_t base, size_t pitch, unsigned value,
          unsigned value_size, Box elements, bool wait);

// Fails unless these can become nodes of a graph; memory of the graph itself need not be there yet.
void check_copy(const CUDA_MEMCPY3D& params);
void check_fill(const CUDA_MEMSET_NODE_PARAMS_v2& params);

// Fails with CUDA_ERROR_INVALID_VALUE unless a device may read or write all of [address, address + size).
void check_device_range(uint64_t address, size_t size);

}  // namespace softgpu
