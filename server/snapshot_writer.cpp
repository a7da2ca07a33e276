// SPDX-License-Identifier: MIT
// Chunks go to disk as soon as they are whole; a chunk of zeros becomes a hole, for most of a GPU's memory
// may be that.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "sealed_json.h"
#include "snapshot_chunks.h"
#include "snapshot_store.h"

namespace cricket::server {
namespace {

constexpr size_t chunk = snapshot_chunk_bytes;

[[noreturn]] void fail(const char* verb, const std::string& path) {
    throw SnapshotError(std::string("cannot ") + verb + " '" + path + "': " + std::strerror(errno));
}

// Turns what the parts of a snapshot throw into SnapshotError.
template <typename Function>
auto as_snapshot_error(Function&& function) {
    try {
        return function();
    } catch (const DirectoryError& error) {
        throw SnapshotError(error.what());
    } catch (const SealError& error) {
        throw SnapshotError(error.what());
    }
}

}  // namespace

SnapshotStream::SnapshotStream(std::string name, std::string path)
    : name_(std::move(name)), path_(std::move(path)) {
    fd_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd_) fail("create", path_);
}

void SnapshotStream::write(std::span<const std::byte> data) {
    size_ += data.size();
    if (!pending_.empty()) {
        const size_t some = std::min(chunk - pending_.size(), data.size());
        pending_.insert(pending_.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(some));
        data = data.subspan(some);
        if (pending_.size() == chunk) flush();
    }
    while (data.size() >= chunk) {
        whole_chunk(data.first(chunk));
        data = data.subspan(chunk);
    }
    if (!data.empty()) {
        pending_.reserve(chunk);
        pending_.insert(pending_.end(), data.begin(), data.end());
    }
}

void SnapshotStream::write_zeros(uint64_t bytes) {
    static const std::vector<std::byte> zeros(chunk);
    while (bytes > 0) {
        if (pending_.empty() && bytes >= chunk) {
            checksums_.push_back(zero_chunk_checksum());
            written_ += chunk;
            size_ += chunk;
            bytes -= chunk;
        } else {
            const size_t some = static_cast<size_t>(std::min<uint64_t>(bytes, chunk - pending_.size()));
            write({zeros.data(), some});
            bytes -= some;
        }
    }
}

void SnapshotStream::whole_chunk(std::span<const std::byte> data) {
    if (data.size() == chunk && is_zero(data)) {
        checksums_.push_back(zero_chunk_checksum());
        written_ += chunk;
        return;
    }
    checksums_.push_back(XXH3_64bits(data.data(), data.size()));
    while (!data.empty()) {
        const ssize_t put = ::pwrite(fd_.get(), data.data(), data.size(), static_cast<off_t>(written_));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) fail("write", path_);
        written_ += static_cast<uint64_t>(put);
        data = data.subspan(static_cast<size_t>(put));
    }
}

void SnapshotStream::flush() {
    whole_chunk(pending_);
    pending_.clear();
}

void SnapshotStream::finish() {
    if (!pending_.empty()) flush();
    std::vector<std::byte>().swap(pending_);
    if (::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0) fail("extend", path_);  // a hole at the end
    if (::fsync(fd_.get()) != 0) fail("sync", path_);
    fd_.reset();
}

SnapshotWriter::SnapshotWriter(const std::string& directory)
    : partial_(as_snapshot_error([&] { return PartialDirectory(directory, "manifest.json"); })) {}

SnapshotWriter::~SnapshotWriter() = default;

SnapshotStream& SnapshotWriter::begin(const std::string& name) {
    if (!is_stream_name(name)) throw SnapshotError("'" + name + "' cannot name a part of a snapshot");
    for (const SnapshotStream& stream : streams_)
        if (stream.name_ == name) throw SnapshotError("part '" + name + "' of a snapshot was begun twice");
    streams_.push_back(SnapshotStream(name, partial_.path() + "/" + name + data_suffix));
    return streams_.back();
}

void SnapshotWriter::finish(const SnapshotInfo& info, nlohmann::json meta) {
    nlohmann::json files = nlohmann::json::array();
    for (SnapshotStream& stream : streams_) {
        stream.finish();
        nlohmann::json checksums = nlohmann::json::array();
        for (const uint64_t checksum : stream.checksums_) checksums.push_back(hex64(checksum));
        files.push_back({{"name", stream.name_}, {"bytes", stream.size_}, {"chunks", std::move(checksums)}});
    }
    const nlohmann::json manifest = {{"format", snapshot_format},
                                     {"kind", "cricket session"},
                                     {"created", static_cast<int64_t>(std::time(nullptr))},
                                     {"tool", "cricket " CRICKET_VERSION},
                                     {"session", info.session},
                                     {"epoch", hex64(info.epoch)},
                                     {"checkpoint", info.checkpoint},
                                     {"chunk_bytes", chunk},
                                     {"files", std::move(files)},
                                     {"meta", std::move(meta)}};
    as_snapshot_error([&] {
        write_sealed(partial_.path() + "/manifest.json", manifest);
        partial_.publish();
    });
}

}  // namespace cricket::server
