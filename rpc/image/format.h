// SPDX-License-Identifier: MIT
// Layout of fatbins as fatbinary of CUDA 11.4 .. 13.0 writes them, found by comparing its outputs (see
// README.md). Shared by the two libraries of this folder; nobody else needs it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "image.h"

namespace cricket::image {

constexpr uint32_t kWrapperMagic = 0x466243b1;  // FATBINC_MAGIC of fatbinary_section.h
constexpr uint32_t kFatbinMagic = 0xba55ed50;
constexpr uint32_t kElfMagic = 0x464c457f;

struct FatbinHeader {
    uint32_t magic;
    uint16_t version;      // 1
    uint16_t header_size;  // 16: the first entry follows
    uint64_t payload_size;
};
static_assert(sizeof(FatbinHeader) == 16);

struct FatbinEntry {
    uint16_t kind;             // EntryKind
    uint16_t version;          // 0x101
    uint32_t header_size;      // >= 64: options and the name follow this struct
    uint64_t padded_size;      // bytes until the next entry's header
    uint32_t compressed_size;  // bytes of the compressed stream, 0 when stored plainly
    uint32_t options_offset;
    uint16_t minor, major;  // of the PTX language or the cubin format
    uint32_t arch;          // 10 * major + minor of the compute capability
    uint32_t name_offset, name_size;
    uint64_t flags;  // EntryFlags
    uint64_t unused;
    uint64_t plain_size;  // bytes after decompression
};
static_assert(sizeof(FatbinEntry) == 64);

enum EntryKind : uint16_t { kEntryPtx = 1, kEntryElf = 2 };

enum EntryFlags : uint64_t {
    kFlagOldCompression = 0x1000,
    kFlagLz4 = 0x2000,
    kFlagZstd = 0x8000,
};

namespace detail {

// cubin.cpp
int cubin_arch(const Member& member);
std::vector<Variable> cubin_variables(const Member& member);
std::vector<std::string> cubin_heap_kernels(const Member& member);
std::vector<std::string> ptx_heap_kernels(const Member& member);
// Whether its kernels may start kernels, of which no call tells.
bool starts_kernels(const Member& member);
std::vector<std::string> cubin_kernels(const Member& member);

// ptx_names.cpp
int ptx_target(const Member& member);
std::vector<Variable> ptx_variables(const Member& member);
std::vector<std::string> ptx_kernels(const Member& member);

}  // namespace detail
}  // namespace cricket::image
