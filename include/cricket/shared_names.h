// SPDX-License-Identifier: MIT
// Names of things that sessions of one server share, as applications pass them on: the content of a memfd where the
// driver would give a descriptor of its own, and of cuIpcMemHandle_t and CUmemPoolPtrExportData.
#pragma once

#include <cstdint>
#include <cstring>

namespace cricket {

struct SharedName {  // random, 128 bits: who knows it may use it
    uint8_t bytes[16] = {};
    bool operator==(const SharedName& other) const { return std::memcmp(bytes, other.bytes, sizeof bytes) == 0; }
    bool operator<(const SharedName& other) const { return std::memcmp(bytes, other.bytes, sizeof bytes) < 0; }
};

enum class SharedKind : uint32_t { Allocation = 1, Pool = 2, Pointer = 3, Range = 4 };

// 64 bytes, the size of CUipcMemHandle and CUmemPoolPtrExportData.
struct SharedHandle {
    uint64_t magic = 0;  // shared_magic
    SharedKind kind{};
    uint32_t reserved = 0;
    SharedName name;        // of the physical memory, or (Pool) of nothing but the pool itself
    uint64_t chunk = 0;     // bytes of the physical memory
    uint64_t offset = 0;    // of the allocation in it
    uint64_t bytes = 0;     // of the allocation
    uint64_t spare = 0;     // Pool: its device's number, as the exporting session counts
};
static_assert(sizeof(SharedHandle) == 64);
inline constexpr uint64_t shared_magic = 0x3130455241485343;  // "CSHARE01"

}  // namespace cricket
