// SPDX-License-Identifier: MIT
// Moves, packing, selection, conversions, addresses between windows.
#include <bit>

#include "decode.h"

namespace softgpu::ptx {

void Decoder::mov() {
    Type t = take_type();
    finish();
    expect_operands(2);
    const Operand &d = operand(0), &s = operand(1);
    if (t == Type::Pred) {
        Instr in = start(plain::predicate(Op::Mov));
        bool negated = false;
        in.op[1] = predicate_source(s, negated);
        in.flag[0] = negated;
        in.op[0] = predicate_destination(d);
        emit(in);
        return;
    }
    if (t == Type::B8 || t == Type::U8 || t == Type::S8) fail("unsupported type");
    unsigned width = size_of(t);
    if (s.kind == Operand::Kind::Vector) return pack(d, s, width);
    if (d.kind == Operand::Kind::Vector) return unpack(d, s, width);
    if (s.kind == Operand::Kind::Special && s.name != "WARP_SZ") {
        Handler fn = plain::special(s.name);
        if (!fn) fail("unsupported special register '" + std::string(s.name) + "'");
        unsigned have = plain::special_is_wide(s.name) ? 8 : 4;
        if (have == width) {
            Instr in = start(fn);
            in.op[0] = destination(0, t);
            emit(in);
            return;
        }
    }
    Type from = t;
    if (s.kind == Operand::Kind::Integer && width > 2) from = width == 4 ? Type::B32 : Type::B64;
    Instr in = start(ops().bits(Op::Mov, t));
    in.op[1] = source(s, from);
    in.op[0] = destination(0, t);
    emit(in);
}

// mov.b64 d, {a, b} and its like.
void Decoder::pack(const Operand& d, const Operand& s, unsigned whole) {
    size_t n = s.parts.size();
    if ((n != 2 && n != 4) || whole % n) fail("unsupported vector");
    unsigned part = whole / static_cast<unsigned>(n);
    if (part == 1) fail("packing bytes is not supported");
    Type type = part == 2 ? Type::B16 : Type::B32;
    Instr in = start(plain::pack(part, whole));
    in.flag[0] = static_cast<uint8_t>(n);
    for (size_t k = 0; k < n; ++k) in.op[1 + k] = source(s.parts[k], type);
    in.op[0] = destination(d, whole);
    emit(in);
}

void Decoder::unpack(const Operand& d, const Operand& s, unsigned whole) {
    size_t n = d.parts.size();
    if ((n != 2 && n != 4) || whole % n) fail("unsupported vector");
    unsigned part = whole / static_cast<unsigned>(n);
    if (part == 1) fail("unpacking bytes is not supported");
    Instr in = start(plain::unpack(whole, part));
    in.flag[0] = static_cast<uint8_t>(n);
    in.op[4] = source(s, whole == 8 ? Type::B64 : Type::B32);
    for (size_t k = 0; k < n; ++k)
        if (d.parts[k].kind != Operand::Kind::Sink) in.op[k] = destination(d.parts[k], part);
    emit(in);
}

void Decoder::selp() {
    Type t = take_type();
    finish();
    expect_operands(4);
    Instr in = start(ops().bits(Op::Selp, t));
    in.op[1] = source(1, t);
    in.op[2] = source(2, t);
    bool negated = false;
    in.op[3] = predicate_source(operand(3), negated);
    in.flag[0] = negated;
    in.op[0] = destination(0, t);
    emit(in);
}

void Decoder::slct() {
    bool ftz = take(".ftz");
    Type t = take_type(), c = take_type();
    if (c != Type::S32 && c != Type::F32) fail("unsupported selector type");
    finish();
    expect_operands(4);
    Instr in = start(ops().bits(c == Type::F32 ? Op::SlctF : Op::Slct, t));
    if (ftz) in.csr = kCsrDefault | kCsrFtz;
    in.op[1] = source(1, t);
    in.op[2] = source(2, t);
    in.op[3] = source(3, c);
    in.op[0] = destination(0, t);
    emit(in);
}

void Decoder::cvt() {
    Type to = take_type(), from = take_type();
    if (!statement_->operands.empty() && statement_->operands.size() == 3) {  // cvt.rn.f16x2.f32 d, a, b
        if ((to != Type::F16x2 && to != Type::BF16x2) || from != Type::F32) fail("unsupported conversion");
        Instr in = start(plain::convert_pair());
        in.flag[0] = static_cast<uint8_t>(take_rounding());
        in.flag[1] = static_cast<uint8_t>((take(".sat") ? 1 : 0) | (take(".relu") ? 4 : 0));
        in.flag[2] = to == Type::BF16x2;
        in.op[1] = source(1, Type::F32);
        in.op[2] = source(2, Type::F32);
        in.op[0] = destination(0, to);
        emit(in);
        return;
    }
    expect_operands(2);
    if (to == Type::F16x2 || to == Type::BF16x2 || from == Type::F16x2 || from == Type::BF16x2 ||
        to == Type::Pred || from == Type::Pred)
        fail("unsupported conversion");
    bool saturate = take(".sat"), ftz = take(".ftz");
    int integer_rounding = take_one({".rni", ".rzi", ".rmi", ".rpi"});
    int rounding = take_one({".rn", ".rz", ".rm", ".rp"});
    bool relu = take(".relu");
    finish();
    auto half = [](Type t) { return t == Type::F16 || t == Type::BF16; };
    const Operand &d = operand(0), &s = operand(1);
    // Registers may be wider than the types, for integers; the width is the register's.
    auto width_of = [&](const Operand& o, Type t) {
        unsigned width = o.kind == Operand::Kind::Register ? register_width(o) : std::max(2u, size_of(t));
        if (width < std::max(2u, size_of(t))) fail("register too small for its type");
        if (is_float(t) && width != size_of(t)) fail("register of the wrong size");
        return width;
    };
    Instr in;
    if (!is_float(to) && !is_float(from)) {
        if (rounding >= 0 || integer_rounding >= 0 || relu) fail("rounding between integers");
        in = start(ops().convert_int(to, from, saturate));
    } else if (is_float(to) && is_float(from)) {
        if (size_of(to) < size_of(from) && rounding < 0 && integer_rounding < 0)
            fail("narrowing conversion without a rounding");
        in = start(plain::convert_float(to, from));
        in.flag[0] = static_cast<uint8_t>(std::max({rounding, integer_rounding, 0}));
        in.flag[1] =
            static_cast<uint8_t>((saturate ? 1 : 0) | (integer_rounding >= 0 ? 2 : 0) | (relu ? 4 : 0));
        if (ftz) in.csr = kCsrDefault | kCsrFtz;
    } else if (half(to) || half(from)) {
        if (relu) fail("unsupported modifier '.relu'");
        if (half(from) ? integer_rounding < 0 : rounding < 0) fail("conversion without a rounding");
        in = start(plain::convert_half_int(to, from));
        in.flag[0] = static_cast<uint8_t>(std::max({rounding, integer_rounding, 0}));
        in.flag[1] = saturate;
        if (ftz) in.csr = kCsrDefault | kCsrFtz;
    } else if (is_float(to)) {
        if (rounding < 0 || relu) fail("conversion to floating point without a rounding");
        in = start(ops().convert_from_int(to, from));
        auto r = static_cast<Rounding>(rounding);
        if (r != Rounding::Nearest) in.csr = csr_of(r);
        if (saturate) fail("unsupported modifier '.sat'");
    } else {
        if (integer_rounding < 0 || relu) fail("conversion to an integer without a rounding");
        in = start(ops().convert_to_int(to, from, static_cast<Rounding>(integer_rounding)));
        if (ftz) in.csr = kCsrDefault | kCsrFtz;
    }
    unsigned from_width = width_of(s, from), to_width = width_of(d, to);
    if (!(half(to) || half(from)) || !(is_float(to) && is_float(from))) {
        in.flag[2] = static_cast<uint8_t>(to_width);
        in.flag[3] = static_cast<uint8_t>(from_width);
    }
    Type as = from_width == 2 ? Type::B16 : from_width == 4 ? Type::B32 : Type::B64;
    if (s.kind == Operand::Kind::Float) as = from;
    in.op[1] = source(s, as);
    in.op[0] = destination(d, to_width);
    emit(in);
}

void Decoder::cvta() {
    bool to = take(".to");
    int which =
        take_one({".const", ".global", ".local", ".shared", ".shared::cta", ".param", ".param::entry"});
    Type t = take_type();
    if (which < 0 || (t != Type::U64 && t != Type::B64)) fail("unsupported cvta");
    finish();
    expect_operands(2);
    Space space = which == 2                 ? Space::Local
                  : which == 3 || which == 4 ? Space::Shared
                  : which >= 5               ? Space::Param
                                             : Space::Global;
    Handler fn = space == Space::Global ? ops().bits(Op::Mov, Type::B64)
                 : to                   ? plain::generic_to_window()
                                        : plain::window_to_generic(space);
    Instr in = start(fn);
    in.op[1] = source(1, Type::U64);
    in.op[0] = destination(0, Type::U64);
    emit(in);
}

void Decoder::isspacep() {
    int which =
        take_one({".const", ".global", ".local", ".shared", ".shared::cta", ".param", ".param::entry"});
    if (which < 0) fail("unsupported state space");
    finish();
    expect_operands(2);
    Space space = which == 0   ? Space::Const
                  : which == 1 ? Space::Global
                  : which == 2 ? Space::Local
                  : which <= 4 ? Space::Shared
                               : Space::Param;
    Instr in = start(plain::isspacep(space));
    in.op[1] = source(1, Type::U64);
    in.op[0] = predicate_destination(operand(0));
    emit(in);
}

}  // namespace softgpu::ptx
