// SPDX-License-Identifier: MIT
// What kind of image a bare pointer shows and how long it is. Apart from the rest because the client links
// this and must depend neither on the decompressors nor on exceptions.
#include <elf.h>

#include <algorithm>
#include <cstring>

#include "bounds.h"
#include "format.h"
#include "image.h"

namespace cricket::image {
namespace {

// Images come at any alignment (they are often copied into byte vectors).
template <typename T>
T load(const void* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

// The farthest end seen, and the first complaint.
struct Extent {
    uint64_t end = 0;
    const char* why = nullptr;

    void include(uint64_t offset, uint64_t size, const char* absurd) {
        uint64_t last;
        if (__builtin_add_overflow(offset, size, &last) || last > (uint64_t{1} << 40))
            why = why ? why : absurd;
        else
            end = std::max(end, last);
    }
};

Bounds elf_bounds(const std::byte* data) {
    auto header = load<Elf64_Ehdr>(data);
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
        return {nullptr, 0, "ELF image: neither 64 bit nor little endian"};
    if (header.e_shnum && header.e_shentsize != sizeof(Elf64_Shdr))
        return {nullptr, 0, "ELF image: unknown size of a section header"};
    if (header.e_phnum && header.e_phentsize != sizeof(Elf64_Phdr))
        return {nullptr, 0, "ELF image: unknown size of a program header"};
    Extent extent{std::max<uint64_t>(sizeof header, header.e_ehsize)};
    extent.include(header.e_phoff, uint64_t{header.e_phnum} * header.e_phentsize,
                   "ELF image: size of its program headers is absurd");
    extent.include(header.e_shoff, uint64_t{header.e_shnum} * header.e_shentsize,
                   "ELF image: size of its section headers is absurd");
    if (extent.why) return {nullptr, 0, extent.why};
    for (unsigned i = 0; i < header.e_phnum; ++i) {
        auto segment = load<Elf64_Phdr>(data + header.e_phoff + i * sizeof(Elf64_Phdr));
        extent.include(segment.p_offset, segment.p_filesz, "ELF image: size of its segments is absurd");
    }
    for (unsigned i = 0; i < header.e_shnum; ++i) {
        auto section = load<Elf64_Shdr>(data + header.e_shoff + i * sizeof(Elf64_Shdr));
        if (section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL)
            extent.include(section.sh_offset, section.sh_size, "ELF image: size of its sections is absurd");
    }
    if (extent.why) return {nullptr, 0, extent.why};
    return {data, extent.end, nullptr};
}

bool is_text(unsigned char c) {
    return (c >= 0x20 && c < 0x7f) || (c >= '\t' && c <= '\r');
}

}  // namespace

std::optional<Kind> kind_of(const void* data) {
    if (!data) return std::nullopt;
    auto bytes = static_cast<const unsigned char*>(data);
    // One byte at a time: a short text may end where its memory does. No magic number is all text.
    int texts = 0;
    while (texts < 16 && is_text(bytes[texts])) ++texts;
    if (texts == 16 || (texts > 0 && bytes[texts] == 0)) return Kind::Ptx;
    if (texts >= 4) return std::nullopt;
    for (int i = texts; i < 4; ++i)
        if (bytes[i] == 0) return std::nullopt;
    switch (load<uint32_t>(data)) {
        case kWrapperMagic:
            return Kind::FatbinWrapper;
        case kFatbinMagic:
            return Kind::Fatbin;
        case kElfMagic:
            return Kind::Elf;
        default:
            return std::nullopt;
    }
}

Bounds bounds_of(const void* data) noexcept {
    auto kind = kind_of(data);
    if (!kind) return {nullptr, 0, "not a program image: neither fatbin, cubin nor PTX"};
    switch (*kind) {
        case Kind::FatbinWrapper: {
            Bounds bounds;
            const void* fatbin = behind_wrapper(data, &bounds.why);
            return fatbin ? bounds_of(fatbin) : bounds;
        }
        case Kind::Elf:
            return elf_bounds(static_cast<const std::byte*>(data));
        case Kind::Ptx:
            return {data, std::strlen(static_cast<const char*>(data)) + 1, nullptr};
        case Kind::Fatbin:
            break;
    }
    auto header = load<FatbinHeader>(data);
    uint64_t size;
    if (header.header_size < sizeof header ||
        __builtin_add_overflow(header.payload_size, uint64_t{header.header_size}, &size) ||
        size > (uint64_t{1} << 40))
        return {nullptr, 0, "fatbin: its header names an absurd size"};
    return {data, size, nullptr};
}

const void* behind_wrapper(const void* wrapper, const char** why) noexcept {
    struct Wrapper {  // __fatBinC_Wrapper_t
        uint32_t magic, version;
        const void* data;
        const void* filename_or_fatbins;
    };
    auto value = load<Wrapper>(wrapper);
    if (value.magic != kWrapperMagic)
        *why = "not a fatbin wrapper";
    else if (kind_of(value.data) != Kind::Fatbin)
        *why = "fatbin wrapper: does not point at a fatbin";
    else
        return value.data;
    return nullptr;
}

}  // namespace cricket::image
