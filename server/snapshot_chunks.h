// SPDX-License-Identifier: MIT
// What writer and reader of a snapshot agree on. A part of a snapshot (device memory, the journal...) is a row of chunks,
// cut at multiples of 256 KiB of the part's own offsets; chunks.index says of each where it is stored. Packs hold the
// stored bytes. A pack is written by one snapshot and never changed: later ones of a series have it too, by hard link.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

namespace cricket::server {

inline constexpr uint64_t snapshot_chunk_bytes = 256u << 10;
inline constexpr uint64_t largest_chunk = 4u << 20;  // of format 1
inline constexpr char index_file[] = "chunks.index";
inline constexpr char pack_suffix[] = ".pack";
inline constexpr char v1_data_suffix[] = ".data";

// What a chunk's bytes are called in a series: equal for equal bytes. Hashed on the device (chunk_hash.h) or XXH3-128;
// both zero: not known.
struct ContentId {
    uint64_t low = 0, high = 0;
    bool known() const { return low | high; }
    bool operator==(const ContentId&) const = default;
};

// Of any number of bytes that are all zero, where that is seen without reading them.
inline constexpr ContentId zeros_id{0, 1};

// As in chunks.index, little endian: behind a head of 16 bytes ("CRKTIDX2", u64 count), part by part in the manifest's
// order, by offset.
struct ChunkRecord {
    uint64_t offset;    // in its part
    uint64_t place;     // in its pack
    uint64_t checksum;  // XXH3-64 of the stored bytes
    ContentId id;
    uint32_t bytes;     // of the part
    uint32_t stored;    // in the pack
    uint32_t pack;      // in the manifest's list, or zeros_pack
    uint32_t flags;
};
static_assert(sizeof(ChunkRecord) == 56 && std::is_trivially_copyable_v<ChunkRecord>);
inline constexpr uint32_t zeros_pack = 0xffffffff;
inline constexpr uint32_t chunk_zstd = 1;  // flags

bool is_part_name(const std::string& name);
bool is_zero(std::span<const std::byte> data);

}  // namespace cricket::server
