// SPDX-License-Identifier: MIT
// Nothing of a data file is handed out before the checksum of its chunk was right, so what a restore puts
// into a GPU is what the snapshot took out of one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sealed_json.h"
#include "snapshot_chunks.h"
#include "snapshot_store.h"

namespace cricket::server {
namespace {

using nlohmann::json;
constexpr uint64_t chunk = snapshot_chunk_bytes;

[[noreturn]] void fail(const char* verb, const std::string& path) {
    throw SnapshotError(std::string("cannot ") + verb + " '" + path + "': " + std::strerror(errno));
}

std::string bytes_text(uint64_t bytes) {
    return std::to_string(bytes) + " bytes";
}

}  // namespace

bool is_stream_name(const std::string& name) {
    if (name.empty() || name.size() > 200 || name[0] == '.') return false;
    return std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
               c == '_' || c == '.';
    });
}

bool is_zero(std::span<const std::byte> data) {
    return data.empty() ||
           (data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

uint64_t zero_chunk_checksum() {
    static const uint64_t checksum = [] {
        const std::vector<std::byte> zeros(chunk);
        return XXH3_64bits(zeros.data(), zeros.size());
    }();
    return checksum;
}

SnapshotReader::SnapshotReader(const std::string& directory) {
    const std::string path = directory + "/manifest.json";
    struct stat status {};
    if (::stat(directory.c_str(), &status) != 0) fail("open", directory);
    if (!S_ISDIR(status.st_mode)) throw SnapshotError("'" + directory + "' is no folder");
    try {
        Sealed sealed = read_sealed(path, snapshot_format);
        const json& body = sealed.body;
        manifest_checksum_ = sealed.checksum;
        if (body.at("kind") != "cricket session" || body.at("chunk_bytes") != chunk)
            throw SnapshotError("'" + path + "' describes something else than a session");
        info_.session = body.at("session").get<std::string>();
        info_.checkpoint = body.at("checkpoint").get<std::string>();
        if (!parse_hex64(body.at("epoch").get<std::string>(), &info_.epoch))
            throw SnapshotError("'" + path + "' has an epoch that is no number");
        meta_ = body.at("meta");
        for (const json& entry : body.at("files")) {
            const std::string name = entry.at("name").get<std::string>();
            auto file = std::make_unique<File>();
            if (!is_stream_name(name))
                throw SnapshotError("'" + path + "' names an impossible file '" + name + "'");
            file->path = directory + "/" + name + data_suffix;
            file->bytes = entry.at("bytes").get<uint64_t>();
            for (const json& text : entry.at("chunks")) {
                uint64_t checksum = 0;
                if (!parse_hex64(text.get<std::string>(), &checksum))
                    throw SnapshotError("'" + path + "' has a checksum that is no number");
                file->checksums.push_back(checksum);
            }
            if (file->checksums.size() != file->bytes / chunk + (file->bytes % chunk != 0))
                throw SnapshotError("'" + path + "' has the wrong number of checksums for '" + name + "'");
            files_[name] = std::move(file);
        }
    } catch (const SealError& error) {
        throw SnapshotError(error.what());
    } catch (const json::exception& error) {
        throw SnapshotError("'" + path + "' lacks something: " + error.what());
    }
    for (auto& [name, file] : files_) {
        file->fd.reset(::open(file->path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!file->fd) fail("open", file->path);
        if (::fstat(file->fd.get(), &status) != 0) fail("stat", file->path);
        const uint64_t found = static_cast<uint64_t>(status.st_size);
        if (!S_ISREG(status.st_mode)) throw SnapshotError("'" + file->path + "' is no regular file");
        if (found < file->bytes)
            throw SnapshotError("'" + file->path + "' is truncated: " + bytes_text(found) + " instead of " +
                                bytes_text(file->bytes));
        if (found > file->bytes)
            throw SnapshotError("'" + file->path + "' is too long: " + bytes_text(found) + " instead of " +
                                bytes_text(file->bytes));
    }
}

SnapshotReader::~SnapshotReader() = default;

std::vector<std::string> SnapshotReader::names() const {
    std::vector<std::string> result;
    for (const auto& [name, file] : files_) result.push_back(name);
    return result;
}

SnapshotReader::File& SnapshotReader::file(const std::string& name) const {
    const auto found = files_.find(name);
    if (found == files_.end()) throw SnapshotError("the snapshot has no part '" + name + "'");
    return *found->second;
}

uint64_t SnapshotReader::size(const std::string& name) const {
    return file(name).bytes;
}

void SnapshotReader::read_chunk(File& file, uint64_t index, std::span<std::byte> out) {
    const uint64_t start = index * chunk;
    // A hole is what the writer made of a chunk of zeros; it need not be read.
    if (out.size() == chunk && file.checksums[index] == zero_chunk_checksum()) {
        const off_t data = ::lseek(file.fd.get(), static_cast<off_t>(start), SEEK_DATA);
        if (data < 0 ? errno == ENXIO : static_cast<uint64_t>(data) >= start + chunk) {
            std::memset(out.data(), 0, out.size());
            return;
        }
    }
    size_t have = 0;
    while (have < out.size()) {
        const ssize_t got =
            ::pread(file.fd.get(), out.data() + have, out.size() - have, static_cast<off_t>(start + have));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail("read", file.path);
        if (got == 0)
            throw SnapshotError("'" + file.path + "' is truncated at byte " + std::to_string(start + have));
        have += static_cast<size_t>(got);
    }
    if (XXH3_64bits(out.data(), out.size()) != file.checksums[index])
        throw SnapshotError("'" + file.path + "' is corrupt: the checksum of chunk " + std::to_string(index) +
                            " (bytes " + std::to_string(start) + " to " + std::to_string(start + out.size()) +
                            ") is wrong");
}

void SnapshotReader::read(const std::string& name, uint64_t offset, std::span<std::byte> out) {
    File& from = file(name);
    if (offset > from.bytes || out.size() > from.bytes - offset)
        throw SnapshotError("'" + from.path + "' has no bytes " + std::to_string(offset) + " to " +
                            std::to_string(offset + out.size()));
    while (!out.empty()) {
        const uint64_t index = offset / chunk, start = index * chunk;
        const uint64_t length = std::min(chunk, from.bytes - start);
        size_t taken = 0;
        if (offset == start && out.size() >= length) {
            taken = static_cast<size_t>(length);
            read_chunk(from, index, out.first(taken));
        } else {
            std::lock_guard lock(from.mutex);
            if (from.cached != index) {
                from.cached = UINT64_MAX;
                from.cache.resize(static_cast<size_t>(length));
                read_chunk(from, index, from.cache);
                from.cached = index;
            }
            taken = static_cast<size_t>(std::min<uint64_t>(out.size(), start + length - offset));
            std::memcpy(out.data(), from.cache.data() + (offset - start), taken);
        }
        out = out.subspan(taken);
        offset += taken;
    }
}

std::vector<std::byte> SnapshotReader::read_all(const std::string& name, uint64_t limit) {
    const uint64_t bytes = size(name);
    if (bytes > limit)
        throw SnapshotError("'" + file(name).path + "' is longer than the " + bytes_text(limit) +
                            " it may be");
    std::vector<std::byte> result(static_cast<size_t>(bytes));
    read(name, 0, result);
    return result;
}

void SnapshotReader::verify_all() {
    std::vector<std::byte> buffer(chunk);
    for (auto& [name, file] : files_)
        for (uint64_t index = 0; index < file->checksums.size(); ++index)
            read_chunk(*file, index, std::span(buffer).first(std::min(chunk, file->bytes - index * chunk)));
}

}  // namespace cricket::server
