// SPDX-License-Identifier: MIT
// A snapshot is a folder: manifest.json, chunks.index and packs (snapshot_chunks.h). It is written beside its place, synced
// and renamed, so that under its name there is a whole one or none; every chunk carries a checksum, and so do index and
// manifest. Format 1, one data file a part, is read too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "cricket/unique_fd.h"
#include "partial_directory.h"
#include "snapshot_chunks.h"

namespace cricket::server {

// One line that names the file, and the chunk where there is one.
struct SnapshotError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline constexpr int snapshot_format = 2, oldest_snapshot_format = 1;

struct SnapshotInfo {
    std::string session;     // token, 32 hex digits (wire.h)
    uint64_t epoch = 0;      // of the session
    std::string checkpoint;  // name of the checkpoint this is a half of; empty: a snapshot of its own
};

struct SnapshotOptions {
    std::string base;       // an earlier snapshot, whose chunks are shared where they are the same; empty: none
    bool identify = false;  // give every chunk an id, so that this one can be a base
    int compress = 0;       // level of zstd; 0: none
};

struct SnapshotFigures {
    uint64_t bytes = 0;    // of all parts
    uint64_t zeros = 0;    // of these: not stored, for they are zero
    uint64_t shared = 0;   // in packs of the base
    uint64_t written = 0;  // to packs of this snapshot, compressed where that was asked for
};

class SnapshotWriter;
class SnapshotReader;

// A part being written in order. Different streams may be written by different threads.
class SnapshotStream {
  public:
    void write(std::span<const std::byte> data);
    void write(const void* data, size_t bytes) { write({static_cast<const std::byte*>(data), bytes}); }
    void write_zeros(uint64_t bytes);  // takes no room on disk
    uint64_t size() const { return size_; }
    uint32_t part() const { return part_; }

  private:
    friend class SnapshotWriter;
    SnapshotStream(SnapshotWriter& writer, uint32_t part) : writer_(writer), part_(part) {}
    void put(std::span<const std::byte> data);

    SnapshotWriter& writer_;
    uint32_t part_;
    uint64_t size_ = 0, written_ = 0;
    std::vector<std::byte> pending_;  // less than a chunk
};

// A file of stored chunks, filled by one thread at a time: threads that write at once have a pack each, for the kernel lets
// one at a time write to a file.
class SnapshotPack {
  public:
    // The bytes of `part` from `offset` on, which must be a chunk's beginning, or all of the part that is in its chunk.
    // `ids`: one for each chunk that they are cut into; null: found out here, when the
    // snapshot has ids, and with it what the base has.
    void put(uint32_t part, uint64_t offset, std::span<const std::byte> data, const ContentId* ids = nullptr);
    uint64_t size() const { return size_; }
    // Has it on the disk; finish() does for those that were not told to.
    void sync();

  private:
    friend class SnapshotWriter;
    SnapshotPack(SnapshotWriter& writer, uint32_t index);
    void append(std::span<const std::byte> data);
    bool compress(std::span<const std::byte> data);

    SnapshotWriter& writer_;
    uint32_t index_;
    std::string path_;
    UniqueFd fd_;
    uint64_t size_ = 0;
    bool synced_ = false;
    std::vector<std::pair<uint32_t, ChunkRecord>> records_;  // by part
    std::vector<std::byte> packed_;                          // a chunk, compressed
    void* compressor_ = nullptr;                             // ZSTD_CCtx
  public:
    ~SnapshotPack();
    SnapshotPack(const SnapshotPack&) = delete;
};

// All members throw SnapshotError. Destroyed before finish(), it leaves nothing behind.
class SnapshotWriter {
  public:
    // `directory` must not exist, or be empty, or hold an older snapshot, which is replaced only by finish().
    explicit SnapshotWriter(const std::string& directory, const SnapshotOptions& options = {});
    ~SnapshotWriter();
    // `name`: letters, digits, '-', '_' and '.', not used before. The stream lives as long as the writer.
    SnapshotStream& begin(const std::string& name);
    // The same for a part whose chunks are given in any order; its size is where the last of them ends.
    uint32_t add_part(const std::string& name);
    // From any thread. The pack lives as long as the writer.
    SnapshotPack& add_pack();

    // Before data is written, from one thread: which chunks need not be. share() is false where the base has no such chunk.
    void put_zeros(uint32_t part, uint64_t offset, uint32_t bytes);
    bool share(uint32_t part, uint64_t offset, uint32_t bytes, const ContentId& id);
    bool identifies() const { return options_.identify; }
    // Why the base's packs cannot be shared; empty when they can.
    const std::string& base_refusal() const { return base_.refusal; }

    SnapshotFigures figures() const;
    void finish(const SnapshotInfo& info, nlohmann::json meta);

  private:
    friend class SnapshotStream;
    friend class SnapshotPack;
    struct LinkedPack {
        std::string name;
        uint64_t bytes = 0;
        bool usable = false;
    };
    struct Base {
        std::vector<ChunkRecord> records;   // that have ids, of usable packs
        std::vector<uint32_t> table;        // of places in records, by id
        std::vector<LinkedPack> packs;
        std::string refusal;
    };
    void open_base();
    const ChunkRecord* find(const ContentId& id, uint32_t bytes) const;

    PartialDirectory partial_;
    const SnapshotOptions options_;
    const std::string pack_prefix_;
    Base base_;
    mutable std::mutex mutex_;  // of what follows
    std::vector<std::string> parts_;
    std::list<SnapshotStream> streams_;
    std::deque<std::unique_ptr<SnapshotPack>> packs_;
    std::vector<std::pair<uint32_t, ChunkRecord>> planned_;
    std::mutex stream_mutex_;            // of stream_pack_; taken before mutex_
    SnapshotPack* stream_pack_ = nullptr;
    SnapshotFigures final_;              // once finished
};

// All members throw SnapshotError; read() and verify_all() may be called from several threads.
class SnapshotReader {
  public:
    // Reads and checks manifest, index, and the sizes of the packs.
    explicit SnapshotReader(const std::string& directory);
    ~SnapshotReader();

    int format() const { return format_; }
    const SnapshotInfo& info() const { return info_; }
    const nlohmann::json& meta() const { return meta_; }
    const std::string& manifest_checksum() const { return manifest_checksum_; }
    std::vector<std::string> names() const;
    bool has(const std::string& name) const { return parts_.count(name) != 0; }
    uint64_t size(const std::string& name) const;
    // Bytes [offset, offset + out.size()), checked against the checksums of their chunks. Whole chunks are read straight
    // into `out`, those that are stored one behind the other in one go.
    void read(const std::string& name, uint64_t offset, std::span<std::byte> out) const;
    void read(const std::string& name, uint64_t offset, void* out, size_t bytes) const {
        read(name, offset, {static_cast<std::byte*>(out), bytes});
    }
    // The data of one part as a whole, at most `limit` bytes.
    std::vector<std::byte> read_all(const std::string& name, uint64_t limit = uint64_t(1) << 30) const;
    // Reads and checks everything, on several threads. `read_so_far` is called now and then, on one of them, with stored
    // bytes; it may throw to end the reading.
    void verify_all(const std::function<void(uint64_t read_so_far, uint64_t of)>& progress = {}) const;

    // The chunks of a part, by offset.
    std::span<const ChunkRecord> chunks(const std::string& name) const;
    // File names and sizes of the packs that this snapshot needs; of a series, others may have them too.
    struct PackInfo {
        std::string name;
        uint64_t bytes = 0;
    };
    std::vector<PackInfo> packs() const;
    const std::string& directory() const { return directory_; }

  private:
    friend class SnapshotWriter;
    struct Pack {
        std::string name, path;
        UniqueFd fd;
        uint64_t bytes = 0;
    };
    struct Part {
        std::string name;
        uint64_t bytes = 0;
        size_t first = 0, count = 0;  // in records_
        mutable std::mutex mutex;     // of the chunk that was last read in pieces
        mutable uint64_t cached = UINT64_MAX;
        mutable std::vector<std::byte> cache;
    };
    void parse(const nlohmann::json& body, const std::string& manifest);
    void parse_v1(const nlohmann::json& body, const std::string& manifest);
    void check_records(const std::string& manifest) const;
    void open_packs();
    const Part& part(const std::string& name) const;
    // Whole chunks [first, first + count) of `part`, which follow each other in it, into `out`.
    void read_chunks(const Part& part, size_t first, size_t count, std::span<std::byte> out) const;
    void check_chunk(const Part& part, size_t index, std::span<const std::byte> stored) const;

    std::string directory_;
    int format_ = 0;
    SnapshotInfo info_;
    nlohmann::json meta_;
    std::string manifest_checksum_;
    std::map<std::string, std::unique_ptr<Part>> parts_;
    std::vector<ChunkRecord> records_;
    std::vector<Pack> packs_;
};

}  // namespace cricket::server
