// SPDX-License-Identifier: MIT
// Arithmetic of .f16, .bf16 and their pairs, by way of double. flag: [0] .sat, [1] .relu, [2] .ftz.
#include "half.h"
#include "warp.h"

namespace softgpu::ptx::plain {

namespace {

template <class F>
double flushed(double v) {
    return std::fabs(v) < std::ldexp(1.0, F::kLeast) ? std::copysign(0.0, v) : v;
}

double extreme(double a, double b, bool max, bool nan) {
    if (a != a || b != b) {
        if (nan) return std::numeric_limits<double>::quiet_NaN();
        return a != a ? b : a;
    }
    if (a == b) return max == std::signbit(a) ? b : a;
    return (max ? a > b : a < b) ? a : b;
}

template <Op op>
double compute(double a, double b, double c) {
    switch (op) {
        case Op::Add:
            return a + b;
        case Op::Sub:
            return a - b;
        case Op::Mul:
            return a * b;
        case Op::Fma:
            return fused_odd(a, b, c);
        case Op::Neg:
            return -a;
        case Op::Abs:
            return std::fabs(a);
        case Op::Min:
            return extreme(a, b, false, false);
        case Op::Max:
            return extreme(a, b, true, false);
        case Op::MinNan:
            return extreme(a, b, false, true);
        case Op::MaxNan:
            return extreme(a, b, true, true);
        case Op::Ex2:
            return std::exp2(a);
        case Op::Tanh:
            return std::tanh(a);
        default:
            return a;
    }
}

template <class F, Op op>
uint16_t one(uint16_t a, uint16_t b, uint16_t c, const Instr& in) {
    if constexpr (op == Op::Neg)
        if (!in.flag[2]) return a ^ 0x8000;
    if constexpr (op == Op::Abs)
        if (!in.flag[2]) return a & 0x7fff;
    double x = F::widen(a), y = F::widen(b), z = F::widen(c);
    if (in.flag[2]) x = flushed<F>(x), y = flushed<F>(y), z = flushed<F>(z);
    double r = compute<op>(x, y, z);
    if (in.flag[0]) r = r > 0 ? std::min(r, 1.0) : 0.0;
    if (in.flag[1] && r < 0) r = 0;
    uint16_t bits = F::narrow(r);
    if (in.flag[2] && (bits & 0x7fff) < F::kLeastNormal) bits &= 0x8000;
    return bits;
}

template <class F, Op op, bool pair>
void run(Warp& w, const Instr& in) {
    constexpr unsigned n = pair ? 2 : 1;
    const uint16_t* a = w.reg<uint16_t>(in.op[1]);
    const uint16_t* b = in.op[2] == kNone ? a : w.reg<uint16_t>(in.op[2]);
    const uint16_t* c = in.op[3] == kNone ? a : w.reg<uint16_t>(in.op[3]);
    uint16_t* d = w.reg<uint16_t>(in.op[0]);
    for (uint32_t left = w.mask; left; left &= left - 1) {
        unsigned i = static_cast<unsigned>(std::countr_zero(left)) * n;
        for (unsigned k = 0; k < n; ++k) d[i + k] = one<F, op>(a[i + k], b[i + k], c[i + k], in);
    }
}

template <Op op>
Handler pick(Type t) {
    switch (t) {
        case Type::F16:
            return run<Half, op, false>;
        case Type::F16x2:
            return run<Half, op, true>;
        case Type::BF16:
            return run<Bfloat, op, false>;
        case Type::BF16x2:
            return run<Bfloat, op, true>;
        default:
            return nullptr;
    }
}

template <class F, Compare c>
uint32_t lanes(const void* pa, const void* pb) {
    const auto *a = static_cast<const uint16_t*>(pa), *b = static_cast<const uint16_t*>(pb);
    uint32_t bits = 0;
    for (unsigned i = 0; i < kLanes; ++i) {
        double x = F::widen(a[i]), y = F::widen(b[i]);
        bool ordered = x == x && y == y, r = false;
        switch (c) {
            case Compare::Eq:
                r = x == y;
                break;
            case Compare::Ne:
                r = ordered && x != y;
                break;
            case Compare::Lt:
                r = x < y;
                break;
            case Compare::Le:
                r = x <= y;
                break;
            case Compare::Gt:
                r = x > y;
                break;
            case Compare::Ge:
                r = x >= y;
                break;
            case Compare::Equ:
                r = !ordered || x == y;
                break;
            case Compare::Neu:
                r = x != y;
                break;
            case Compare::Ltu:
                r = !(x >= y);
                break;
            case Compare::Leu:
                r = !(x > y);
                break;
            case Compare::Gtu:
                r = !(x <= y);
                break;
            case Compare::Geu:
                r = !(x < y);
                break;
            case Compare::Num:
                r = ordered;
                break;
            case Compare::Nan:
                r = !ordered;
                break;
        }
        bits |= (r ? 1u : 0u) << i;
    }
    return bits;
}

template <class F>
CompareFn pick_compare(Compare c) {
    switch (c) {
        case Compare::Eq:
            return lanes<F, Compare::Eq>;
        case Compare::Ne:
            return lanes<F, Compare::Ne>;
        case Compare::Lt:
            return lanes<F, Compare::Lt>;
        case Compare::Le:
            return lanes<F, Compare::Le>;
        case Compare::Gt:
            return lanes<F, Compare::Gt>;
        case Compare::Ge:
            return lanes<F, Compare::Ge>;
        case Compare::Equ:
            return lanes<F, Compare::Equ>;
        case Compare::Neu:
            return lanes<F, Compare::Neu>;
        case Compare::Ltu:
            return lanes<F, Compare::Ltu>;
        case Compare::Leu:
            return lanes<F, Compare::Leu>;
        case Compare::Gtu:
            return lanes<F, Compare::Gtu>;
        case Compare::Geu:
            return lanes<F, Compare::Geu>;
        case Compare::Num:
            return lanes<F, Compare::Num>;
        case Compare::Nan:
            return lanes<F, Compare::Nan>;
    }
    return nullptr;
}

}  // namespace

Handler half(Op op, Type t) {
    switch (op) {
        case Op::Add:
            return pick<Op::Add>(t);
        case Op::Sub:
            return pick<Op::Sub>(t);
        case Op::Mul:
            return pick<Op::Mul>(t);
        case Op::Fma:
            return pick<Op::Fma>(t);
        case Op::Neg:
            return pick<Op::Neg>(t);
        case Op::Abs:
            return pick<Op::Abs>(t);
        case Op::Min:
            return pick<Op::Min>(t);
        case Op::Max:
            return pick<Op::Max>(t);
        case Op::MinNan:
            return pick<Op::MinNan>(t);
        case Op::MaxNan:
            return pick<Op::MaxNan>(t);
        case Op::Ex2:
            return pick<Op::Ex2>(t);
        case Op::Tanh:
            return pick<Op::Tanh>(t);
        default:
            return nullptr;
    }
}

CompareFn compare_half(Compare c, Type t) {
    return t == Type::F16 || t == Type::F16x2 ? pick_compare<Half>(c) : pick_compare<Bfloat>(c);
}

}  // namespace softgpu::ptx::plain
