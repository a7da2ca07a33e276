// SPDX-License-Identifier: MIT
// A copy between boxes of memory as both sides speak of it: every 2D, 3D, peer and array copy of CUDA is one
// CUDA_MEMCPY3D_PEER, whose two ends have the same fields under different names.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cricket::rpc {

using CopyFields = CUDA_MEMCPY3D_PEER;

// Which of the driver's functions answers for the copy: they differ in what they refuse.
enum class CopyForm : uint32_t { TwoD = 0, Unaligned = 1, ThreeD = 2, Peer = 3 };

struct CopyExtent {
    uint64_t width = 0, height = 0, depth = 0;  // bytes, rows, slices
    bool empty() const { return !width || !height || !depth; }
};

// One end. `address` is the host or device address, whichever the memory type means.
struct CopyEnd {
    uint64_t x = 0, y = 0, z = 0, lod = 0;  // bytes, rows, slices
    CUmemorytype type{};
    uint64_t address = 0;
    CUarray array{};
    CUcontext context{};
    uint64_t pitch = 0, height = 0;  // bytes a row, rows a slice
};

inline CopyExtent extent_of(const CopyFields& copy) { return {copy.WidthInBytes, copy.Height, copy.Depth}; }

inline CopyEnd source_of(const CopyFields& copy) {
    return {copy.srcXInBytes, copy.srcY, copy.srcZ, copy.srcLOD, copy.srcMemoryType,
            copy.srcMemoryType == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(copy.srcHost) : copy.srcDevice,
            copy.srcArray, copy.srcContext, copy.srcPitch, copy.srcHeight};
}

inline CopyEnd target_of(const CopyFields& copy) {
    return {copy.dstXInBytes, copy.dstY, copy.dstZ, copy.dstLOD, copy.dstMemoryType,
            copy.dstMemoryType == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(copy.dstHost) : copy.dstDevice,
            copy.dstArray, copy.dstContext, copy.dstPitch, copy.dstHeight};
}

inline void set_source(CopyFields* copy, const CopyEnd& end) {
    const bool host = end.type == CU_MEMORYTYPE_HOST;
    copy->srcXInBytes = end.x;
    copy->srcY = end.y;
    copy->srcZ = end.z;
    copy->srcLOD = end.lod;
    copy->srcMemoryType = end.type;
    copy->srcHost = host ? reinterpret_cast<const void*>(end.address) : nullptr;
    copy->srcDevice = host ? 0 : end.address;
    copy->srcArray = end.array;
    copy->srcContext = end.context;
    copy->srcPitch = end.pitch;
    copy->srcHeight = end.height;
}

inline void set_target(CopyFields* copy, const CopyEnd& end) {
    const bool host = end.type == CU_MEMORYTYPE_HOST;
    copy->dstXInBytes = end.x;
    copy->dstY = end.y;
    copy->dstZ = end.z;
    copy->dstLOD = end.lod;
    copy->dstMemoryType = end.type;
    copy->dstHost = host ? reinterpret_cast<void*>(end.address) : nullptr;
    copy->dstDevice = host ? 0 : end.address;
    copy->dstArray = end.array;
    copy->dstContext = end.context;
    copy->dstPitch = end.pitch;
    copy->dstHeight = end.height;
}

// CUDA_MEMCPY3D has the same layout, reserved where the contexts are.
static_assert(sizeof(CUDA_MEMCPY3D) == sizeof(CopyFields));
static_assert(offsetof(CUDA_MEMCPY3D, srcPitch) == offsetof(CopyFields, srcPitch) &&
              offsetof(CUDA_MEMCPY3D, dstArray) == offsetof(CopyFields, dstArray) &&
              offsetof(CUDA_MEMCPY3D, Depth) == offsetof(CopyFields, Depth));
inline CopyFields fields_of(const CUDA_MEMCPY3D& copy) {
    CopyFields fields;
    std::memcpy(&fields, &copy, sizeof fields);
    return fields;
}
inline CUDA_MEMCPY3D memcpy_3d_of(const CopyFields& fields) {
    CUDA_MEMCPY3D copy;
    std::memcpy(&copy, &fields, sizeof copy);
    return copy;
}

// Rows and slices of linear memory where the application gave none: as tight as its offsets allow.
inline uint64_t pitch_of(const CopyEnd& end, const CopyExtent& extent) {
    return end.pitch ? end.pitch : end.x + extent.width;
}
inline uint64_t height_of(const CopyEnd& end, const CopyExtent& extent) {
    return end.height ? end.height : end.y + extent.height;
}

// The smallest range with all that the copy touches of an end in linear memory; extent not empty. False when that
// lies beyond the address space.
struct CopyRange {
    uint64_t address = 0, bytes = 0;
};
inline bool touched(const CopyEnd& end, const CopyExtent& extent, CopyRange* range) {
    const uint64_t pitch = pitch_of(end, extent), height = height_of(end, extent);
    uint64_t slice = 0, first, last, rows, line;
    if ((end.z || extent.depth > 1) && __builtin_mul_overflow(pitch, height, &slice)) return false;
    if (__builtin_mul_overflow(slice, end.z, &first) || __builtin_mul_overflow(pitch, end.y, &line) ||
        __builtin_add_overflow(first, line, &first) || __builtin_add_overflow(first, end.x, &first) ||
        __builtin_mul_overflow(slice, extent.depth - 1, &last) ||
        __builtin_mul_overflow(pitch, extent.height - 1, &rows) || __builtin_add_overflow(last, rows, &last) ||
        __builtin_add_overflow(last, extent.width, &last))
        return false;
    uint64_t end_address;
    if (__builtin_add_overflow(end.address, first, &range->address)) return false;
    if (__builtin_add_overflow(range->address, last, &end_address)) return false;
    range->bytes = last;
    return true;
}

}  // namespace cricket::rpc
