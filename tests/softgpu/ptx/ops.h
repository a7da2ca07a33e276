// SPDX-License-Identifier: MIT
// The instruction handlers, selected by operation and type. The ops_*.cpp files marked in meson.build are
// compiled once per instruction set level into namespaces of their own; ops() picks the best one this machine
// can run.
#pragma once

#include "program.h"

namespace softgpu::ptx {

__extension__ using Int128 = __int128;
__extension__ using Uint128 = unsigned __int128;

enum class Op : uint8_t {
    // integer arithmetic
    Add,
    AddSat,
    Sub,
    SubSat,
    MulLo,
    MulHi,
    MulWide,
    MadLo,
    MadHi,
    MadHiSat,
    MadWide,
    Mul24Lo,
    Mul24Hi,
    Mad24Lo,
    Mad24Hi,
    Mad24HiSat,
    Sad,
    Div,
    Rem,
    Abs,
    Neg,
    Min,
    Max,
    AddCc,
    AddC,
    AddCCc,
    SubCc,
    SubC,
    SubCCc,
    MadLoCc,
    MadHiCc,
    MadLoC,
    MadHiC,
    MadLoCCc,
    MadHiCCc,
    // bits
    And,
    Or,
    Xor,
    Not,
    Cnot,
    Shl,
    Shr,
    ShfLeftClamp,
    ShfLeftWrap,
    ShfRightClamp,
    ShfRightWrap,
    Lop3,
    Bfe,
    Bfi,
    Bfind,
    BfindShift,
    Brev,
    Popc,
    Clz,
    Fns,
    Prmt,
    SzextClamp,
    SzextWrap,
    BmskClamp,
    BmskWrap,
    Dp4a,
    Dp2aLo,
    Dp2aHi,
    Mov,
    Selp,
    Slct,
    SlctF,
    // floating point
    Fma,
    FmaSat,
    FmaRelu,
    Mul,
    MulSat,
    Rcp,
    RcpApprox64,
    Sqrt,
    Rsqrt,
    RsqrtApprox64,
    Sin,
    Cos,
    Ex2,
    Lg2,
    Tanh,
    AbsFtz,
    NegFtz,
    MinFtz,
    MaxFtz,
    MinNan,
    MaxNan,
    MinNanFtz,
    MaxNanFtz,
    Copysign,
    Testp,
    DivSat,
};

enum class Compare : uint8_t { Eq, Ne, Lt, Le, Gt, Ge, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan };

// Lanes of which the comparison holds; of all 32, active or not.
using CompareFn = uint32_t (*)(const void* a, const void* b);

enum class Rounding : uint8_t { Nearest, Zero, Down, Up };

struct OpSet {
    Handler (*integer)(Op, Type);   // ops_int.cpp
    Handler (*bits)(Op, Type);      // ops_bit.cpp; by width, but for Bfe, Bfind, Shr, Dp4a, Dp2a: by type
    Handler (*floating)(Op, Type);  // ops_float.cpp
    CompareFn (*compare)(Compare, Type);                        // ops_compare.cpp
    Handler (*convert_int)(Type to, Type from, bool saturate);  // ops_convert.cpp
    Handler (*convert_from_int)(Type to, Type from);            // to f32, f64
    Handler (*convert_to_int)(Type to, Type from, Rounding);    // from f32, f64
    Handler (*load)(Type memory, unsigned width, Space space);  // ops_memory.cpp; width of the register
    Handler (*store)(unsigned width, unsigned memory, Space space);
};

// SSE control words: masked exceptions, a rounding mode, and what .ftz asks for.
constexpr uint32_t kCsrDefault = 0x1f80;
constexpr uint32_t kCsrFtz = 0x8040;
constexpr uint32_t csr_of(Rounding r) {
    return kCsrDefault | (r == Rounding::Down   ? 0x2000u
                          : r == Rounding::Up   ? 0x4000u
                          : r == Rounding::Zero ? 0x6000u
                                                : 0u);
}

const OpSet& ops();

// Handlers that exist once.
namespace plain {
Handler half(Op, Type);  // ops_half.cpp: f16, bf16 and their pairs
CompareFn compare_half(Compare, Type);
Handler convert_float(Type to, Type from);     // ops_convert_float.cpp: float to float; flag[0] Rounding,
                                               // flag[1] bit 0 sat, bit 1 round to integer, bit 2 ftz
Handler convert_half_int(Type to, Type from);  // f16 or bf16 to or from an integer, same flags
Handler convert_pair();                        // cvt.*x2.f32
Handler setp();                                // ops_predicate.cpp
Handler set(Type result);
Handler set_pair(bool predicate);
Handler predicate(Op);  // and or xor not mov
Handler pack(unsigned part, unsigned whole);
Handler unpack(unsigned whole, unsigned part);
Handler special(std::string_view name);  // null: no such register; writes 32 bits, or 64 when wide
bool special_is_wide(std::string_view name);
Handler frame_address();           // op[0] = frame base + imm
Handler dynamic_shared_address();  // op[0] = start of dynamic shared memory + imm
Handler window_to_generic(Space);  // cvta
Handler generic_to_window();       // cvta.to
Handler isspacep(Space);
Handler load_entry_param(Type memory, unsigned width);
Handler fence();
Handler nothing();
Handler testp(Type);
// Atomics, ops_atomic.cpp. A null result operand makes it a red.
enum class Atomic : uint8_t { Add, Min, Max, And, Or, Xor, Exch, Cas, Inc, Dec };
Handler atomic(Atomic, Type);
Handler shfl(uint8_t mode);  // ops_warp.cpp: 0 up, 1 down, 2 bfly, 3 idx
Handler vote(uint8_t mode);  // 0 all, 1 any, 2 uni, 3 ballot
Handler match(bool all, unsigned width);
Handler redux(Op, Type);
Handler elect();
Handler activemask();
Handler sample();  // with Instr::data a TextureAccess
Handler gather();
Handler surface_load();
Handler surface_store();
Handler texture_query(bool surface);
Handler cp_async();
}  // namespace plain

}  // namespace softgpu::ptx
