// SPDX-License-Identifier: MIT
// The decoded form: functions as arrays of instructions whose operands are byte offsets into a warp's
// registers or the module's constants. Built once by lower*.cpp, read by every launch.
//
// A register holds 32 lanes side by side: 64 bytes for 8- and 16-bit types, 128 for 32-bit, 256 for 64-bit; a
// predicate is one 32-bit lane mask. Operands with bit 31 set lie in the constants, which have the same
// shape.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ast.h"
#include "ptx.h"

namespace softgpu::ptx {

struct Warp;
struct Instr;
struct Function;

using Handler = void (*)(Warp&, const Instr&);

constexpr uint32_t kLanes = 32;
constexpr uint32_t kConstant = 0x80000000u;  // flag of an operand
constexpr uint32_t kNone = 0x7fffffffu;      // no operand

// Generic addresses carry a tag in the high half for windows that are no memory of the process; both are
// non-canonical on x86-64 and so never collide with one that is.
constexpr uint64_t kSharedWindow = 0x53480000ull << 32;
constexpr uint64_t kLocalWindow = 0x4c4f0000ull << 32;
constexpr uint64_t kParamWindow = 0x50410000ull << 32;

// What the run loop does with an instruction; Plain ones just call `fn`.
enum class Kind : uint8_t {
    Plain,
    Branch,
    BranchTable,
    Jump,
    Call,
    Return,
    Exit,
    Trap,
    Barrier,
    WarpBarrier,
    Collective,
    Pause
};

struct BarrierUse {
    enum class Mode : uint8_t { Sync, Arrive, Reduce } mode = Mode::Sync;
    enum class Reduce : uint8_t { And, Or, Popc } reduce = Reduce::And;
};

struct Instr {
    Handler fn = nullptr;
    uint32_t op[6] = {kNone, kNone, kNone, kNone, kNone, kNone};
    int64_t imm = 0;                // address offset, table, byte selector: the handler's
    const void* data = nullptr;     // CallSite, compare function, branch table: the handler's
    const Instr* target = nullptr;  // taken branch
    const Instr* next = nullptr;    // branch not taken
    uint32_t guard = kNone;         // predicate register
    int32_t line = 0;
    uint32_t csr = 0;  // SSE control word to run under; 0: the default
    Kind kind = Kind::Plain;
    bool simple = true;  // Plain, no guard, default control word
    bool guard_not = false;
    uint8_t space = 0;               // a Space
    uint8_t flag[4] = {0, 0, 0, 0};  // the handler's
    uint16_t slot = 0;               // of the access range cache
    bool address64 = false;          // the address register has 64 bits
};

struct Slot {
    uint32_t offset = 0, size = 0;  // in the frame's local memory
};

enum class Builtin : uint8_t { None, Printf, AssertFail, Malloc, Free, SetConditional };

struct CallSite {
    const Function* callee = nullptr;  // null: through a register
    uint32_t target = kNone;
    std::vector<Slot> arguments, results;
};

struct BranchTable {
    std::vector<const Instr*> targets;
};

// tex, tld4, suld, sust, txq and suq: more operands than an Instr has.
struct TextureAccess {
    enum class Shape : uint8_t { D1, D2, D3, Cube } shape = Shape::D2;
    enum class Level : uint8_t { Base, Explicit, Gradient } level = Level::Base;
    enum class Outside : uint8_t { Trap, Clamp, Zero } outside = Outside::Trap;
    bool layered = false;
    bool integer = false;  // coordinates of a texture are texel numbers
    uint8_t gather = 0;    // component of tld4
    uint8_t count = 4;     // values moved
    uint8_t bytes = 4;     // of each, for surfaces
    uint8_t query = 0;     // of txq and suq: 0 width, 1 height, 2 depth
    unsigned width = 4;    // of the registers, in bytes
    uint32_t value[4] = {kNone, kNone, kNone, kNone};
    uint32_t handle = kNone, layer = kNone;
    uint32_t at[3] = {kNone, kNone, kNone};
    uint32_t lod[6] = {kNone, kNone, kNone, kNone, kNone, kNone};  // or gradients: x by dimension, then y
};

struct Function {
    std::string name;
    const FunctionDecl* decl = nullptr;
    uint32_t index = 0;
    Builtin builtin = Builtin::None;
    std::vector<Instr> code;
    std::vector<std::unique_ptr<CallSite>> calls;
    std::vector<std::unique_ptr<BranchTable>> tables;
    std::vector<std::unique_ptr<TextureAccess>> textures;
    std::vector<Slot> params, results;
    uint32_t register_bytes = 0;
    uint32_t frame_bytes = 0;  // local memory per thread of one activation
    // Layout, valid for entries.
    uint32_t static_shared = 0;    // bytes
    uint32_t stack_bytes = 0;      // local memory per thread, calls included
    bool unbounded_stack = false;  // recursion or indirect calls
};

// Values every instruction may read, broadcast to all lanes.
class Constants {
  public:
    Constants();
    // The operand of a constant; width 2, 4 or 8 bytes, or 1 for a predicate.
    uint32_t value(uint64_t bits, unsigned width);
    // A 64-bit constant for the address of a variable, filled in when that is placed.
    uint32_t address(const VariableDecl* variable, int64_t offset);
    void placed(const VariableDecl* variable, uint64_t address);
    uint8_t* data() const { return bytes_; }

  private:
    uint32_t allocate(unsigned width);
    struct Free {
        void operator()(void* p) const;
    };
    void fill(uint32_t at, uint64_t bits, unsigned width);
    std::map<std::pair<uint64_t, unsigned>, uint32_t> values_;
    std::map<std::pair<const VariableDecl*, int64_t>, uint32_t> addresses_;
    std::unique_ptr<void, Free> storage_;
    uint8_t* bytes_ = nullptr;
    size_t used_ = 0, capacity_ = 0;
};

// The address a function's pointer has: small, and the same in every process that loads the same module.
constexpr uint64_t code_address(uint32_t index) {
    return 0x100 + 16 * uint64_t{index};
}

struct Program {
    Ast ast;
    std::vector<std::unique_ptr<Function>> functions;
    std::map<std::string_view, Function*> function_named;
    Constants constants;

    const Function* at_code_address(uint64_t address) const {
        uint64_t index = (address - 0x100) / 16;
        return address % 16 == 0 && index < functions.size() ? functions[index].get() : nullptr;
    }
};

// Decodes ast's functions. Throws ParseError.
void lower(Program& program);

}  // namespace softgpu::ptx
