// SPDX-License-Identifier: MIT
// Arithmetic of .f32 and .f64. Rounding modes and .ftz come from the SSE control word the run loop sets, and
// the multiply-adds here are never contracted. Results of .f32 that are NaN become the GPU's one NaN.
#include <cmath>
#include <limits>
#include <type_traits>

#include "lanes.h"

namespace softgpu::ptx::SOFTGPU_LEVEL {

namespace {

template <class T>
SOFTGPU_INLINE T canonical(T v) {
    if constexpr (std::is_same_v<T, float>)
        return v == v ? v : __builtin_bit_cast(float, 0x7fffffffu);
    else
        return v;
}
template <class T>
SOFTGPU_INLINE T saturate(T v) {  // NaN becomes 0
    return v > T(0) ? (v < T(1) ? v : T(1)) : T(0);
}
template <class T>
SOFTGPU_INLINE T flush(T v) {
    return std::fabs(v) < std::numeric_limits<T>::min() ? std::copysign(T(0), v) : v;
}
template <class T>
SOFTGPU_INLINE T fused(T a, T b, T c) {
    if constexpr (std::is_same_v<T, float>)
        return __builtin_fmaf(a, b, c);
    else
        return __builtin_fma(a, b, c);
}

struct Add {
    template <class T>
    T operator()(T a, T b) const {
        return canonical(a + b);
    }
};
struct Sub {
    template <class T>
    T operator()(T a, T b) const {
        return canonical(a - b);
    }
};
struct Mul {
    template <class T>
    T operator()(T a, T b) const {
        return canonical(a * b);
    }
};
struct Div {
    template <class T>
    T operator()(T a, T b) const {
        return canonical(a / b);
    }
};
struct AddSat {
    template <class T>
    T operator()(T a, T b) const {
        return saturate(a + b);
    }
};
struct SubSat {
    template <class T>
    T operator()(T a, T b) const {
        return saturate(a - b);
    }
};
struct MulSat {
    template <class T>
    T operator()(T a, T b) const {
        return saturate(a * b);
    }
};
struct DivSat {
    template <class T>
    T operator()(T a, T b) const {
        return saturate(a / b);
    }
};
struct Fma {
    template <class T>
    T operator()(T a, T b, T c) const {
        return canonical(fused(a, b, c));
    }
};
struct FmaSat {
    template <class T>
    T operator()(T a, T b, T c) const {
        return saturate(fused(a, b, c));
    }
};
struct Rcp {
    template <class T>
    T operator()(T a) const {
        return canonical(T(1) / a);
    }
};
struct Sqrt {
    float operator()(float a) const { return canonical(__builtin_sqrtf(a)); }
    double operator()(double a) const { return __builtin_sqrt(a); }
};
struct Rsqrt {
    float operator()(float a) const { return canonical(float(1.0 / __builtin_sqrt(double(a)))); }
    double operator()(double a) const { return 1.0 / __builtin_sqrt(a); }
};
// The .f64 approximations have 20 bits of mantissa: the lower word is zero.
SOFTGPU_INLINE double upper(double v) {
    return __builtin_bit_cast(double, __builtin_bit_cast(uint64_t, flush(v)) & 0xffffffff00000000u);
}
struct RcpApprox64 {
    double operator()(double a) const { return upper(1.0 / flush(a)); }
};
struct RsqrtApprox64 {
    double operator()(double a) const { return upper(1.0 / __builtin_sqrt(flush(a))); }
};
struct Sin {
    float operator()(float a) const { return canonical(sinf(a)); }
};
struct Cos {
    float operator()(float a) const { return canonical(cosf(a)); }
};
struct Ex2 {
    float operator()(float a) const { return canonical(exp2f(a)); }
};
struct Lg2 {
    float operator()(float a) const { return canonical(log2f(a)); }
};
struct Tanh {
    float operator()(float a) const { return canonical(tanhf(a)); }
};
struct Abs {
    template <class T>
    T operator()(T a) const {
        return std::fabs(a);
    }
};
struct Neg {
    template <class T>
    T operator()(T a) const {
        return -a;
    }
};
struct AbsFtz {
    float operator()(float a) const { return std::fabs(flush(a)); }
};
struct NegFtz {
    float operator()(float a) const { return -flush(a); }
};

// A NaN loses against a number unless .NaN asks otherwise; -0 is less than +0.
template <bool max, bool nan, bool ftz>
struct Extreme {
    template <class T>
    T operator()(T a, T b) const {
        if constexpr (ftz) a = flush(a), b = flush(b);
        T zeros = max ? (std::signbit(a) ? b : a) : (std::signbit(a) ? a : b);
        T r = a == b ? zeros : (max ? a > b : a < b) ? a : b;
        r = b == b ? r : a;
        r = a == a ? r : b;
        if constexpr (nan) r = a == a ? (b == b ? r : b) : a;
        return canonical(r);
    }
};
struct Copysign {
    template <class T>
    T operator()(T a, T b) const {
        return std::copysign(b, a);
    }
};

template <class F>
Handler unary_float(Type t) {
    if (t == Type::F32) return unary<float, float, F>;
    if (t == Type::F64) return unary<double, double, F>;
    return nullptr;
}
template <class F>
Handler binary_float(Type t) {
    if (t == Type::F32) return binary<float, float, float, F>;
    if (t == Type::F64) return binary<double, double, double, F>;
    return nullptr;
}
template <class F>
Handler ternary_float(Type t) {
    if (t == Type::F32) return ternary<float, float, float, float, F>;
    if (t == Type::F64) return ternary<double, double, double, double, F>;
    return nullptr;
}
template <class F>
Handler only_unary_f32(Type t) {
    return t == Type::F32 ? unary<float, float, F> : nullptr;
}
template <class F>
Handler only_binary_f32(Type t) {
    return t == Type::F32 ? binary<float, float, float, F> : nullptr;
}

}  // namespace

Handler floating(Op op, Type t) {
    bool f64 = t == Type::F64;
    switch (op) {
        case Op::Add:
            return binary_float<Add>(t);
        case Op::Sub:
            return binary_float<Sub>(t);
        case Op::Mul:
            return binary_float<Mul>(t);
        case Op::Div:
            return binary_float<Div>(t);
        case Op::AddSat:
            return only_binary_f32<AddSat>(t);
        case Op::SubSat:
            return only_binary_f32<SubSat>(t);
        case Op::MulSat:
            return only_binary_f32<MulSat>(t);
        case Op::DivSat:
            return only_binary_f32<DivSat>(t);
        case Op::Fma:
            return ternary_float<Fma>(t);
        case Op::FmaSat:
            return t == Type::F32 ? ternary<float, float, float, float, FmaSat> : nullptr;
        case Op::Rcp:
            return unary_float<Rcp>(t);
        case Op::Sqrt:
            return unary_float<Sqrt>(t);
        case Op::Rsqrt:
            return unary_float<Rsqrt>(t);
        case Op::RcpApprox64:
            return f64 ? unary<double, double, RcpApprox64> : nullptr;
        case Op::RsqrtApprox64:
            return f64 ? unary<double, double, RsqrtApprox64> : nullptr;
        case Op::Sin:
            return only_unary_f32<Sin>(t);
        case Op::Cos:
            return only_unary_f32<Cos>(t);
        case Op::Ex2:
            return only_unary_f32<Ex2>(t);
        case Op::Lg2:
            return only_unary_f32<Lg2>(t);
        case Op::Tanh:
            return only_unary_f32<Tanh>(t);
        case Op::Abs:
            return unary_float<Abs>(t);
        case Op::Neg:
            return unary_float<Neg>(t);
        case Op::AbsFtz:
            return only_unary_f32<AbsFtz>(t);
        case Op::NegFtz:
            return only_unary_f32<NegFtz>(t);
        case Op::Min:
            return binary_float<Extreme<false, false, false>>(t);
        case Op::Max:
            return binary_float<Extreme<true, false, false>>(t);
        case Op::MinFtz:
            return only_binary_f32<Extreme<false, false, true>>(t);
        case Op::MaxFtz:
            return only_binary_f32<Extreme<true, false, true>>(t);
        case Op::MinNan:
            return only_binary_f32<Extreme<false, true, false>>(t);
        case Op::MaxNan:
            return only_binary_f32<Extreme<true, true, false>>(t);
        case Op::MinNanFtz:
            return only_binary_f32<Extreme<false, true, true>>(t);
        case Op::MaxNanFtz:
            return only_binary_f32<Extreme<true, true, true>>(t);
        case Op::Copysign:
            return binary_float<Copysign>(t);
        default:
            return nullptr;
    }
}

}  // namespace softgpu::ptx::SOFTGPU_LEVEL
