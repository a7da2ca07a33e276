// SPDX-License-Identifier: MIT
// Floating-point arithmetic and comparisons of all types.
#include "decode.h"

namespace softgpu::ptx {

// f16, bf16 and their pairs. Modifiers handled: .rn .ftz .sat .relu; false when t is f32 or f64.
bool Decoder::half_arithmetic(Op op, Type t, size_t sources, bool ftz) {
    if (t == Type::F32 || t == Type::F64) return false;
    Instr in = start(plain::half(op, t));
    take(".rn");
    in.flag[0] = take(".sat");
    in.flag[1] = take(".relu");
    in.flag[2] = ftz || take(".ftz");
    finish();
    expect_operands(1 + sources);
    for (size_t k = 1; k <= sources; ++k) in.op[k] = source(k, t);
    in.op[0] = destination(0, t);
    emit(in);
    return true;
}

void Decoder::float_arithmetic(Op op, Op saturated, Type t, size_t sources) {
    if (half_arithmetic(op, t, sources)) return;
    if (t == Type::F16x2 || t == Type::BF16x2) fail("unsupported type");
    Rounding rounding = take_rounding();
    bool ftz = take(".ftz"), saturate = take(".sat");
    if (t == Type::F64 && (ftz || saturate)) fail("modifier not allowed for .f64");
    finish();
    expect_operands(1 + sources);
    Instr in = start(ops().floating(saturate ? saturated : op, t));
    uint32_t csr = csr_of(rounding) | (ftz ? kCsrFtz : 0);
    in.csr = csr == kCsrDefault ? 0 : csr;
    for (size_t k = 1; k <= sources; ++k) in.op[k] = source(k, t);
    in.op[0] = destination(0, t);
    emit(in);
}

void Decoder::fma() {
    Type t = take_type();
    if (!is_float(t)) fail("unsupported type");
    float_arithmetic(Op::Fma, Op::FmaSat, t, 3);
}

void Decoder::unary_approximate() {
    std::string_view o = statement_->opcode;
    Type t = take_type();
    bool approximate = take(".approx"), ftz = take(".ftz");
    bool fixed = o == "rcp" || o == "sqrt";
    Rounding rounding = fixed ? take_rounding() : Rounding::Nearest;
    if (!approximate && !fixed && t != Type::F16 && t != Type::F16x2 && t != Type::BF16 &&
        t != Type::BF16x2 && !(o == "rsqrt"))
        fail("unsupported without .approx");
    Op op = o == "rcp"     ? Op::Rcp
            : o == "sqrt"  ? Op::Sqrt
            : o == "rsqrt" ? Op::Rsqrt
            : o == "sin"   ? Op::Sin
            : o == "cos"   ? Op::Cos
            : o == "ex2"   ? Op::Ex2
            : o == "lg2"   ? Op::Lg2
                           : Op::Tanh;
    if (t != Type::F32 && t != Type::F64) {
        if (op != Op::Ex2 && op != Op::Tanh) fail("unsupported type");
        half_arithmetic(op, t, 1, ftz);
        return;
    }
    if (t == Type::F64) {
        if (approximate && op == Op::Rcp)
            op = Op::RcpApprox64;
        else if (approximate && op == Op::Rsqrt)
            op = Op::RsqrtApprox64;
        else if (ftz || approximate)
            fail("modifier not allowed for .f64");
        ftz = false;
    }
    finish();
    expect_operands(2);
    Instr in = start(ops().floating(op, t));
    uint32_t csr = csr_of(rounding) | (ftz ? kCsrFtz : 0);
    in.csr = csr == kCsrDefault ? 0 : csr;
    in.op[1] = source(1, t);
    in.op[0] = destination(0, t);
    emit(in);
}

void Decoder::copysign() {
    Type t = take_type();
    simple(ops().floating(Op::Copysign, t), t, {t, t});
}

void Decoder::testp() {
    int what = take_one({".finite", ".infinite", ".number", ".notanumber", ".normal", ".subnormal"});
    if (what < 0) fail("testp without a property");
    Type t = take_type();
    finish();
    expect_operands(2);
    Instr in = start(plain::testp(t));
    in.flag[0] = static_cast<uint8_t>(what);
    in.op[1] = source(1, t);
    in.op[0] = predicate_destination(operand(0));
    emit(in);
}

Compare Decoder::take_compare(Type t) {
    int c = take_one({".eq", ".ne", ".lt", ".le", ".gt", ".ge", ".equ", ".neu", ".ltu", ".leu", ".gtu",
                      ".geu", ".num", ".nan"});
    if (c >= 0) return static_cast<Compare>(c);
    c = take_one({".lo", ".ls", ".hi", ".hs"});
    if (c < 0 || is_float(t)) fail("no comparison");
    constexpr Compare kUnsigned[] = {Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge};
    return kUnsigned[c];
}

bool Decoder::take_bool_op(uint8_t& op) {
    int b = take_one({".and", ".or", ".xor"});
    op = static_cast<uint8_t>(b + 1);
    return b >= 0;
}

// setp.cmp{.bool}{.ftz}.type p|q, a, b {,{!}c}. flag: [0] bool op, [1] c negated, [2] second destination
// present.
void Decoder::setp() {
    Type t = take_type();
    bool pair = t == Type::F16x2 || t == Type::BF16x2;
    Compare c = take_compare(t);
    uint8_t bool_op = 0;
    bool combined = take_bool_op(bool_op), ftz = take(".ftz");
    finish();
    expect_operands(combined ? 4 : 3);
    bool half = pair || t == Type::F16 || t == Type::BF16;
    CompareFn compare = half ? plain::compare_half(c, t) : ops().compare(c, t);
    if (!compare) fail("unsupported type or comparison");
    if (half && ftz) fail("unsupported modifier '.ftz'");
    Instr in = start(pair ? plain::set_pair(true) : plain::setp());
    in.data = reinterpret_cast<const void*>(compare);
    in.op[2] = source(1, t);
    in.op[3] = source(2, t);
    in.flag[0] = bool_op;
    if (combined) {
        bool negated = false;
        in.op[4] = predicate_source(operand(3), negated);
        in.flag[1] = negated;
    }
    if (ftz && t == Type::F32) in.csr = kCsrDefault | kCsrFtz;
    Operand first = operand(0);
    if (!first.parts.empty()) in.op[1] = predicate_destination(first.parts[0]);
    first.parts.clear();
    in.op[0] = predicate_destination(first);
    emit(in);
}

// set.cmp{.bool}{.ftz}.dtype.stype d, a, b {,{!}c}
void Decoder::set() {
    Type result = take_type(), t = take_type();
    bool pair = t == Type::F16x2 || t == Type::BF16x2;
    Compare c = take_compare(t);
    uint8_t bool_op = 0;
    bool combined = take_bool_op(bool_op), ftz = take(".ftz");
    finish();
    expect_operands(combined ? 4 : 3);
    bool half = pair || t == Type::F16 || t == Type::BF16;
    CompareFn compare = half ? plain::compare_half(c, t) : ops().compare(c, t);
    if (!compare) fail("unsupported type or comparison");
    if (half && ftz) fail("unsupported modifier '.ftz'");
    Instr in;
    if (pair) {
        if (result != t && result != Type::U32 && result != Type::S32) fail("unsupported result type");
        in = start(plain::set_pair(false));
        in.flag[3] = result == Type::F16x2 ? 1 : result == Type::BF16x2 ? 2 : 0;
    } else {
        in = start(plain::set(result));
    }
    in.data = reinterpret_cast<const void*>(compare);
    in.op[2] = source(1, t);
    in.op[3] = source(2, t);
    in.flag[0] = bool_op;
    if (combined) {
        bool negated = false;
        in.op[4] = predicate_source(operand(3), negated);
        in.flag[1] = negated;
    }
    if (ftz && t == Type::F32) in.csr = kCsrDefault | kCsrFtz;
    in.op[0] = destination(0, result);
    emit(in);
}

}  // namespace softgpu::ptx
