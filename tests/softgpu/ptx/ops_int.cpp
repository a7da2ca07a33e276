// SPDX-License-Identifier: MIT
// Integer arithmetic, all widths. Arithmetic wraps, so it is done on unsigned types.
#include <type_traits>

#include "lanes.h"

namespace softgpu::ptx::SOFTGPU_LEVEL {

namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;

template <class T>
struct WiderOf;
template <>
struct WiderOf<uint16_t> {
    using type = uint32_t;
};
template <>
struct WiderOf<int16_t> {
    using type = int32_t;
};
template <>
struct WiderOf<uint32_t> {
    using type = uint64_t;
};
template <>
struct WiderOf<int32_t> {
    using type = int64_t;
};
template <>
struct WiderOf<uint64_t> {
    using type = Uint128;
};
template <>
struct WiderOf<int64_t> {
    using type = Int128;
};
template <class T>
using Wider = typename WiderOf<T>::type;

template <class T>
SOFTGPU_INLINE T high(T a, T b) {
    return static_cast<T>((Wider<T>(a) * Wider<T>(b)) >> (8 * sizeof(T)));
}
// Products of 16-bit types must not be computed as int, which could overflow.
template <class T>
SOFTGPU_INLINE T low(T a, T b) {
    return static_cast<T>(uint64_t(a) * uint64_t(b));
}
SOFTGPU_INLINE int32_t clamp32(int64_t v) {
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : static_cast<int32_t>(v);
}
template <class T>
SOFTGPU_INLINE int64_t product24(T a, T b) {
    if constexpr (std::is_signed_v<T>)
        return int64_t(a << 8 >> 8) * int64_t(b << 8 >> 8);
    else
        return int64_t(uint64_t(a & 0xffffff) * uint64_t(b & 0xffffff));
}

struct Add {
    template <class T>
    T operator()(T a, T b) const {
        return T(Unsigned<T>(a) + Unsigned<T>(b));
    }
};
struct Sub {
    template <class T>
    T operator()(T a, T b) const {
        return T(Unsigned<T>(a) - Unsigned<T>(b));
    }
};
struct AddSat {
    int32_t operator()(int32_t a, int32_t b) const { return clamp32(int64_t(a) + b); }
};
struct SubSat {
    int32_t operator()(int32_t a, int32_t b) const { return clamp32(int64_t(a) - b); }
};
struct MulLo {
    template <class T>
    T operator()(T a, T b) const {
        return low(a, b);
    }
};
struct MulHi {
    template <class T>
    T operator()(T a, T b) const {
        return high(a, b);
    }
};
struct MulWide {
    template <class T>
    Wider<T> operator()(T a, T b) const {
        return Wider<T>(a) * Wider<T>(b);
    }
};
struct MadLo {
    template <class T>
    T operator()(T a, T b, T c) const {
        return T(Unsigned<T>(low(a, b)) + Unsigned<T>(c));
    }
};
struct MadHi {
    template <class T>
    T operator()(T a, T b, T c) const {
        return T(Unsigned<T>(high(a, b)) + Unsigned<T>(c));
    }
};
struct MadHiSat {
    int32_t operator()(int32_t a, int32_t b, int32_t c) const { return clamp32(int64_t(high(a, b)) + c); }
};
struct MadWide {
    template <class T, class W>
    W operator()(T a, T b, W c) const {
        return W(std::make_unsigned_t<W>(W(a) * W(b)) + std::make_unsigned_t<W>(c));
    }
};
struct Mul24Lo {
    template <class T>
    T operator()(T a, T b) const {
        return T(product24(a, b));
    }
};
struct Mul24Hi {
    template <class T>
    T operator()(T a, T b) const {
        return T(product24(a, b) >> 16);
    }
};
struct Mad24Lo {
    template <class T>
    T operator()(T a, T b, T c) const {
        return T(uint64_t(product24(a, b)) + uint64_t(c));
    }
};
struct Mad24Hi {
    template <class T>
    T operator()(T a, T b, T c) const {
        return T(uint32_t(product24(a, b) >> 16) + uint32_t(c));
    }
};
struct Mad24HiSat {
    int32_t operator()(int32_t a, int32_t b, int32_t c) const {
        return clamp32(int64_t(int32_t(product24(a, b) >> 16)) + c);
    }
};
struct Sad {
    template <class T>
    T operator()(T a, T b, T c) const {
        return T(Unsigned<T>(c) +
                 (a < b ? Unsigned<T>(b) - Unsigned<T>(a) : Unsigned<T>(a) - Unsigned<T>(b)));
    }
};
// Division by zero gives all ones, as the hardware's sequences do; the most negative number by -1 wraps.
struct Div {
    template <class T>
    T operator()(T a, T b) const {
        if (b == 0) return T(-1);
        if constexpr (std::is_signed_v<T>)
            if (b == T(-1)) return T(Unsigned<T>(0) - Unsigned<T>(a));
        return T(a / b);
    }
};
struct Rem {
    template <class T>
    T operator()(T a, T b) const {
        if (b == 0) return a;
        if constexpr (std::is_signed_v<T>)
            if (b == T(-1)) return 0;
        return T(a % b);
    }
};
struct Abs {
    template <class T>
    T operator()(T a) const {
        return a < 0 ? T(Unsigned<T>(0) - Unsigned<T>(a)) : a;
    }
};
struct Neg {
    template <class T>
    T operator()(T a) const {
        return T(Unsigned<T>(0) - Unsigned<T>(a));
    }
};
struct Min {
    template <class T>
    T operator()(T a, T b) const {
        return a < b ? a : b;
    }
};
struct Max {
    template <class T>
    T operator()(T a, T b) const {
        return a > b ? a : b;
    }
};

// Sums with the condition code: carry in, carry out, borrow. Scalar; they are rare.
enum { kIn = 1, kOut = 2, kSubtract = 4, kMultiply = 8, kHigh = 16 };

template <class T, int how>
void carried(Warp& w, const Instr& in) {
    const T* a = w.reg<T>(in.op[1]);
    const T* b = w.reg<T>(in.op[2]);
    const T* c = how & kMultiply ? w.reg<T>(in.op[3]) : nullptr;
    T* d = w.reg<T>(in.op[0]);
    for (uint32_t left = w.mask; left; left &= left - 1) {
        unsigned i = static_cast<unsigned>(std::countr_zero(left));
        uint32_t bit = 1u << i;
        T x = a[i], y = b[i];
        if constexpr (how & kMultiply) {
            x = how & kHigh ? high(x, y) : low(x, y);
            y = c[i];
        }
        T carry = how & kIn && w.carry & bit ? 1 : 0, result;
        bool out;
        if constexpr (how & kSubtract) {
            T partial;
            out = __builtin_sub_overflow(x, y, &partial);
            out |= __builtin_sub_overflow(partial, carry, &result);
        } else {
            T partial;
            out = __builtin_add_overflow(x, y, &partial);
            out |= __builtin_add_overflow(partial, carry, &result);
        }
        d[i] = result;
        if constexpr (how & kOut) w.carry = out ? w.carry | bit : w.carry & ~bit;
    }
}

template <int how>
Handler pick_carried(Type t) {
    switch (t) {
        case Type::U32:
        case Type::S32:
            return carried<uint32_t, how>;
        case Type::U64:
        case Type::S64:
            return carried<uint64_t, how>;
        default:
            return nullptr;
    }
}

// The high product is signed or not; the sums are not.
template <class T, int how>
void carried_high_signed(Warp& w, const Instr& in) {
    using S = std::make_signed_t<T>;
    const S* a = w.reg<S>(in.op[1]);
    const S* b = w.reg<S>(in.op[2]);
    const T* c = w.reg<T>(in.op[3]);
    T* d = w.reg<T>(in.op[0]);
    for (uint32_t left = w.mask; left; left &= left - 1) {
        unsigned i = static_cast<unsigned>(std::countr_zero(left));
        uint32_t bit = 1u << i;
        T carry = how & kIn && w.carry & bit ? 1 : 0, partial, result;
        bool out = __builtin_add_overflow(static_cast<T>(high(a[i], b[i])), c[i], &partial);
        out |= __builtin_add_overflow(partial, carry, &result);
        d[i] = result;
        if constexpr (how & kOut) w.carry = out ? w.carry | bit : w.carry & ~bit;
    }
}

template <int how>
Handler pick_carried_high(Type t) {
    if (t == Type::S32) return carried_high_signed<uint32_t, how>;
    if (t == Type::S64) return carried_high_signed<uint64_t, how>;
    return pick_carried<how | kMultiply | kHigh>(t);
}

template <class F>
Handler pick_unary(Type t) {
    switch (t) {
        case Type::U16:
            return unary<uint16_t, uint16_t, F>;
        case Type::S16:
            return unary<int16_t, int16_t, F>;
        case Type::U32:
            return unary<uint32_t, uint32_t, F>;
        case Type::S32:
            return unary<int32_t, int32_t, F>;
        case Type::U64:
            return unary<uint64_t, uint64_t, F>;
        case Type::S64:
            return unary<int64_t, int64_t, F>;
        default:
            return nullptr;
    }
}
template <class F>
Handler pick_binary(Type t) {
    switch (t) {
        case Type::U16:
            return binary<uint16_t, uint16_t, uint16_t, F>;
        case Type::S16:
            return binary<int16_t, int16_t, int16_t, F>;
        case Type::U32:
            return binary<uint32_t, uint32_t, uint32_t, F>;
        case Type::S32:
            return binary<int32_t, int32_t, int32_t, F>;
        case Type::U64:
            return binary<uint64_t, uint64_t, uint64_t, F>;
        case Type::S64:
            return binary<int64_t, int64_t, int64_t, F>;
        default:
            return nullptr;
    }
}
template <class F>
Handler pick_ternary(Type t) {
    switch (t) {
        case Type::U16:
            return ternary<uint16_t, uint16_t, uint16_t, uint16_t, F>;
        case Type::S16:
            return ternary<int16_t, int16_t, int16_t, int16_t, F>;
        case Type::U32:
            return ternary<uint32_t, uint32_t, uint32_t, uint32_t, F>;
        case Type::S32:
            return ternary<int32_t, int32_t, int32_t, int32_t, F>;
        case Type::U64:
            return ternary<uint64_t, uint64_t, uint64_t, uint64_t, F>;
        case Type::S64:
            return ternary<int64_t, int64_t, int64_t, int64_t, F>;
        default:
            return nullptr;
    }
}
template <class F>
Handler pick_32(Type t) {
    if (t == Type::U32) return binary<uint32_t, uint32_t, uint32_t, F>;
    if (t == Type::S32) return binary<int32_t, int32_t, int32_t, F>;
    return nullptr;
}
template <class F>
Handler pick_32x3(Type t) {
    if (t == Type::U32) return ternary<uint32_t, uint32_t, uint32_t, uint32_t, F>;
    if (t == Type::S32) return ternary<int32_t, int32_t, int32_t, int32_t, F>;
    return nullptr;
}

Handler wide(Op op, Type t) {
    bool mad = op == Op::MadWide;
    switch (t) {
        case Type::U16:
            return mad ? ternary<uint32_t, uint16_t, uint16_t, uint32_t, MadWide>
                       : binary<uint32_t, uint16_t, uint16_t, MulWide>;
        case Type::S16:
            return mad ? ternary<int32_t, int16_t, int16_t, int32_t, MadWide>
                       : binary<int32_t, int16_t, int16_t, MulWide>;
        case Type::U32:
            return mad ? ternary<uint64_t, uint32_t, uint32_t, uint64_t, MadWide>
                       : binary<uint64_t, uint32_t, uint32_t, MulWide>;
        case Type::S32:
            return mad ? ternary<int64_t, int32_t, int32_t, int64_t, MadWide>
                       : binary<int64_t, int32_t, int32_t, MulWide>;
        default:
            return nullptr;
    }
}

}  // namespace

Handler integer(Op op, Type t) {
    bool s32 = t == Type::S32;
    switch (op) {
        case Op::Add:
            return pick_binary<Add>(t);
        case Op::Sub:
            return pick_binary<Sub>(t);
        case Op::AddSat:
            return s32 ? binary<int32_t, int32_t, int32_t, AddSat> : nullptr;
        case Op::SubSat:
            return s32 ? binary<int32_t, int32_t, int32_t, SubSat> : nullptr;
        case Op::MulLo:
            return pick_binary<MulLo>(t);
        case Op::MulHi:
            return pick_binary<MulHi>(t);
        case Op::MulWide:
        case Op::MadWide:
            return wide(op, t);
        case Op::MadLo:
            return pick_ternary<MadLo>(t);
        case Op::MadHi:
            return pick_ternary<MadHi>(t);
        case Op::MadHiSat:
            return s32 ? ternary<int32_t, int32_t, int32_t, int32_t, MadHiSat> : nullptr;
        case Op::Mul24Lo:
            return pick_32<Mul24Lo>(t);
        case Op::Mul24Hi:
            return pick_32<Mul24Hi>(t);
        case Op::Mad24Lo:
            return pick_32x3<Mad24Lo>(t);
        case Op::Mad24Hi:
            return pick_32x3<Mad24Hi>(t);
        case Op::Mad24HiSat:
            return s32 ? ternary<int32_t, int32_t, int32_t, int32_t, Mad24HiSat> : nullptr;
        case Op::Sad:
            return pick_ternary<Sad>(t);
        case Op::Div:
            return pick_binary<Div>(t);
        case Op::Rem:
            return pick_binary<Rem>(t);
        case Op::Abs:
            return is_signed(t) ? pick_unary<Abs>(t) : nullptr;
        case Op::Neg:
            return is_signed(t) ? pick_unary<Neg>(t) : nullptr;
        case Op::Min:
            return pick_binary<Min>(t);
        case Op::Max:
            return pick_binary<Max>(t);
        case Op::AddCc:
            return pick_carried<kOut>(t);
        case Op::AddC:
            return pick_carried<kIn>(t);
        case Op::AddCCc:
            return pick_carried<kIn | kOut>(t);
        case Op::SubCc:
            return pick_carried<kSubtract | kOut>(t);
        case Op::SubC:
            return pick_carried<kSubtract | kIn>(t);
        case Op::SubCCc:
            return pick_carried<kSubtract | kIn | kOut>(t);
        case Op::MadLoCc:
            return pick_carried<kMultiply | kOut>(t);
        case Op::MadLoC:
            return pick_carried<kMultiply | kIn>(t);
        case Op::MadLoCCc:
            return pick_carried<kMultiply | kIn | kOut>(t);
        case Op::MadHiCc:
            return pick_carried_high<kOut>(t);
        case Op::MadHiC:
            return pick_carried_high<kIn>(t);
        case Op::MadHiCCc:
            return pick_carried_high<kIn | kOut>(t);
        default:
            return nullptr;
    }
}

}  // namespace softgpu::ptx::SOFTGPU_LEVEL
