// SPDX-License-Identifier: MIT
// Loads, stores, atomics, fences, asynchronous copies. Cache hints change nothing here; memory orders and
// scopes are all met by x86's, because every access is a plain aligned one of the host and fences are full
// ones.
#include <cstring>

#include "decode.h"

namespace softgpu::ptx {

Space Decoder::take_space(bool required) {
    int s = take_one({".global", ".const", ".shared", ".shared::cta", ".local", ".param", ".param::entry",
                      ".param::func"});
    switch (s) {
        case 0:
            return Space::Global;
        case 1:
            return Space::Const;
        case 2:
        case 3:
            return Space::Shared;
        case 4:
            return Space::Local;
        case 5:
        case 6:
        case 7:
            return Space::Param;
        default:
            break;
    }
    if (required) fail("no state space");
    return Space::Generic;
}

// Memory order, scope and cache hints. True when other threads may write the location meanwhile.
bool Decoder::take_order() {
    bool shared = take_any({".volatile", ".relaxed", ".acquire", ".release", ".acq_rel", ".mmio"});
    shared |= take_any({".cta", ".cluster", ".gpu", ".sys"});
    take(".weak");
    take(".nc");
    take_any({".ca", ".cg", ".cs", ".lu", ".cv", ".wb", ".wt"});
    take_any({".L1::evict_normal", ".L1::evict_unchanged", ".L1::evict_first", ".L1::evict_last",
              ".L1::no_allocate"});
    take_any({".L2::64B", ".L2::128B", ".L2::256B"});
    return shared;
}

namespace {

size_t vector_length(int index) {
    return index == 0 ? 2 : index == 1 ? 4 : 1;
}

}  // namespace

void Decoder::ld() {
    Space space = take_space(false);
    bool polled = take_order();
    size_t n = vector_length(take_one({".v2", ".v4"}));
    Type t = take_type();
    finish();
    expect_operands(2);
    const Operand& d = operand(0);
    if ((d.kind == Operand::Kind::Vector) != (n > 1) || (n > 1 && d.parts.size() != n))
        fail("destination does not fit the vector type");
    if (n * size_of(t) > 16) fail("vector longer than 16 bytes");
    unsigned width = 0;
    for (size_t k = 0; k < n; ++k) {
        const Operand& o = n > 1 ? d.parts[k] : d;
        if (o.kind == Operand::Kind::Sink) continue;
        unsigned w = register_width(o);
        if (width && w != width) fail("vector of registers of different sizes");
        width = w;
    }
    if (width == 0) width = std::max(2u, size_of(t));
    Instr in;
    const Operand& a = operand(1);
    const VariableDecl* named =
        a.parts.empty() || a.parts[0].kind != Operand::Kind::Variable ? nullptr : a.parts[0].variable;
    Instr where;
    address(a, space, where);
    bool entry_param = space == Space::Param && named && named->entry_param;
    auto effective = static_cast<Space>(where.space);  // .param of a device function lies in the frame
    if (space == Space::Param && !named && !function_.decl->entry) effective = Space::Local;
    if (entry_param) {
        in = start(plain::load_entry_param(t, width));
        in.imm = static_cast<int64_t>(named->offset) + a.offset;
        if (in.imm < 0 || static_cast<uint64_t>(in.imm) + n * size_of(t) > named->offset + named->size)
            fail("access outside the parameter");
    } else {
        in = start(ops().load(t, width, effective));
        in.imm = where.imm;
        in.op[4] = where.op[4];
        in.slot = where.slot;
        in.address64 = where.address64;
    }
    in.space = static_cast<uint8_t>(effective);
    in.flag[0] = static_cast<uint8_t>(n);
    in.flag[1] = polled;
    for (size_t k = 0; k < n; ++k) {
        const Operand& o = n > 1 ? d.parts[k] : d;
        in.op[k] = o.kind == Operand::Kind::Sink ? scratch(width) : register_at(o.reg);
    }
    emit(in);
}

void Decoder::st() {
    Space space = take_space(false);
    take_order();
    size_t n = vector_length(take_one({".v2", ".v4"}));
    Type t = take_type();
    finish();
    expect_operands(2);
    const Operand& s = operand(1);
    if ((s.kind == Operand::Kind::Vector) != (n > 1) || (n > 1 && s.parts.size() != n))
        fail("source does not fit the vector type");
    if (n * size_of(t) > 16) fail("vector longer than 16 bytes");
    if (space == Space::Const) fail("constant memory cannot be written");
    unsigned width = 0;
    for (size_t k = 0; k < n; ++k) {
        const Operand& o = n > 1 ? s.parts[k] : s;
        if (o.kind != Operand::Kind::Register) continue;
        unsigned w = register_width(o);
        if (width && w != width) fail("vector of registers of different sizes");
        width = w;
    }
    if (width == 0) width = std::max(2u, size_of(t));
    Instr in;
    address(operand(0), space, in);
    const Operand& a = operand(0);
    bool named = !a.parts.empty() && a.parts[0].kind == Operand::Kind::Variable;
    auto effective = static_cast<Space>(in.space);
    if (space == Space::Param && !named && !function_.decl->entry) effective = Space::Local;
    Instr complete = start(ops().store(width, size_of(t), effective));
    in.fn = complete.fn;
    in.line = complete.line;
    in.guard = complete.guard;
    in.guard_not = complete.guard_not;
    in.space = static_cast<uint8_t>(effective);
    in.flag[0] = static_cast<uint8_t>(n);
    for (size_t k = 0; k < n; ++k) {
        const Operand& o = n > 1 ? s.parts[k] : s;
        Type as = o.kind == Operand::Kind::Float ? t
                  : width == 2                   ? Type::B16
                  : width == 4                   ? Type::B32
                                                 : Type::B64;
        in.op[k] = source(o, as);
    }
    emit(in);
}

// atom{.sem}{.scope}{.space}.op{.noftz}.type d, [a], b {, c}. op: [0] d, [1] b, [2] c, [4] address.
void Decoder::atom() {
    bool reduction = statement_->opcode == "red";
    Space space = take_space(false);
    take_order();
    take(".noftz");
    int op = take_one({".add", ".min", ".max", ".and", ".or", ".xor", ".exch", ".cas", ".inc", ".dec"});
    if (op < 0) fail("unsupported atomic operation");
    auto kind = static_cast<plain::Atomic>(op);
    Type t = take_type();
    finish();
    if (space == Space::Const || space == Space::Local || space == Space::Param)
        fail("unsupported state space");
    bool cas = kind == plain::Atomic::Cas;
    if (reduction && (cas || kind == plain::Atomic::Exch)) fail("unsupported reduction");
    size_t first = reduction ? 0 : 1;
    expect_operands(first + (cas ? 3 : 2));
    Instr in;
    address(operand(first), space, in);
    Instr complete = start(plain::atomic(kind, t));
    in.fn = complete.fn;
    in.line = complete.line;
    in.guard = complete.guard;
    in.guard_not = complete.guard_not;
    in.op[1] = source(first + 1, t);
    if (cas) in.op[2] = source(first + 2, t);
    if (!reduction && operand(0).kind != Operand::Kind::Sink) in.op[0] = destination(0, t);
    emit(in);
}

void Decoder::red() {
    atom();
}

void Decoder::fence() {
    take_any({".cta", ".gl", ".sys", ".gpu", ".cluster"});
    take_any({".sc", ".acq_rel", ".acquire", ".release"});
    if (take(".proxy")) fail("proxy fences are not supported");
    expect_operands(0);
    emit_to(plain::fence(), {});
}

void Decoder::prefetch() {
    take_space(false);
    take_any({".L1", ".L2", ".L2::evict_last", ".L2::evict_normal", ".L2::128B"});
    expect_operands(1, 2);
    emit_to(plain::nothing(), {});
}

// cp.async.{ca,cg}.shared.global [d], [s], bytes {, copied}; and its groups, which complete at once.
void Decoder::cp() {
    if (!take(".async")) fail("unsupported copy");
    if (take_any({".commit_group", ".wait_all", ".wait_group"})) {
        expect_operands(0, 1);
        emit_to(plain::nothing(), {});
        return;
    }
    if (!take_any({".ca", ".cg"}) || !take_any({".shared", ".shared::cta"}) || !take(".global"))
        fail("unsupported asynchronous copy");
    take_any({".L2::64B", ".L2::128B", ".L2::256B"});
    finish();
    expect_operands(3, 4);
    if (operand(2).kind != Operand::Kind::Integer) fail("copy size must be a constant");
    uint64_t bytes = operand(2).value;
    if (bytes != 4 && bytes != 8 && bytes != 16) fail("unsupported copy size");
    Instr to, from;
    address(operand(0), Space::Shared, to);
    address(operand(1), Space::Global, from);
    Instr in = start(plain::cp_async());
    in.op[4] = from.op[4];
    in.imm = from.imm;
    in.slot = from.slot;
    in.address64 = from.address64;
    in.op[0] = to.op[4];
    in.data = reinterpret_cast<const void*>(to.imm);
    in.flag[0] = static_cast<uint8_t>(bytes);
    in.flag[1] = to.address64;
    if (statement_->operands.size() == 4) {
        if (operand(3).kind == Operand::Kind::Register && register_type(operand(3).reg) == Type::Pred)
            fail("unsupported predicate operand");
        in.op[1] = source(3, Type::B32);
    }
    emit(in);
}

}  // namespace softgpu::ptx
