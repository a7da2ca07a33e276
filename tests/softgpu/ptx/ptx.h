// SPDX-License-Identifier: MIT
// PTX as the software GPU sees it: parse a module once, then execute its entry functions on the CPU, warp by
// warp. Device addresses are host addresses of this process; the embedding driver says which are valid.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace softgpu::ptx {

// What the parser refuses: an unknown instruction or directive, with its text and 1-based line in the PTX.
class ParseError : public std::runtime_error {
  public:
    ParseError(int line, std::string text, const std::string& why)
        : std::runtime_error("line " + std::to_string(line) + ": " + why + ": " + text),
          line_(line),
          text_(std::move(text)) {}
    int line() const { return line_; }
    const std::string& text() const { return text_; }

  private:
    int line_;
    std::string text_;
};

// What a kernel did wrong while running; the driver makes the context's sticky error of it.
class Fault : public std::runtime_error {
  public:
    enum class Kind { IllegalAddress, MisalignedAddress, Trap, Assert, IllegalInstruction };
    Fault(Kind kind, const std::string& what) : std::runtime_error(what), kind_(kind) {}
    Kind kind() const { return kind_; }

  private:
    Kind kind_;
};

// A module-scope variable in .global or .const state space. Storage is the driver's: it allocates `size`
// bytes aligned to `align`, tells Module::place() where, and the module writes the initial value there.
struct Variable {
    std::string name;
    bool constant = false;  // .const, else .global
    bool visible = false;   // .visible or .weak: has external linkage
    bool managed = false;   // .attribute(.managed)
    bool external = false;  // .extern: declared here, defined nowhere in this module
    uint64_t size = 0;      // bytes; 0 for extern arrays without bound
    uint64_t align = 1;
};

struct Param {
    uint32_t offset;  // bytes from the start of the parameter buffer
    uint32_t size;
};

// An .entry function.
struct Kernel {
    std::string name;
    std::vector<Param> params;
    uint32_t param_bytes = 0;          // size of the whole parameter buffer
    uint32_t static_shared_bytes = 0;  // .shared of the kernel and of all it calls
    uint32_t local_bytes = 0;          // .local per thread, device calls included
    uint32_t max_threads = 1024;       // from .maxntid / .reqntid, else 1024
    uint32_t registers = 0;            // an estimate: 32-bit virtual registers, capped at 255
};

// What a texture or surface object stands for: elements in memory, and how they are read.
struct Texture {
    enum class Channel : uint8_t { Unsigned, Signed, Float };
    enum class Address : uint8_t { Wrap, Clamp, Mirror, Border };  // as CUaddress_mode

    // Rows follow each other without gaps, unless `pitch` says more.
    struct Level {
        uint8_t* data = nullptr;
        uint32_t width = 0, height = 1, depth = 1;  // elements; the depth of layers and faces is in `layers`
        uint64_t pitch = 0, slice = 0;              // bytes from row to row, from slice (or layer) to slice
    };
    std::vector<Level> levels;
    Channel channel = Channel::Unsigned;
    uint8_t channel_bytes = 1, channels = 1;
    uint32_t layers = 1;  // of a layered one, six for each cube
    bool linear = false, mip_linear = false, normalized = false, as_integer = false;
    Address address[3] = {Address::Clamp, Address::Clamp, Address::Clamp};
    float border[4] = {};
    float bias = 0, min_level = 0, max_level = 0;
    std::shared_ptr<const void> keep;  // the memory behind it
};

struct Dim3 {
    uint32_t x = 1, y = 1, z = 1;
};

struct Launch {
    Dim3 grid, block;
    uint32_t dynamic_shared_bytes = 0;
    uint64_t multiprocessors = 1;       // those that blocks may run on, a bit for each
    uint32_t multiprocessor_ids = 1;    // of the device: one more than the largest
    bool cooperative = false;           // blocks may wait for each other by grid.sync() of cooperative groups
    std::span<const std::byte> params;  // laid out as Kernel::params says; param_bytes long
    // Local memory per thread for kernels with recursion or indirect calls, whose need is not known
    // beforehand.
    uint32_t stack_bytes = 64 * 1024;
    // The device heap behind malloc() and free() in kernels; called from many threads at once. The memory
    // given out must pass the AccessCheck. Without them malloc() answers null.
    std::function<void*(size_t size)> heap_allocate;
    std::function<void(void* address)> heap_free;
    // The texture or surface behind a handle, null for one that is none.
    std::function<std::shared_ptr<const Texture>(uint64_t handle, bool surface)> texture;
    // cudaGraphSetConditional() in kernels.
    std::function<void(uint64_t handle, unsigned value)> set_conditional;
    // Text of failed assertions; without it, that goes where printf goes.
    std::function<void(std::string_view)> complain;
    // When set and it becomes true, the run ends early with Fault::Kind::Trap.
    const std::atomic<bool>* cancel = nullptr;
};

// The valid memory around an address, [begin, end); empty when the access is not allowed.
struct AccessRange {
    uint64_t begin = 0, end = 0;
};

// Answers whether [address, address + size) may be read (or written) by device code: the whole range of valid
// memory that contains it, for which the same answer would be given, or an empty range. Called for global
// accesses, from many threads at once. Ranges are remembered for the rest of the launch, so calls are rare.
using AccessCheck = std::function<AccessRange(uint64_t address, uint64_t size, bool write)>;

class Module {
  public:
    // Parses a whole PTX text (a trailing NUL is allowed). Throws ParseError.
    static std::unique_ptr<Module> parse(std::string_view ptx);
    virtual ~Module() = default;

    virtual const std::vector<Variable>& variables() const = 0;
    virtual const std::vector<Kernel>& kernels() const = 0;
    // .target sm_NN as 10 * major + minor, e.g. 75.
    virtual int target() const = 0;

    // Tells where variables()[index] lives. After all non-external ones are placed, call initialize().
    virtual void place(size_t index, void* storage) = 0;
    // Writes every initial value (zero where there is none), symbol addresses resolved.
    virtual void initialize() = 0;

    // Runs one grid to completion on `threads` CPU threads (0: all cores). Throws Fault. Device printf goes
    // to `print` in whole formatted pieces. Thread-safe: several launches of one module may run at once.
    virtual void run(const Kernel& kernel, const Launch& launch, const AccessCheck& may_access,
                     const std::function<void(std::string_view)>& print, unsigned threads = 0) const = 0;
};

}  // namespace softgpu::ptx
