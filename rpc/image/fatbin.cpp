// SPDX-License-Identifier: MIT
// Takes a fatbin apart into its members. Everything read comes from the application, so every length is
// checked against what is really there before it is used.
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "format.h"
#include "image.h"

namespace cricket::image {
namespace {

using Bytes = std::span<const std::byte>;

// LZ4 counts in int, and no program image comes near.
constexpr uint64_t kMaxPlainSize = uint64_t{1} << 30;
// Best that either format can do: an LZ4 byte makes 255, a zstd block of 4 bytes makes 128 KiB.
constexpr uint64_t kMaxRatioLz4 = 255, kMaxRatioZstd = 32768;

[[noreturn]] void fail(size_t index, const std::string& what) {
    throw ImageError("fatbin member " + std::to_string(index) + ": " + what);
}

std::vector<std::byte> decompress(const FatbinEntry& entry, Bytes stream, size_t index) {
    bool lz4 = entry.flags & kFlagLz4;
    const uint64_t ratio = lz4 ? kMaxRatioLz4 : kMaxRatioZstd;
    if (entry.plain_size == 0 || entry.plain_size > kMaxPlainSize || entry.plain_size / ratio > stream.size())
        fail(index, "decompressed size " + std::to_string(entry.plain_size) + " is absurd");
    std::vector<std::byte> plain(entry.plain_size);
    if (lz4) {
        int got = LZ4_decompress_safe(reinterpret_cast<const char*>(stream.data()),
                                      reinterpret_cast<char*>(plain.data()), static_cast<int>(stream.size()),
                                      static_cast<int>(plain.size()));
        if (got < 0 || static_cast<uint64_t>(got) != entry.plain_size) fail(index, "corrupt lz4 data");
    } else {
        size_t got = ZSTD_decompress(plain.data(), plain.size(), stream.data(), stream.size());
        if (ZSTD_isError(got)) fail(index, std::string("corrupt zstd data: ") + ZSTD_getErrorName(got));
        if (got != entry.plain_size) fail(index, "zstd data is shorter than its header says");
    }
    return plain;
}

void drop_trailing_nuls(std::vector<std::byte>& text) {
    while (!text.empty() && text.back() == std::byte{0}) text.pop_back();
}

Member read_entry(const FatbinEntry& entry, Bytes payload, size_t index) {
    Member member{entry.kind == kEntryPtx ? Kind::Ptx : Kind::Elf, static_cast<int>(entry.arch), {}};
    if (entry.flags & (kFlagLz4 | kFlagZstd)) {
        if ((entry.flags & kFlagLz4) && (entry.flags & kFlagZstd)) fail(index, "claims two compressions");
        if (entry.compressed_size == 0 || entry.compressed_size > payload.size())
            fail(index, "compressed size exceeds the member");
        member.data = decompress(entry, payload.first(entry.compressed_size), index);
    } else if (entry.flags & kFlagOldCompression) {
        fail(index, "compression of a toolkit before CUDA 11 is not supported");
    } else {
        member.data.assign(payload.begin(), payload.end());
    }
    if (member.kind == Kind::Ptx) {
        drop_trailing_nuls(member.data);
    } else {
        uint32_t magic = 0;
        std::memcpy(&magic, member.data.data(), std::min(sizeof magic, member.data.size()));
        if (magic != kElfMagic) fail(index, "its cubin is not an ELF file");
    }
    return member;
}

struct Place {
    FatbinEntry entry;
    Bytes payload;
    size_t index;
};

// Where the members lie that a driver can load.
std::vector<Place> fatbin_places(Bytes image) {
    FatbinHeader header;
    if (image.size() < sizeof header) throw ImageError("fatbin: truncated header");
    std::memcpy(&header, image.data(), sizeof header);
    if (header.version != 1) throw ImageError("fatbin: unknown version " + std::to_string(header.version));
    if (header.header_size < sizeof header || header.header_size > image.size() ||
        header.payload_size > image.size() - header.header_size)
        throw ImageError("fatbin: header names " + std::to_string(header.payload_size) +
                         " bytes, there are " + std::to_string(image.size()));
    Bytes rest = image.subspan(header.header_size, header.payload_size);
    std::vector<Place> result;
    for (size_t index = 0; !rest.empty(); ++index) {
        FatbinEntry entry;
        if (rest.size() < sizeof entry) fail(index, "truncated header");
        std::memcpy(&entry, rest.data(), sizeof entry);
        if (entry.header_size < sizeof entry || entry.header_size > rest.size())
            fail(index, "bad header size");
        rest = rest.subspan(entry.header_size);
        if (entry.padded_size > rest.size()) fail(index, "exceeds the fatbin");
        // Other kinds (NVVM for link-time optimization) are nothing a driver loads by itself.
        if (entry.kind == kEntryPtx || entry.kind == kEntryElf)
            result.push_back({entry, rest.first(entry.padded_size), index});
        rest = rest.subspan(entry.padded_size);
    }
    return result;
}

std::vector<Member> read_all(const std::vector<Place>& places) {
    std::vector<Member> result;
    for (const Place& place : places) result.push_back(read_entry(place.entry, place.payload, place.index));
    return result;
}

// Drops all but those that are likely to be chosen for `arch`: the newest cubins that run there, or else the newest texts.
void keep_for(int arch, std::vector<Place>* places) {
    for (const uint32_t kind : {kEntryElf, kEntryPtx}) {
        int best = -1;
        const auto usable = [&](const Place& place) {
            const int its = static_cast<int>(place.entry.arch);
            return place.entry.kind == kind && its <= arch && (kind == kEntryPtx || its / 10 == arch / 10);
        };
        for (const Place& place : *places)
            if (usable(place)) best = std::max(best, static_cast<int>(place.entry.arch));
        if (best < 0) continue;
        std::erase_if(*places, [&](const Place& place) {
            return !usable(place) || static_cast<int>(place.entry.arch) != best;
        });
        return;
    }
}

}  // namespace

std::vector<Member> members(std::span<const std::byte> image, int arch) {
    std::byte head[16] = {};
    std::copy_n(image.begin(), std::min(image.size(), sizeof head), head);
    auto kind = kind_of(head);
    if (!kind) throw ImageError("not a program image: neither fatbin, cubin nor PTX");
    if (*kind == Kind::FatbinWrapper)
        throw ImageError("a fatbin wrapper is a pointer, not an image: unwrap it first");
    if (*kind == Kind::Fatbin) {
        std::vector<Place> places = fatbin_places(image);
        if (arch) keep_for(arch, &places);
        return read_all(places);
    }

    Member member{*kind, 0, {image.begin(), image.end()}};
    if (*kind == Kind::Ptx) {
        drop_trailing_nuls(member.data);
        member.arch = detail::ptx_target(member);
    } else {
        member.arch = detail::cubin_arch(member);
    }
    return {std::move(member)};
}

std::vector<Variable> variables(const Member& member) {
    return member.kind == Kind::Ptx ? detail::ptx_variables(member) : detail::cubin_variables(member);
}

std::vector<std::string> heap_kernels(const Member& member) {
    return member.kind == Kind::Ptx ? detail::ptx_heap_kernels(member) : detail::cubin_heap_kernels(member);
}

bool detail::starts_kernels(const Member& member) {
    const std::string_view text(reinterpret_cast<const char*>(member.data.data()), member.data.size());
    return text.find("cudaLaunchDevice") != text.npos || text.find("cudaCDP2") != text.npos;
}

// By the names of what the compiler calls for it, wherever they stand: one false alarm costs little.
bool prints(const Member& member) {
    const std::string_view text(reinterpret_cast<const char*>(member.data.data()), member.data.size());
    return text.find("vprintf") != text.npos || text.find("__assertfail") != text.npos;
}

std::vector<std::string> kernels(const Member& member) {
    return member.kind == Kind::Ptx ? detail::ptx_kernels(member) : detail::cubin_kernels(member);
}

}  // namespace cricket::image
