// SPDX-License-Identifier: MIT
// Chunks of zeros take no room, and chunks that the base has none of their own: its packs are linked into the new folder,
// so that each snapshot of a series is whole by itself and can be removed by itself.
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>
#include <zstd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "sealed_json.h"
#include "snapshot_store.h"

namespace cricket::server {
namespace {

constexpr size_t chunk = snapshot_chunk_bytes;
// A pack of the base that is mostly of the past is not linked again, nor are more of them than this.
constexpr uint64_t least_live_part = 4;
constexpr size_t most_linked_packs = 64;

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

std::string new_prefix() {
    uint64_t number = 0;
    if (::getrandom(&number, sizeof number, 0) != sizeof number) throw SnapshotError("no random numbers");
    return hex64(number);
}

UniqueFd create(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd) fail("create", path);
    return fd;
}

void write_at(int fd, const std::string& path, uint64_t at, std::span<const std::byte> data) {
    while (!data.empty()) {
        const ssize_t put = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(at));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) fail("write", path);
        at += static_cast<uint64_t>(put);
        data = data.subspan(static_cast<size_t>(put));
    }
}

ContentId content_id(std::span<const std::byte> data) {
    const XXH128_hash_t hash = XXH3_128bits(data.data(), data.size());
    return {hash.low64, hash.high64};
}

// A row of the table of a base; nobody chooses ids against it.
size_t row_of(const ContentId& id, size_t rows) { return (id.low ^ id.high >> 7) & (rows - 1); }

}  // namespace

void SnapshotStream::write(std::span<const std::byte> data) {
    size_ += data.size();
    if (!pending_.empty()) {
        const size_t some = std::min(chunk - pending_.size(), data.size());
        pending_.insert(pending_.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(some));
        data = data.subspan(some);
        if (pending_.size() < chunk) return;
        put(pending_);
        pending_.clear();
    }
    if (const size_t whole = data.size() / chunk * chunk; whole) {
        put(data.first(whole));
        data = data.subspan(whole);
    }
    pending_.assign(data.begin(), data.end());
}

void SnapshotStream::write_zeros(uint64_t bytes) {
    static const std::vector<std::byte> zeros(chunk);
    while (bytes > 0) {
        const size_t some = static_cast<size_t>(std::min<uint64_t>(bytes, chunk - pending_.size()));
        write({zeros.data(), some});
        bytes -= some;
    }
}

void SnapshotStream::put(std::span<const std::byte> data) {
    std::lock_guard lock(writer_.stream_mutex_);
    if (!writer_.stream_pack_) writer_.stream_pack_ = &writer_.add_pack();
    writer_.stream_pack_->put(part_, written_, data);
    written_ += data.size();
}

SnapshotPack::SnapshotPack(SnapshotWriter& writer, uint32_t index)
    : writer_(writer),
      index_(index),
      path_(writer.partial_.path() + "/" + writer.pack_prefix_ + "-" + std::to_string(index) + pack_suffix),
      fd_(create(path_)) {}

SnapshotPack::~SnapshotPack() { ZSTD_freeCCtx(static_cast<ZSTD_CCtx*>(compressor_)); }

void SnapshotPack::append(std::span<const std::byte> data) {
    write_at(fd_.get(), path_, size_, data);
    size_ += data.size();
}

// Into packed_; false where that saves little.
bool SnapshotPack::compress(std::span<const std::byte> data) {
    if (!compressor_) compressor_ = ZSTD_createCCtx();
    packed_.resize(ZSTD_compressBound(chunk));
    if (!compressor_ || data.size() > chunk) return false;
    const size_t packed = ZSTD_compressCCtx(static_cast<ZSTD_CCtx*>(compressor_), packed_.data(), packed_.size(),
                                            data.data(), data.size(), writer_.options_.compress);
    if (ZSTD_isError(packed) || packed > data.size() / 16 * 15) return false;
    packed_.resize(packed);
    return true;
}

void SnapshotPack::put(uint32_t part, uint64_t offset, std::span<const std::byte> data, const ContentId* ids) {
    std::span<const std::byte> together;  // chunks to be written as they are, in one go
    const auto write_together = [&] {
        append(together);
        together = {};
    };
    while (!data.empty()) {
        ChunkRecord one{};
        one.offset = offset;
        one.bytes = static_cast<uint32_t>(std::min<uint64_t>(data.size(), chunk - offset % chunk));
        const std::span<const std::byte> piece = data.first(one.bytes);
        data = data.subspan(one.bytes);
        offset += one.bytes;
        const ChunkRecord* same = nullptr;
        if (ids) {
            one.id = *ids++;
        } else if (writer_.options_.identify) {
            one.id = content_id(piece);
            same = writer_.find(one.id, one.bytes);
        }
        if (is_zero(piece)) {
            one.pack = zeros_pack;
        } else if (same) {
            one.place = same->place;
            one.checksum = same->checksum;
            one.stored = same->stored;
            one.pack = same->pack;
            one.flags = same->flags;
        } else if (writer_.options_.compress && compress(piece)) {
            write_together();
            one.pack = index_ + static_cast<uint32_t>(writer_.base_.packs.size());
            one.place = size_;
            one.stored = static_cast<uint32_t>(packed_.size());
            one.flags = chunk_zstd;
            one.checksum = XXH3_64bits(packed_.data(), packed_.size());
            append(packed_);
        } else {
            one.pack = index_ + static_cast<uint32_t>(writer_.base_.packs.size());
            one.place = size_ + together.size();
            one.stored = one.bytes;
            one.checksum = XXH3_64bits(piece.data(), piece.size());
            if (!together.empty() && together.data() + together.size() != piece.data()) {
                write_together();
                one.place = size_;
            }
            together = together.empty() ? piece : std::span(together.data(), together.size() + piece.size());
        }
        records_.push_back({part, one});
    }
    write_together();
}

void SnapshotPack::sync() {
    if (std::exchange(synced_, true)) return;
    if (::fsync(fd_.get()) != 0) fail("sync", path_);
}

SnapshotWriter::SnapshotWriter(const std::string& directory, const SnapshotOptions& options)
    : partial_(as_snapshot_error([&] { return PartialDirectory(directory, "manifest.json"); })),
      options_(options),
      pack_prefix_(new_prefix()) {
    if (!options_.base.empty()) open_base();
}

SnapshotWriter::~SnapshotWriter() = default;

void SnapshotWriter::open_base() {
    const SnapshotReader base(options_.base);
    std::vector<uint64_t> live(base.packs_.size());
    for (const ChunkRecord& one : base.records_)
        if (one.pack != zeros_pack) live[one.pack] += one.stored;
    std::vector<size_t> order;
    for (size_t i = 0; i < base.packs_.size(); ++i) {
        base_.packs.push_back({base.packs_[i].name, base.packs_[i].bytes, false});
        if (live[i] >= base.packs_[i].bytes / least_live_part) order.push_back(i);
    }
    std::ranges::sort(order, [&](size_t a, size_t b) { return live[a] > live[b]; });
    order.resize(std::min(order.size(), most_linked_packs));
    for (const size_t i : order) {
        if (base.format() == 1) {
            base_.refusal = "it is of format 1";
            break;
        }
        const std::string link = partial_.path() + "/" + base.packs_[i].name;
        if (::link(base.packs_[i].path.c_str(), link.c_str()) != 0) {
            base_.refusal = "'" + base.packs_[i].path + "' cannot be linked to '" + link + "': " + std::strerror(errno);
            continue;
        }
        base_.packs[i].usable = true;
    }
    for (const ChunkRecord& one : base.records_)
        if (one.pack != zeros_pack && one.id.known() && base_.packs[one.pack].usable) base_.records.push_back(one);
    if (base_.records.empty() && base_.refusal.empty()) base_.refusal = "it was not written as part of a series";
    base_.table.assign(std::bit_ceil(base_.records.size() * 2 + 2), UINT32_MAX);
    for (uint32_t i = 0; i < base_.records.size(); ++i) {
        size_t row = row_of(base_.records[i].id, base_.table.size());
        while (base_.table[row] != UINT32_MAX) row = (row + 1) & (base_.table.size() - 1);
        base_.table[row] = i;
    }
}

const ChunkRecord* SnapshotWriter::find(const ContentId& id, uint32_t bytes) const {
    if (base_.table.empty() || !id.known()) return nullptr;
    for (size_t row = row_of(id, base_.table.size()); base_.table[row] != UINT32_MAX; row = (row + 1) & (base_.table.size() - 1)) {
        const ChunkRecord& one = base_.records[base_.table[row]];
        if (one.id == id && one.bytes == bytes) return &one;
    }
    return nullptr;
}

uint32_t SnapshotWriter::add_part(const std::string& name) {
    if (!is_part_name(name)) throw SnapshotError("'" + name + "' cannot name a part of a snapshot");
    std::lock_guard lock(mutex_);
    if (std::ranges::count(parts_, name)) throw SnapshotError("part '" + name + "' of a snapshot was begun twice");
    parts_.push_back(name);
    return static_cast<uint32_t>(parts_.size() - 1);
}

SnapshotStream& SnapshotWriter::begin(const std::string& name) {
    const uint32_t part = add_part(name);
    std::lock_guard lock(mutex_);
    streams_.push_back(SnapshotStream(*this, part));
    return streams_.back();
}

SnapshotPack& SnapshotWriter::add_pack() {
    std::lock_guard lock(mutex_);
    packs_.push_back(std::unique_ptr<SnapshotPack>(new SnapshotPack(*this, static_cast<uint32_t>(packs_.size()))));
    return *packs_.back();
}

void SnapshotWriter::put_zeros(uint32_t part, uint64_t offset, uint32_t bytes) {
    ChunkRecord one{};
    one.offset = offset;
    one.bytes = bytes;
    one.pack = zeros_pack;
    planned_.push_back({part, one});
}

bool SnapshotWriter::share(uint32_t part, uint64_t offset, uint32_t bytes, const ContentId& id) {
    const ChunkRecord* same = find(id, bytes);
    if (!same) return false;
    ChunkRecord one = *same;
    one.offset = offset;
    planned_.push_back({part, one});
    return true;
}

SnapshotFigures SnapshotWriter::figures() const {
    if (final_.bytes) return final_;
    SnapshotFigures all;
    const auto count = [&](const auto& records) {
        for (const auto& [part, one] : records) {
            all.bytes += one.bytes;
            if (one.pack == zeros_pack) all.zeros += one.bytes;
            else if (one.pack < base_.packs.size()) all.shared += one.bytes;
        }
    };
    std::lock_guard lock(mutex_);
    count(planned_);
    for (const auto& pack : packs_) {
        count(pack->records_);
        all.written += pack->size_;
    }
    return all;
}

void SnapshotWriter::finish(const SnapshotInfo& info, nlohmann::json meta) {
    using nlohmann::json;
    for (SnapshotStream& stream : streams_) {
        if (!stream.pending_.empty()) stream.put(stream.pending_);
        std::vector<std::byte>().swap(stream.pending_);
    }
    const SnapshotFigures done = final_ = figures();
    std::vector<std::pair<uint32_t, ChunkRecord>> records = std::move(planned_);
    for (const auto& pack : packs_) {
        pack->sync();
        records.insert(records.end(), pack->records_.begin(), pack->records_.end());
    }
    std::ranges::sort(records, [](const auto& a, const auto& b) {
        return std::tie(a.first, a.second.offset) < std::tie(b.first, b.second.offset);
    });
    // Packs of which nothing was used are left out, so the others are numbered anew.
    const size_t linked = base_.packs.size();
    std::vector<uint32_t> number(linked + packs_.size(), zeros_pack);
    for (const auto& [part, one] : records)
        if (one.pack != zeros_pack) number[one.pack] = 0;
    json packs = json::array();
    uint32_t next = 0;
    for (size_t i = 0; i < number.size(); ++i) {
        const bool used = number[i] == 0;
        const std::string name = i < linked ? base_.packs[i].name : std::filesystem::path(packs_[i - linked]->path_).filename().string();
        if (used) {
            number[i] = next++;
            packs.push_back({{"name", name}, {"bytes", i < linked ? base_.packs[i].bytes : packs_[i - linked]->size_}});
        } else if (i >= linked || base_.packs[i].usable) {
            ::unlink((partial_.path() + "/" + name).c_str());
        }
    }
    std::vector<std::byte> index(sizeof(uint64_t) * 2 + records.size() * sizeof(ChunkRecord));
    const uint64_t count = records.size();
    std::memcpy(index.data(), "CRKTIDX2", 8);
    std::memcpy(index.data() + 8, &count, sizeof count);
    std::byte* to = index.data() + 16;
    std::vector<std::pair<uint64_t, uint64_t>> sizes(parts_.size());  // bytes and chunks of each part
    for (auto& [part, one] : records) {
        if (one.pack != zeros_pack) one.pack = number[one.pack];
        std::memcpy(to, &one, sizeof one);
        to += sizeof one;
        sizes[part].first = one.offset + one.bytes;
        ++sizes[part].second;
    }
    json parts = json::array();
    for (size_t i = 0; i < parts_.size(); ++i)
        parts.push_back({{"name", parts_[i]}, {"bytes", sizes[i].first}, {"chunks", sizes[i].second}});
    const std::string index_path = partial_.path() + "/" + index_file;
    const UniqueFd fd = create(index_path);
    write_at(fd.get(), index_path, 0, index);
    if (::fsync(fd.get()) != 0) fail("sync", index_path);
    const json manifest = {{"format", snapshot_format},
                           {"kind", "cricket session"},
                           {"created", static_cast<int64_t>(std::time(nullptr))},
                           {"tool", "cricket " CRICKET_VERSION},
                           {"session", info.session},
                           {"epoch", hex64(info.epoch)},
                           {"checkpoint", info.checkpoint},
                           {"chunk_bytes", chunk},
                           {"index", {{"bytes", index.size()}, {"checksum", hex64(XXH3_64bits(index.data(), index.size()))}}},
                           {"packs", std::move(packs)},
                           {"parts", std::move(parts)},
                           {"figures", {{"bytes", done.bytes}, {"zeros", done.zeros}, {"shared", done.shared}, {"written", done.written}}},
                           {"meta", std::move(meta)}};
    as_snapshot_error([&] {
        write_sealed(partial_.path() + "/manifest.json", manifest);
        partial_.publish();
    });
}

}  // namespace cricket::server
