// SPDX-License-Identifier: MIT
// Integer and bit instructions; those shared with floating point hand over by type.
#include "decode.h"

namespace softgpu::ptx {

void Decoder::add_sub() {
    bool sub = statement_->opcode == "sub";
    Type t = take_type();
    if (is_float(t)) {
        float_arithmetic(sub ? Op::Sub : Op::Add, sub ? Op::SubSat : Op::AddSat, t, 2);
        return;
    }
    Op op = sub ? Op::Sub : Op::Add;
    if (take(".sat"))
        op = sub ? Op::SubSat : Op::AddSat;
    else if (take(".cc"))
        op = sub ? Op::SubCc : Op::AddCc;
    simple(ops().integer(op, t), t, {t, t});
}

void Decoder::add_sub_carry() {
    bool sub = statement_->opcode == "subc", out = take(".cc");
    Type t = take_type();
    Op op = sub ? (out ? Op::SubCCc : Op::SubC) : (out ? Op::AddCCc : Op::AddC);
    simple(ops().integer(op, t), t, {t, t});
}

namespace {

Type wider(Type t) {
    switch (t) {
        case Type::U16:
            return Type::U32;
        case Type::S16:
            return Type::S32;
        case Type::U32:
            return Type::U64;
        case Type::S32:
            return Type::S64;
        default:
            return Type::None;
    }
}

}  // namespace

void Decoder::mul() {
    Type t = take_type();
    if (is_float(t)) {
        float_arithmetic(Op::Mul, Op::MulSat, t, 2);
        return;
    }
    int part = take_one({".lo", ".hi", ".wide"});
    if (part < 0) fail("integer multiplication without .lo, .hi or .wide");
    if (part == 2) {
        simple(ops().integer(Op::MulWide, t), wider(t), {t, t});
        return;
    }
    simple(ops().integer(part == 0 ? Op::MulLo : Op::MulHi, t), t, {t, t});
}

void Decoder::mad() {
    Type t = take_type();
    if (is_float(t)) {
        float_arithmetic(Op::Fma, Op::FmaSat, t, 3);
        return;
    }
    int part = take_one({".lo", ".hi", ".wide"});
    if (part < 0) fail("integer multiplication without .lo, .hi or .wide");
    if (part == 2) {
        simple(ops().integer(Op::MadWide, t), wider(t), {t, t, wider(t)});
        return;
    }
    Op op = part == 0 ? Op::MadLo : Op::MadHi;
    if (take(".cc"))
        op = part == 0 ? Op::MadLoCc : Op::MadHiCc;
    else if (part == 1 && take(".sat"))
        op = Op::MadHiSat;
    simple(ops().integer(op, t), t, {t, t, t});
}

void Decoder::mad_carry() {
    Type t = take_type();
    int part = take_one({".lo", ".hi"});
    if (part < 0) fail("integer multiplication without .lo or .hi");
    bool out = take(".cc");
    Op op = part == 0 ? (out ? Op::MadLoCCc : Op::MadLoC) : (out ? Op::MadHiCCc : Op::MadHiC);
    simple(ops().integer(op, t), t, {t, t, t});
}

void Decoder::mul24() {
    Type t = take_type();
    int part = take_one({".lo", ".hi"});
    if (part < 0) fail("mul24 without .lo or .hi");
    simple(ops().integer(part ? Op::Mul24Hi : Op::Mul24Lo, t), t, {t, t});
}

void Decoder::mad24() {
    Type t = take_type();
    int part = take_one({".lo", ".hi"});
    if (part < 0) fail("mad24 without .lo or .hi");
    bool saturate = part == 1 && take(".sat");
    Op op = saturate ? Op::Mad24HiSat : part ? Op::Mad24Hi : Op::Mad24Lo;
    simple(ops().integer(op, t), t, {t, t, t});
}

void Decoder::integer_binary() {
    Type t = take_type();
    simple(ops().integer(Op::Rem, t), t, {t, t});
}

void Decoder::integer_or_float_unary() {
    bool neg = statement_->opcode == "neg";
    Type t = take_type();
    if (!is_float(t)) {
        simple(ops().integer(neg ? Op::Neg : Op::Abs, t), t, {t});
        return;
    }
    bool ftz = take(".ftz");
    if (half_arithmetic(neg ? Op::Neg : Op::Abs, t, 1, ftz)) return;
    Op op = neg ? (ftz ? Op::NegFtz : Op::Neg) : (ftz ? Op::AbsFtz : Op::Abs);
    simple(ops().floating(op, t), t, {t});
}

void Decoder::min_max() {
    bool max = statement_->opcode == "max";
    Type t = take_type();
    if (!is_float(t)) {
        simple(ops().integer(max ? Op::Max : Op::Min, t), t, {t, t});
        return;
    }
    bool nan = take(".NaN"), ftz = take(".ftz");
    if (half_arithmetic(max ? (nan ? Op::MaxNan : Op::Max) : (nan ? Op::MinNan : Op::Min), t, 2, ftz)) return;
    Op op = max ? (nan ? (ftz ? Op::MaxNanFtz : Op::MaxNan) : (ftz ? Op::MaxFtz : Op::Max))
                : (nan ? (ftz ? Op::MinNanFtz : Op::MinNan) : (ftz ? Op::MinFtz : Op::Min));
    simple(ops().floating(op, t), t, {t, t});
}

void Decoder::sad() {
    Type t = take_type();
    simple(ops().integer(Op::Sad, t), t, {t, t, t});
}

void Decoder::div() {
    Type t = take_type();
    if (!is_float(t)) {
        simple(ops().integer(Op::Div, t), t, {t, t});
        return;
    }
    if (t == Type::F32) take_any({".approx", ".full"});
    float_arithmetic(Op::Div, Op::DivSat, t, 2);
}

void Decoder::logic() {
    std::string_view o = statement_->opcode;
    Op op = o == "and" ? Op::And : o == "or" ? Op::Or : Op::Xor;
    Type t = take_type();
    if (t != Type::Pred) {
        if (!is_bits(t) || t == Type::B8) fail("unsupported type");
        simple(ops().bits(op, t), t, {t, t});
        return;
    }
    expect_operands(3);
    Instr in = start(plain::predicate(op));
    bool negate_a = false, negate_b = false;
    in.op[1] = predicate_source(operand(1), negate_a);
    in.op[2] = predicate_source(operand(2), negate_b);
    in.flag[0] = negate_a;
    in.flag[1] = negate_b;
    in.op[0] = predicate_destination(operand(0));
    emit(in);
}

void Decoder::not_() {
    bool cnot = statement_->opcode == "cnot";
    Type t = take_type();
    if (t != Type::Pred || cnot) {
        if (!is_bits(t) || t == Type::B8) fail("unsupported type");
        simple(ops().bits(cnot ? Op::Cnot : Op::Not, t), t, {t});
        return;
    }
    expect_operands(2);
    Instr in = start(plain::predicate(Op::Mov));
    bool negated = false;
    in.op[1] = predicate_source(operand(1), negated);
    in.flag[0] = !negated;
    in.op[0] = predicate_destination(operand(0));
    emit(in);
}

void Decoder::shift() {
    bool left = statement_->opcode == "shl";
    Type t = take_type();
    if (is_float(t) || (left && !is_bits(t))) fail("unsupported type");
    simple(ops().bits(left ? Op::Shl : Op::Shr, t), t, {t, Type::U32});
}

void Decoder::shf() {
    int direction = take_one({".l", ".r"}), mode = take_one({".clamp", ".wrap"});
    Type t = take_type();
    if (direction < 0 || mode < 0 || t != Type::B32) fail("unsupported funnel shift");
    Op op = direction == 0 ? (mode ? Op::ShfLeftWrap : Op::ShfLeftClamp)
                           : (mode ? Op::ShfRightWrap : Op::ShfRightClamp);
    simple(ops().bits(op, t), t, {t, t, Type::U32});
}

void Decoder::lop3() {
    if (take_type() != Type::B32) fail("unsupported type");
    finish();
    expect_operands(5);
    if (operand(4).kind != Operand::Kind::Integer || operand(4).value > 255)
        fail("lop3 needs a constant table");
    Instr in = start(ops().bits(Op::Lop3, Type::B32));
    for (size_t k = 1; k <= 3; ++k) in.op[k] = source(k, Type::B32);
    in.imm = static_cast<int64_t>(operand(4).value);
    in.op[0] = destination(0, Type::B32);
    emit(in);
}

void Decoder::bfe() {
    Type t = take_type();
    simple(ops().bits(Op::Bfe, t), t, {t, Type::U32, Type::U32});
}

void Decoder::bfi() {
    Type t = take_type();
    if (!is_bits(t)) fail("unsupported type");
    simple(ops().bits(Op::Bfi, t), t, {t, t, Type::U32, Type::U32});
}

void Decoder::count() {
    std::string_view o = statement_->opcode;
    Type t = take_type();
    if (!is_bits(t)) fail("unsupported type");
    if (o == "brev")
        simple(ops().bits(Op::Brev, t), t, {t});
    else
        simple(ops().bits(o == "popc" ? Op::Popc : Op::Clz, t), Type::U32, {t});
}

void Decoder::bfind() {
    bool shift_amount = take(".shiftamt");
    Type t = take_type();
    simple(ops().bits(shift_amount ? Op::BfindShift : Op::Bfind, t), Type::U32, {t});
}

void Decoder::fns() {
    if (take_type() != Type::B32) fail("unsupported type");
    simple(ops().bits(Op::Fns, Type::B32), Type::B32, {Type::B32, Type::U32, Type::S32});
}

void Decoder::prmt() {
    if (take_type() != Type::B32) fail("unsupported type");
    int mode = take_one({".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"});
    finish();
    expect_operands(4);
    Instr in = start(ops().bits(Op::Prmt, Type::B32));
    for (size_t k = 1; k <= 3; ++k) in.op[k] = source(k, Type::B32);
    in.flag[0] = static_cast<uint8_t>(mode + 1);
    in.op[0] = destination(0, Type::B32);
    emit(in);
}

void Decoder::szext() {
    int mode = take_one({".clamp", ".wrap"});
    Type t = take_type();
    if (mode < 0) fail("szext without .clamp or .wrap");
    simple(ops().bits(mode ? Op::SzextWrap : Op::SzextClamp, t), t, {t, Type::U32});
}

void Decoder::bmsk() {
    int mode = take_one({".clamp", ".wrap"});
    if (mode < 0 || take_type() != Type::B32) fail("unsupported bmsk");
    simple(ops().bits(mode ? Op::BmskWrap : Op::BmskClamp, Type::B32), Type::B32, {Type::U32, Type::U32});
}

void Decoder::dot_product() {
    bool two = statement_->opcode == "dp2a";
    int half = two ? take_one({".lo", ".hi"}) : 0;
    Type a = take_type(), b = take_type();
    auto word = [](Type t) { return t == Type::U32 || t == Type::S32; };
    if (half < 0 || !word(a) || !word(b)) fail("unsupported type");
    finish();
    expect_operands(4);
    Instr in = start(ops().bits(two ? Op::Dp2aLo : Op::Dp4a, a));
    for (size_t k = 1; k <= 3; ++k) in.op[k] = source(k, Type::B32);
    in.flag[0] = a == Type::S32;
    in.flag[1] = b == Type::S32;
    in.flag[2] = static_cast<uint8_t>(half);
    in.op[0] = destination(0, Type::B32);
    emit(in);
}

}  // namespace softgpu::ptx
