// SPDX-License-Identifier: MIT
// Reading the program images that applications hand to CUDA: fatbins, cubins (ELF) and PTX. The client needs
// their sizes (CUDA passes bare pointers), the server the names of the variables inside, the software GPU the
// PTX text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace cricket::image {

class ImageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

enum class Kind { Fatbin, FatbinWrapper, Elf, Ptx };

// What kind of image `data` points at, by its magic; nullopt where it is none of them (PTX: printable text).
// Reads at most 16 bytes, which must be readable.
std::optional<Kind> kind_of(const void* data);

// Size in bytes of the image at `data`, as its own headers say: fatbin header + payload, ELF up to the end of
// its section headers / segments / sections whichever is last, PTX up to and including the terminating NUL.
// A FatbinWrapper is followed to the fatbin it points at: see unwrap().
size_t size_of(const void* data);

// The fatbin behind a __fatBinC_Wrapper_t (magic 0x466243b1); throws ImageError when it is not one.
const void* unwrap(const void* wrapper);

// One member of a fatbin, decompressed (none, lz4, zstd).
struct Member {
    Kind kind;                    // Elf or Ptx
    int arch;                     // 10 * major + minor, e.g. 75, 90
    std::vector<std::byte> data;  // PTX: text without a trailing NUL
};

// All members of the fatbin in `image` (or the image itself as the one member when it is Elf or Ptx).
// Throws ImageError naming what is wrong; every length is checked against `image` before it is used.
// With `arch` only those that a driver would choose for such a device: the others need not be decompressed. All of them
// where none fits.
std::vector<Member> members(std::span<const std::byte> image, int arch = 0);

// A variable named by an image: every object symbol of a cubin (local ones too), every .global/.const of a
// PTX text.
struct Variable {
    std::string name;
    uint64_t size;  // bytes; 0 when not known (PTX text)
    bool constant;  // lives in constant memory
    bool managed;   // __managed__: st_other 4 in a cubin, .attribute(.managed) in PTX
};
std::vector<Variable> variables(const Member& member);

// Names of the kernels that may call malloc() or free(): memory from the device heap, which belongs to no allocation.
std::vector<std::string> heap_kernels(const Member& member);

// Whether code of the member may print: device printf or assert.
bool prints(const Member& member);

// Names of the kernels (entry functions) of a member.
std::vector<std::string> kernels(const Member& member);

}  // namespace cricket::image
