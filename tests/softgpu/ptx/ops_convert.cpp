// SPDX-License-Identifier: MIT
// cvt between integers, and between integers and .f32/.f64. A source register may be wider than its type (the
// low bits count), a destination register wider too (the value is extended by the destination type's
// signedness): op[0] is the destination, flag[2] its register width, flag[3] the source's.
#include <cmath>
#include <limits>
#include <type_traits>

#include "lanes.h"

namespace softgpu::ptx::SOFTGPU_LEVEL {

namespace {

using Wide = int64_t[kLanes];

// The lanes of an integer register as its type says, extended to 64 bits.
template <class S, class R>
void read_from(const Warp& w, uint32_t operand, Wide& out) {
    const R* a = w.reg<R>(operand);
    for (unsigned i = 0; i < kLanes; ++i) out[i] = static_cast<int64_t>(static_cast<S>(a[i]));
}
template <class S>
SOFTGPU_INLINE void read(const Warp& w, uint32_t operand, unsigned width, Wide& out) {
    switch (width) {
        case 2:
            read_from<S, uint16_t>(w, operand, out);
            return;
        case 4:
            read_from<S, uint32_t>(w, operand, out);
            return;
        default:
            read_from<S, uint64_t>(w, operand, out);
            return;
    }
}
// Values of type D into a register, extended as D's signedness says.
template <class D, class R>
void write_to(const Warp& w, uint32_t operand, const Wide& in) {
    each(w, w.reg<R>(operand), [&](unsigned i) { return static_cast<R>(static_cast<D>(in[i])); });
}
template <class D>
SOFTGPU_INLINE void write(const Warp& w, uint32_t operand, unsigned width, const Wide& in) {
    switch (width) {
        case 2:
            write_to<D, uint16_t>(w, operand, in);
            return;
        case 4:
            write_to<D, uint32_t>(w, operand, in);
            return;
        default:
            write_to<D, uint64_t>(w, operand, in);
            return;
    }
}

struct Cast {
    template <class T>
    struct To {
        template <class S>
        T operator()(S v) const {
            return static_cast<T>(v);
        }
    };
};

template <class D, class S>
void cut(Warp& w, const Instr& in) {
    if (in.flag[2] == sizeof(D) && in.flag[3] == sizeof(S)) {
        unary<D, S, Cast::To<D>>(w, in);
        return;
    }
    alignas(64) Wide t;
    read<S>(w, in.op[1], in.flag[3], t);
    write<D>(w, in.op[0], in.flag[2], t);
}

template <class D, class S>
void clamp(Warp& w, const Instr& in) {
    alignas(64) Wide t;
    read<S>(w, in.op[1], in.flag[3], t);
    constexpr Int128 low = std::numeric_limits<D>::min(), high = std::numeric_limits<D>::max();
    for (int64_t& v : t) {
        Int128 x = static_cast<S>(v);
        v = static_cast<int64_t>(x < low ? low : x > high ? high : x);
    }
    write<D>(w, in.op[0], in.flag[2], t);
}

template <class D, class S>
void from_int(Warp& w, const Instr& in) {
    if (in.flag[3] == sizeof(S)) {
        unary<D, S, Cast::To<D>>(w, in);
        return;
    }
    alignas(64) Wide t;
    read<S>(w, in.op[1], in.flag[3], t);
    each(w, w.reg<D>(in.op[0]), [&](unsigned i) { return static_cast<D>(static_cast<S>(t[i])); });
}

template <Rounding r, class T>
SOFTGPU_INLINE T rounded(T v) {
    switch (r) {
        case Rounding::Nearest:
            return __builtin_nearbyint(v);
        case Rounding::Zero:
            return __builtin_trunc(v);
        case Rounding::Down:
            return __builtin_floor(v);
        case Rounding::Up:
            return __builtin_ceil(v);
    }
    return v;
}

// Out of range saturates; NaN is 0, but the smallest value's pattern for 64-bit types and .f64 sources.
template <class D, class S, Rounding r>
SOFTGPU_INLINE D to_integer(S v) {
    constexpr bool nan_high = sizeof(D) == 8 || std::is_same_v<S, double>;
    constexpr D nan = nan_high ? static_cast<D>(D(1) << (8 * sizeof(D) - 1)) : D(0);
    if (v != v) return nan;
    S x = rounded<r>(v);
    constexpr S low = static_cast<S>(std::numeric_limits<D>::min());
    constexpr S high =
        static_cast<S>(std::numeric_limits<D>::max() / 2 + 1) * 2;  // the first value too large
    if (x < low) return std::numeric_limits<D>::min();
    if (x >= high) return std::numeric_limits<D>::max();
    return static_cast<D>(x);
}

template <class D, class S, Rounding r>
void to_int(Warp& w, const Instr& in) {
    const S* a = w.reg<S>(in.op[1]);
    if (in.flag[2] == sizeof(D)) {
        each(w, w.reg<D>(in.op[0]), [=](unsigned i) { return to_integer<D, S, r>(a[i]); });
        return;
    }
    alignas(64) Wide t;
    for (unsigned i = 0; i < kLanes; ++i) t[i] = static_cast<int64_t>(to_integer<D, S, r>(a[i]));
    write<D>(w, in.op[0], in.flag[2], t);
}

template <class D>
Handler int_to(Type from, bool saturate) {
    switch (from) {
        case Type::U8:
        case Type::B8:
            return saturate ? clamp<D, uint8_t> : cut<D, uint8_t>;
        case Type::S8:
            return saturate ? clamp<D, int8_t> : cut<D, int8_t>;
        case Type::U16:
        case Type::B16:
            return saturate ? clamp<D, uint16_t> : cut<D, uint16_t>;
        case Type::S16:
            return saturate ? clamp<D, int16_t> : cut<D, int16_t>;
        case Type::U32:
        case Type::B32:
            return saturate ? clamp<D, uint32_t> : cut<D, uint32_t>;
        case Type::S32:
            return saturate ? clamp<D, int32_t> : cut<D, int32_t>;
        case Type::U64:
        case Type::B64:
            return saturate ? clamp<D, uint64_t> : cut<D, uint64_t>;
        case Type::S64:
            return saturate ? clamp<D, int64_t> : cut<D, int64_t>;
        default:
            return nullptr;
    }
}
template <class D>
Handler float_of(Type from) {
    switch (from) {
        case Type::U8:
            return from_int<D, uint8_t>;
        case Type::S8:
            return from_int<D, int8_t>;
        case Type::U16:
            return from_int<D, uint16_t>;
        case Type::S16:
            return from_int<D, int16_t>;
        case Type::U32:
            return from_int<D, uint32_t>;
        case Type::S32:
            return from_int<D, int32_t>;
        case Type::U64:
            return from_int<D, uint64_t>;
        case Type::S64:
            return from_int<D, int64_t>;
        default:
            return nullptr;
    }
}
template <class D, class S>
Handler int_of(Rounding r) {
    switch (r) {
        case Rounding::Nearest:
            return to_int<D, S, Rounding::Nearest>;
        case Rounding::Zero:
            return to_int<D, S, Rounding::Zero>;
        case Rounding::Down:
            return to_int<D, S, Rounding::Down>;
        case Rounding::Up:
            return to_int<D, S, Rounding::Up>;
    }
    return nullptr;
}
template <class S>
Handler int_from(Type to, Rounding r) {
    switch (to) {
        case Type::U8:
            return int_of<uint8_t, S>(r);
        case Type::S8:
            return int_of<int8_t, S>(r);
        case Type::U16:
            return int_of<uint16_t, S>(r);
        case Type::S16:
            return int_of<int16_t, S>(r);
        case Type::U32:
            return int_of<uint32_t, S>(r);
        case Type::S32:
            return int_of<int32_t, S>(r);
        case Type::U64:
            return int_of<uint64_t, S>(r);
        case Type::S64:
            return int_of<int64_t, S>(r);
        default:
            return nullptr;
    }
}

}  // namespace

Handler convert_int(Type to, Type from, bool saturate) {
    switch (to) {
        case Type::U8:
        case Type::B8:
            return int_to<uint8_t>(from, saturate);
        case Type::S8:
            return int_to<int8_t>(from, saturate);
        case Type::U16:
        case Type::B16:
            return int_to<uint16_t>(from, saturate);
        case Type::S16:
            return int_to<int16_t>(from, saturate);
        case Type::U32:
        case Type::B32:
            return int_to<uint32_t>(from, saturate);
        case Type::S32:
            return int_to<int32_t>(from, saturate);
        case Type::U64:
        case Type::B64:
            return int_to<uint64_t>(from, saturate);
        case Type::S64:
            return int_to<int64_t>(from, saturate);
        default:
            return nullptr;
    }
}

Handler convert_from_int(Type to, Type from) {
    if (to == Type::F32) return float_of<float>(from);
    if (to == Type::F64) return float_of<double>(from);
    return nullptr;
}

Handler convert_to_int(Type to, Type from, Rounding r) {
    if (from == Type::F32) return int_from<float>(to, r);
    if (from == Type::F64) return int_from<double>(to, r);
    return nullptr;
}

}  // namespace softgpu::ptx::SOFTGPU_LEVEL
