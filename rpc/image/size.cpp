// SPDX-License-Identifier: MIT
// What kind of image a bare pointer shows and how long it is. Apart from fatbin.cpp because the client links
// this and must not depend on the decompressors.
#include <elf.h>

#include <algorithm>
#include <cstring>

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

uint64_t end_of(uint64_t offset, uint64_t size, const char* what) {
    uint64_t end;
    if (__builtin_add_overflow(offset, size, &end) || end > (uint64_t{1} << 40))
        throw ImageError(std::string("ELF image: size of its ") + what + " is absurd");
    return end;
}

size_t elf_size(const std::byte* data) {
    auto header = load<Elf64_Ehdr>(data);
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
        throw ImageError("ELF image: neither 64 bit nor little endian");
    if (header.e_shnum && header.e_shentsize != sizeof(Elf64_Shdr))
        throw ImageError("ELF image: unknown size of a section header");
    if (header.e_phnum && header.e_phentsize != sizeof(Elf64_Phdr))
        throw ImageError("ELF image: unknown size of a program header");
    uint64_t end = std::max<uint64_t>(sizeof header, header.e_ehsize);
    end = std::max(end,
                   end_of(header.e_phoff, uint64_t{header.e_phnum} * header.e_phentsize, "program headers"));
    end = std::max(end,
                   end_of(header.e_shoff, uint64_t{header.e_shnum} * header.e_shentsize, "section headers"));
    for (unsigned i = 0; i < header.e_phnum; ++i) {
        auto segment = load<Elf64_Phdr>(data + header.e_phoff + i * sizeof(Elf64_Phdr));
        end = std::max(end, end_of(segment.p_offset, segment.p_filesz, "segments"));
    }
    for (unsigned i = 0; i < header.e_shnum; ++i) {
        auto section = load<Elf64_Shdr>(data + header.e_shoff + i * sizeof(Elf64_Shdr));
        if (section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL)
            end = std::max(end, end_of(section.sh_offset, section.sh_size, "sections"));
    }
    return end;
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

size_t size_of(const void* data) {
    auto kind = kind_of(data);
    if (!kind) throw ImageError("not a program image: neither fatbin, cubin nor PTX");
    switch (*kind) {
        case Kind::FatbinWrapper:
            return size_of(unwrap(data));
        case Kind::Elf:
            return elf_size(static_cast<const std::byte*>(data));
        case Kind::Ptx:
            return std::strlen(static_cast<const char*>(data)) + 1;
        case Kind::Fatbin:
            break;
    }
    auto header = load<FatbinHeader>(data);
    uint64_t size;
    if (header.header_size < sizeof header ||
        __builtin_add_overflow(header.payload_size, uint64_t{header.header_size}, &size) ||
        size > (uint64_t{1} << 40))
        throw ImageError("fatbin: its header names an absurd size");
    return size;
}

const void* unwrap(const void* wrapper) {
    struct Wrapper {  // __fatBinC_Wrapper_t
        uint32_t magic, version;
        const void* data;
        const void* filename_or_fatbins;
    };
    auto value = load<Wrapper>(wrapper);
    if (value.magic != kWrapperMagic) throw ImageError("not a fatbin wrapper");
    if (kind_of(value.data) != Kind::Fatbin) throw ImageError("fatbin wrapper: does not point at a fatbin");
    return value.data;
}

}  // namespace cricket::image
