// SPDX-License-Identifier: MIT
// Nothing of a pack is handed out before the checksum of its chunk was right, so what a restore puts into a GPU is what the
// snapshot took out of one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "sealed_json.h"
#include "snapshot_store.h"

namespace cricket::server {
namespace {

using nlohmann::json;

constexpr char index_magic[8] = {'C', 'R', 'K', 'T', 'I', 'D', 'X', '2'};
constexpr uint64_t index_head = sizeof index_magic + sizeof(uint64_t);
constexpr uint64_t v1_chunk_bytes = 4u << 20;
constexpr uint64_t most_records = uint64_t(1) << 28;  // 64 TiB
constexpr uint64_t verify_run = 8u << 20;
constexpr uint64_t most_at_once = 512u << 10;  // read before it is checked: while it is in the core's cache

[[noreturn]] void fail(const char* verb, const std::string& path) {
    throw SnapshotError(std::string("cannot ") + verb + " '" + path + "': " + std::strerror(errno));
}

std::string bytes_text(uint64_t bytes) { return std::to_string(bytes) + " bytes"; }

void read_exactly(int fd, const std::string& path, uint64_t at, std::span<std::byte> out) {
    while (!out.empty()) {
        const ssize_t got = ::pread(fd, out.data(), out.size(), static_cast<off_t>(at));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail("read", path);
        if (got == 0) throw SnapshotError("'" + path + "' is truncated at byte " + std::to_string(at));
        out = out.subspan(static_cast<size_t>(got));
        at += static_cast<uint64_t>(got);
    }
}

UniqueFd open_file(const std::string& path, uint64_t bytes) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) fail("open", path);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) fail("stat", path);
    if (!S_ISREG(status.st_mode)) throw SnapshotError("'" + path + "' is no regular file");
    const uint64_t found = static_cast<uint64_t>(status.st_size);
    if (found != bytes)
        throw SnapshotError("'" + path + "' is " + (found < bytes ? "truncated: " : "too long: ") + bytes_text(found) +
                            " instead of " + bytes_text(bytes));
    return fd;
}

}  // namespace

bool is_part_name(const std::string& name) {
    if (name.empty() || name.size() > 200 || name[0] == '.') return false;
    return std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.';
    });
}

bool is_zero(std::span<const std::byte> data) {
    return data.empty() || (data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

SnapshotReader::SnapshotReader(const std::string& directory) : directory_(directory) {
    const std::string manifest = directory + "/manifest.json";
    struct stat status {};
    if (::stat(directory.c_str(), &status) != 0) fail("open", directory);
    if (!S_ISDIR(status.st_mode)) throw SnapshotError("'" + directory + "' is no folder");
    try {
        Sealed sealed = read_sealed(manifest, snapshot_format, oldest_snapshot_format);
        const json& body = sealed.body;
        manifest_checksum_ = sealed.checksum;
        format_ = body.at("format");
        if (body.at("kind") != "cricket session" ||
            body.at("chunk_bytes") != (format_ == 1 ? v1_chunk_bytes : snapshot_chunk_bytes))
            throw SnapshotError("'" + manifest + "' describes something else than a session");
        info_.session = body.at("session").get<std::string>();
        info_.checkpoint = body.at("checkpoint").get<std::string>();
        if (!parse_hex64(body.at("epoch").get<std::string>(), &info_.epoch))
            throw SnapshotError("'" + manifest + "' has an epoch that is no number");
        meta_ = body.at("meta");
        format_ == 1 ? parse_v1(body, manifest) : parse(body, manifest);
    } catch (const SealError& error) {
        throw SnapshotError(error.what());
    } catch (const json::exception& error) {
        throw SnapshotError("'" + manifest + "' lacks something: " + error.what());
    }
    open_packs();
}

SnapshotReader::~SnapshotReader() = default;

void SnapshotReader::parse(const json& body, const std::string& manifest) {
    for (const json& entry : body.at("packs")) {
        const std::string name = entry.at("name").get<std::string>();
        if (!is_part_name(name)) throw SnapshotError("'" + manifest + "' names an impossible file '" + name + "'");
        packs_.push_back({name, directory_ + "/" + name, {}, entry.at("bytes").get<uint64_t>()});
    }
    const std::string index = directory_ + "/" + index_file;
    const json& described = body.at("index");
    const uint64_t bytes = described.at("bytes"), count = (bytes - index_head) / sizeof(ChunkRecord);
    if (bytes < index_head || (bytes - index_head) % sizeof(ChunkRecord) || count > most_records)
        throw SnapshotError("'" + manifest + "' has an impossible index of " + bytes_text(bytes));
    const UniqueFd fd = open_file(index, bytes);
    std::byte head[index_head];
    read_exactly(fd.get(), index, 0, head);
    records_.resize(count);
    read_exactly(fd.get(), index, index_head, std::as_writable_bytes(std::span(records_)));
    XXH3_state_t* state = XXH3_createState();
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, head, sizeof head);
    XXH3_64bits_update(state, records_.data(), records_.size() * sizeof(ChunkRecord));
    const uint64_t checksum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    if (hex64(checksum) != described.at("checksum").get<std::string>())
        throw SnapshotError("'" + index + "' is corrupt: its checksum is wrong");
    uint64_t said = 0;
    std::memcpy(&said, head + sizeof index_magic, sizeof said);
    if (std::memcmp(head, index_magic, sizeof index_magic) != 0 || said != count)
        throw SnapshotError("'" + index + "' is no index of chunks");
    size_t next = 0;
    for (const json& entry : body.at("parts")) {
        auto part = std::make_unique<Part>();
        part->name = entry.at("name").get<std::string>();
        part->bytes = entry.at("bytes");
        part->first = next;
        part->count = entry.at("chunks");
        if (!is_part_name(part->name) || part->count > count - next)
            throw SnapshotError("'" + manifest + "' describes a part '" + part->name + "' that cannot be");
        next += part->count;
        const std::string name = part->name;
        parts_[name] = std::move(part);
    }
    check_records(manifest);
}

// Everything that reading relies on.
void SnapshotReader::check_records(const std::string& manifest) const {
    for (const auto& [name, part] : parts_) {
        uint64_t end = 0;
        for (size_t i = part->first; i < part->first + part->count; ++i) {
            const ChunkRecord& one = records_[i];
            const bool zeros = one.pack == zeros_pack;
            bool good = one.offset >= end && one.bytes > 0 && one.bytes <= largest_chunk && one.offset <= part->bytes &&
                        one.bytes <= part->bytes - one.offset;
            if (good && !zeros)
                good = one.pack < packs_.size() && one.place <= packs_[one.pack].bytes &&
                       one.stored <= packs_[one.pack].bytes - one.place &&
                       (one.flags == 0 ? one.stored == one.bytes : one.flags == chunk_zstd);
            if (!good) throw SnapshotError("'" + manifest + "' and its index do not fit: chunk " + std::to_string(i - part->first) +
                                           " of part '" + name + "' cannot be");
            end = one.offset + one.bytes;
        }
    }
}

// A data file of format 1 is a part and a pack; its holes are read like the rest.
void SnapshotReader::parse_v1(const json& body, const std::string& manifest) {
    for (const json& entry : body.at("files")) {
        auto part = std::make_unique<Part>();
        part->name = entry.at("name").get<std::string>();
        if (!is_part_name(part->name))
            throw SnapshotError("'" + manifest + "' names an impossible part '" + part->name + "'");
        const std::string file = part->name + v1_data_suffix;
        part->bytes = entry.at("bytes");
        part->first = records_.size();
        part->count = entry.at("chunks").size();
        if (part->bytes / v1_chunk_bytes + (part->bytes % v1_chunk_bytes != 0) != part->count)
            throw SnapshotError("'" + manifest + "' has the wrong number of checksums for '" + part->name + "'");
        uint64_t at = 0;
        for (const json& checksum : entry["chunks"]) {
            ChunkRecord one{};
            one.offset = one.place = at;
            one.bytes = one.stored = static_cast<uint32_t>(std::min(v1_chunk_bytes, part->bytes - at));
            one.pack = static_cast<uint32_t>(packs_.size());
            if (!parse_hex64(checksum.get<std::string>(), &one.checksum))
                throw SnapshotError("'" + manifest + "' has a checksum of '" + part->name + "' that is no number");
            records_.push_back(one);
            at += one.bytes;
        }
        packs_.push_back({file, directory_ + "/" + file, {}, part->bytes});
        const std::string name = part->name;
        parts_[name] = std::move(part);
    }
}

void SnapshotReader::open_packs() {
    for (Pack& pack : packs_) pack.fd = open_file(pack.path, pack.bytes);
}

std::vector<std::string> SnapshotReader::names() const {
    std::vector<std::string> result;
    for (const auto& [name, part] : parts_) result.push_back(name);
    return result;
}

std::vector<SnapshotReader::PackInfo> SnapshotReader::packs() const {
    std::vector<PackInfo> result;
    for (const Pack& pack : packs_) result.push_back({pack.name, pack.bytes});
    return result;
}

const SnapshotReader::Part& SnapshotReader::part(const std::string& name) const {
    const auto found = parts_.find(name);
    if (found == parts_.end()) throw SnapshotError("the snapshot '" + directory_ + "' has no part '" + name + "'");
    return *found->second;
}

uint64_t SnapshotReader::size(const std::string& name) const { return part(name).bytes; }

std::span<const ChunkRecord> SnapshotReader::chunks(const std::string& name) const {
    const Part& of = part(name);
    return std::span(records_).subspan(of.first, of.count);
}

void SnapshotReader::check_chunk(const Part& part, size_t index, std::span<const std::byte> stored) const {
    const ChunkRecord& one = records_[index];
    if (XXH3_64bits(stored.data(), stored.size()) == one.checksum) return;
    throw SnapshotError("'" + packs_[one.pack].path + "' is corrupt: the checksum of chunk " +
                        std::to_string(index - part.first) + " of part '" + part.name + "' (bytes " +
                        std::to_string(one.place) + " to " + std::to_string(one.place + one.stored) + ") is wrong");
}

void SnapshotReader::read_chunks(const Part& part, size_t first, size_t count, std::span<std::byte> out) const {
    for (const size_t end = first + count; first < end;) {
        const ChunkRecord& one = records_[first];
        if (one.pack == zeros_pack) {
            std::memset(out.data(), 0, one.bytes);
            out = out.subspan(one.bytes);
            ++first;
            continue;
        }
        const Pack& pack = packs_[one.pack];
        if (one.flags & chunk_zstd) {
            thread_local std::vector<std::byte> packed;
            packed.resize(one.stored);
            read_exactly(pack.fd.get(), pack.path, one.place, packed);
            check_chunk(part, first, packed);
            if (ZSTD_decompress(out.data(), one.bytes, packed.data(), packed.size()) != one.bytes)
                throw SnapshotError("'" + pack.path + "' holds a chunk that cannot be unpacked: chunk " +
                                    std::to_string(first - part.first) + " of part '" + part.name + "'");
            out = out.subspan(one.bytes);
            ++first;
            continue;
        }
        size_t last = first + 1;
        uint64_t bytes = one.bytes;
        while (last < end && bytes < most_at_once && records_[last].pack == one.pack && !records_[last].flags &&
               records_[last].place == one.place + bytes)
            bytes += records_[last++].bytes;
        read_exactly(pack.fd.get(), pack.path, one.place, out.first(bytes));
        for (; first < last; ++first) {
            check_chunk(part, first, out.first(records_[first].bytes));
            out = out.subspan(records_[first].bytes);
        }
    }
}

void SnapshotReader::read(const std::string& name, uint64_t offset, std::span<std::byte> out) const {
    const Part& from = part(name);
    const auto missing = [&] {
        return SnapshotError("'" + directory_ + "' has no bytes " + std::to_string(offset) + " to " +
                             std::to_string(offset + out.size()) + " of part '" + name + "'");
    };
    if (offset > from.bytes || out.size() > from.bytes - offset) throw missing();
    const auto begin = records_.begin() + static_cast<ptrdiff_t>(from.first), end = begin + static_cast<ptrdiff_t>(from.count);
    auto next = std::upper_bound(begin, end, offset, [](uint64_t at, const ChunkRecord& one) { return at < one.offset; });
    if (next != begin) --next;
    while (!out.empty()) {
        if (next == end || offset < next->offset || offset >= next->offset + next->bytes) throw missing();
        // Whole chunks that follow each other.
        uint64_t bytes = 0;
        auto last = next;
        while (last != end && last->offset == offset + bytes && last->bytes <= out.size() - bytes) bytes += last++->bytes;
        const auto index = static_cast<size_t>(next - records_.begin());
        if (last != next) {
            read_chunks(from, index, static_cast<size_t>(last - next), out.first(bytes));
            next = last;
        } else {
            std::lock_guard lock(from.mutex);
            if (from.cached != index) {
                from.cached = UINT64_MAX;
                from.cache.resize(next->bytes);
                read_chunks(from, index, 1, from.cache);
                from.cached = index;
            }
            const uint64_t inside = offset - next->offset;
            bytes = std::min<uint64_t>(out.size(), next->bytes - inside);
            std::memcpy(out.data(), from.cache.data() + inside, bytes);
            ++next;
        }
        out = out.subspan(bytes);
        offset += bytes;
    }
}

std::vector<std::byte> SnapshotReader::read_all(const std::string& name, uint64_t limit) const {
    const uint64_t bytes = size(name);
    if (bytes > limit)
        throw SnapshotError("part '" + name + "' of '" + directory_ + "' is longer than the " + bytes_text(limit) + " it may be");
    std::vector<std::byte> result(static_cast<size_t>(bytes));
    read(name, 0, result);
    return result;
}

void SnapshotReader::verify_all(const std::function<void(uint64_t, uint64_t)>& progress) const {
    // Runs of records, in the order in which they lie on the disk.
    std::vector<std::pair<const Part*, size_t>> order;
    for (const auto& [name, part] : parts_)
        for (size_t i = part->first; i < part->first + part->count; ++i)
            if (records_[i].pack != zeros_pack) order.push_back({part.get(), i});
    std::ranges::sort(order, [&](const auto& a, const auto& b) {
        const ChunkRecord &one = records_[a.second], &other = records_[b.second];
        return std::tie(one.pack, one.place) < std::tie(other.pack, other.place);
    });
    uint64_t total = 0;
    for (const auto& [part, index] : order) total += records_[index].stored;
    std::atomic<size_t> next{0};
    std::atomic<uint64_t> done{0};
    std::atomic<bool> stop{false};
    std::mutex mutex;
    std::exception_ptr first_error;
    size_t first_at = SIZE_MAX;
    constexpr size_t at_once = verify_run / snapshot_chunk_bytes;
    const auto work = [&](bool reports) {
        std::vector<std::byte> buffer;
        for (;;) {
            const size_t begin = next.fetch_add(at_once), end = std::min(begin + at_once, order.size());
            if (begin >= end || stop) return;
            size_t at = begin;
            try {
                for (; at < end; ++at) {
                    const auto& [part, index] = order[at];
                    buffer.resize(records_[index].bytes);
                    read_chunks(*part, index, 1, buffer);
                    done += records_[index].stored;
                }
                if (reports && progress) progress(done, total);
            } catch (...) {
                std::lock_guard lock(mutex);
                if (at < first_at) {  // the same damage is told whatever the threads do
                    first_at = at;
                    first_error = std::current_exception();
                }
                stop = true;
            }
        }
    };
    const unsigned helpers = std::min<unsigned>(std::max(1u, std::thread::hardware_concurrency()) - 1, 15);
    std::vector<std::thread> threads;
    if (total > verify_run)
        for (unsigned i = 0; i < helpers; ++i) threads.emplace_back(work, false);
    work(true);
    for (std::thread& thread : threads) thread.join();
    if (first_error) std::rethrow_exception(first_error);
    if (progress) progress(total, total);
}

}  // namespace cricket::server
