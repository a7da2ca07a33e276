// SPDX-License-Identifier: MIT
// Names in a cubin, from its ELF symbol table. The driver finds local symbols by name too (static, anonymous
// and function-local variables), so all object symbols count, whatever their binding.
#include <elf.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "format.h"

namespace cricket::image::detail {
namespace {

constexpr unsigned char kOtherManaged = 0x04;  // st_other of a __managed__ variable
constexpr unsigned char kOtherEntry = 0x10;    // st_other of a kernel

class Cubin {
  public:
    explicit Cubin(std::span<const std::byte> data) : data_(data), header_(at<Elf64_Ehdr>(0, "header")) {
        if (std::memcmp(header_.e_ident, ELFMAG, SELFMAG) != 0) throw ImageError("cubin: not an ELF file");
        if (header_.e_ident[EI_CLASS] != ELFCLASS64) throw ImageError("cubin: not a 64-bit ELF file");
        if (header_.e_machine != EM_CUDA) throw ImageError("cubin: made for another machine than CUDA");
        if (header_.e_shnum && header_.e_shentsize != sizeof(Elf64_Shdr))
            throw ImageError("cubin: unknown size of a section header");
    }

    const Elf64_Ehdr& header() const { return header_; }

    Elf64_Shdr section(unsigned index) const {
        if (index >= header_.e_shnum) throw ImageError("cubin: no section " + std::to_string(index));
        uint64_t offset;
        if (__builtin_add_overflow(header_.e_shoff, index * sizeof(Elf64_Shdr), &offset))
            throw ImageError("cubin: section headers out of range");
        return at<Elf64_Shdr>(offset, "section headers");
    }

    std::string_view section_name(const Elf64_Shdr& section) const {
        return string(this->section(header_.e_shstrndx), section.sh_name);
    }

    std::string_view string(const Elf64_Shdr& table, uint64_t offset) const {
        auto bytes = contents(table);
        if (offset >= bytes.size()) throw ImageError("cubin: name out of range");
        auto first = reinterpret_cast<const char*>(bytes.data()) + offset;
        auto end = static_cast<const char*>(std::memchr(first, 0, bytes.size() - offset));
        if (!end) throw ImageError("cubin: unterminated name");
        return {first, end};
    }

    // Calls visit(symbol, name) for every symbol of every symbol table.
    template <typename Visit>
    void symbols(Visit visit) const {
        indexed_symbols([&](uint32_t, const Elf64_Sym& symbol, std::string_view name) { visit(symbol, name); });
    }

    // Pairs of the symbols of caller and called, and whether the cubin has them.
    std::pair<bool, std::vector<std::pair<uint32_t, uint32_t>>> calls() const {
        std::pair<bool, std::vector<std::pair<uint32_t, uint32_t>>> found{};
        for (unsigned i = 0; i < header_.e_shnum; ++i) {
            const auto table = section(i);
            if (section_name(table) != ".nv.callgraph") continue;
            found.first = true;
            const auto bytes = contents(table);
            for (size_t offset = 0; offset + 8 <= bytes.size(); offset += 8) {
                uint32_t pair[2];
                std::memcpy(pair, bytes.data() + offset, sizeof pair);
                if (pair[0] && pair[1] < 0x80000000u) found.second.push_back({pair[0], pair[1]});
            }
        }
        return found;
    }

    template <typename Visit>
    void indexed_symbols(Visit visit) const {
        for (unsigned i = 0; i < header_.e_shnum; ++i) {
            auto table = section(i);
            if (table.sh_type != SHT_SYMTAB) continue;
            auto names = section(table.sh_link);
            auto bytes = contents(table);
            for (size_t offset = 0; offset + sizeof(Elf64_Sym) <= bytes.size(); offset += sizeof(Elf64_Sym)) {
                Elf64_Sym symbol;
                std::memcpy(&symbol, bytes.data() + offset, sizeof symbol);
                auto type = ELF64_ST_TYPE(symbol.st_info);
                if (type != STT_OBJECT && type != STT_FUNC) continue;
                visit(static_cast<uint32_t>(offset / sizeof(Elf64_Sym)), symbol, string(names, symbol.st_name));
            }
        }
    }

  private:
    template <typename T>
    T at(uint64_t offset, const char* what) const {
        if (offset > data_.size() || data_.size() - offset < sizeof(T))
            throw ImageError(std::string("cubin: ") + what + " out of range");
        T value;
        std::memcpy(&value, data_.data() + offset, sizeof value);
        return value;
    }

    std::span<const std::byte> contents(const Elf64_Shdr& section) const {
        if (section.sh_type == SHT_NOBITS) return {};
        if (section.sh_offset > data_.size() || section.sh_size > data_.size() - section.sh_offset)
            throw ImageError("cubin: section out of range");
        return data_.subspan(section.sh_offset, section.sh_size);
    }

    std::span<const std::byte> data_;
    Elf64_Ehdr header_;
};

}  // namespace

int cubin_arch(const Member& member) {
    Cubin cubin(member.data);
    // The ABI of CUDA 12.8 and later (EI_OSABI 0x41) moved the architecture up by a byte.
    const uint32_t flags = cubin.header().e_flags;
    return static_cast<int>(cubin.header().e_ident[EI_OSABI] == 0x41 ? flags >> 8 & 0xff : flags & 0xff);
}

std::vector<Variable> cubin_variables(const Member& member) {
    Cubin cubin(member.data);
    std::vector<Variable> result;
    cubin.symbols([&](const Elf64_Sym& symbol, std::string_view name) {
        if (ELF64_ST_TYPE(symbol.st_info) != STT_OBJECT) return;
        if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= SHN_LORESERVE) return;
        auto section = cubin.section_name(cubin.section(symbol.st_shndx));
        bool constant = section.starts_with(".nv.constant");
        if (!constant && !section.starts_with(".nv.global")) return;  // .nv.shared: not in device memory
        result.push_back(
            {std::string(name), symbol.st_size, constant, (symbol.st_other & kOtherManaged) != 0});
    });
    return result;
}

// The linker says in .nv.callgraph which function calls which, as pairs of symbols. Code that is no kernel's own may be called
// through pointers, by any.
std::vector<std::string> cubin_heap_kernels(const Member& member) {
    Cubin cubin(member.data);
    struct Function {
        std::string name;
        bool kernel;
    };
    std::map<uint32_t, Function> functions;  // by symbol
    std::set<uint32_t> users;
    cubin.indexed_symbols([&](uint32_t index, const Elf64_Sym& symbol, std::string_view name) {
        if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC) return;
        if (symbol.st_shndx != SHN_UNDEF)
            functions[index] = {std::string(name), (symbol.st_other & kOtherEntry) != 0};
        else if (name == "malloc" || name == "free")
            users.insert(index);
    });
    std::vector<std::string> result;
    if (users.empty()) return result;
    const auto [known, calls] = cubin.calls();
    for (bool more = true; more;) {
        more = false;
        for (const auto& [caller, callee] : calls) more |= users.count(callee) && users.insert(caller).second;
    }
    const bool any = !known || starts_kernels(member) || std::ranges::any_of(functions, [&](const auto& one) {
        return !one.second.kernel && users.count(one.first) && !one.second.name.starts_with("$");
    });
    for (const auto& [index, function] : functions)
        if (function.kernel && (any || users.count(index))) result.push_back(function.name);
    return result;
}

std::vector<std::string> cubin_kernels(const Member& member) {
    Cubin cubin(member.data);
    std::vector<std::string> result;
    cubin.symbols([&](const Elf64_Sym& symbol, std::string_view name) {
        if (symbol.st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol.st_info) == STT_FUNC &&
            (symbol.st_other & kOtherEntry))
            result.emplace_back(name);
    });
    return result;
}

}  // namespace cricket::image::detail
