// SPDX-License-Identifier: MIT
// A snapshot is a folder: manifest.json and data files. It is written beside its place, synced and renamed,
// so that under its name there is a whole one or none; every 4 MiB of data carries a checksum, and so does
// the manifest.
#pragma once

#include <cstddef>
#include <cstdint>
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

namespace cricket::server {

// One line that names the file, and the chunk where there is one.
struct SnapshotError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline constexpr int snapshot_format = 1;
inline constexpr uint64_t snapshot_chunk_bytes = 4u << 20;

struct SnapshotInfo {
    std::string session;     // token, 32 hex digits (wire.h)
    uint64_t epoch = 0;      // of the session
    std::string checkpoint;  // name of the checkpoint this is a half of; empty: a snapshot of its own
};

// One data file being written, from its beginning to its end. Different streams may be written by different
// threads.
class SnapshotStream {
  public:
    void write(std::span<const std::byte> data);
    void write(const void* data, size_t bytes) { write({static_cast<const std::byte*>(data), bytes}); }
    void write_zeros(uint64_t bytes);  // takes no room on disk
    uint64_t size() const { return size_; }

  private:
    friend class SnapshotWriter;
    SnapshotStream(std::string name, std::string path);
    void whole_chunk(std::span<const std::byte> data);
    void flush();
    void finish();

    std::string name_, path_;
    UniqueFd fd_;
    uint64_t size_ = 0, written_ = 0;
    std::vector<std::byte> pending_;  // less than a chunk
    std::vector<uint64_t> checksums_;
};

// All members throw SnapshotError. Destroyed before finish(), it leaves nothing behind.
class SnapshotWriter {
  public:
    // `directory` must not exist, or be empty, or hold an older snapshot, which is replaced only by finish().
    explicit SnapshotWriter(const std::string& directory);
    ~SnapshotWriter();
    // `name`: letters, digits, '-', '_' and '.', not used before. The stream lives as long as the writer.
    SnapshotStream& begin(const std::string& name);
    void finish(const SnapshotInfo& info, nlohmann::json meta);

  private:
    PartialDirectory partial_;
    std::list<SnapshotStream> streams_;
};

// All members throw SnapshotError; read() and verify_all() may be called from several threads.
class SnapshotReader {
  public:
    // Reads and checks the manifest and the sizes of the data files.
    explicit SnapshotReader(const std::string& directory);
    ~SnapshotReader();

    const SnapshotInfo& info() const { return info_; }
    const nlohmann::json& meta() const { return meta_; }
    const std::string& manifest_checksum() const { return manifest_checksum_; }
    std::vector<std::string> names() const;
    bool has(const std::string& name) const { return files_.count(name) != 0; }
    uint64_t size(const std::string& name) const;
    // Bytes [offset, offset + out.size()), checked against the checksums of their chunks. Whole aligned
    // chunks are read straight into `out`, so large sequential reads cost one pass.
    void read(const std::string& name, uint64_t offset, std::span<std::byte> out);
    void read(const std::string& name, uint64_t offset, void* out, size_t bytes) {
        read(name, offset, {static_cast<std::byte*>(out), bytes});
    }
    // The data of one file as a whole, at most `limit` bytes.
    std::vector<std::byte> read_all(const std::string& name, uint64_t limit = uint64_t(1) << 30);
    void verify_all();

  private:
    struct File {
        std::string path;
        UniqueFd fd;
        uint64_t bytes = 0;
        std::vector<uint64_t> checksums;
        std::mutex mutex;              // for the cached chunk
        uint64_t cached = UINT64_MAX;  // its index
        std::vector<std::byte> cache;
    };
    File& file(const std::string& name) const;
    void read_chunk(File& file, uint64_t index, std::span<std::byte> out);

    SnapshotInfo info_;
    nlohmann::json meta_;
    std::string manifest_checksum_;
    std::map<std::string, std::unique_ptr<File>> files_;
};

}  // namespace cricket::server
