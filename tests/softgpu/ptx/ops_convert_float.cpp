// SPDX-License-Identifier: MIT
// cvt between floating-point types, and between 16-bit floating point and integers. flag: [0] Rounding,
// [1] bit 0 .sat, bit 1 round to an integral value, bit 2 .relu; for integers [2] and [3] are the register
// widths of destination and source.
#include "half.h"
#include "warp.h"

namespace softgpu::ptx::plain {

namespace {

double integral(double v, Rounding r) {
    switch (r) {
        case Rounding::Nearest:
            return std::nearbyint(v);
        case Rounding::Zero:
            return std::trunc(v);
        case Rounding::Down:
            return std::floor(v);
        case Rounding::Up:
            return std::ceil(v);
    }
    return v;
}

float to_float(double v, Rounding r) {
    auto f = static_cast<float>(v);
    if (v != v) return std::bit_cast<float>(0x7fffffffu);
    double back = f;
    if (r == Rounding::Nearest || back == v) return f;
    bool above = back > v;  // the nearest float is larger than v
    bool want_above = r == Rounding::Up || (r == Rounding::Zero && v < 0);
    if (above == want_above) return f;
    return std::nextafterf(f, want_above ? INFINITY : -INFINITY);
}

float flushed(float v, const Instr& in) {
    return in.csr && std::fabs(v) < std::numeric_limits<float>::min() ? std::copysign(0.0f, v) : v;
}

template <Type t>
double read(const Warp& w, uint32_t operand, unsigned lane, const Instr& in) {
    if constexpr (t == Type::F16)
        return Half::widen(w.reg<uint16_t>(operand)[lane]);
    else if constexpr (t == Type::BF16)
        return Bfloat::widen(w.reg<uint16_t>(operand)[lane]);
    else if constexpr (t == Type::F32)
        return flushed(w.reg<float>(operand)[lane], in);
    else
        return w.reg<double>(operand)[lane];
}

template <Type t>
void write(const Warp& w, uint32_t operand, unsigned lane, double v, Rounding r, const Instr& in) {
    if constexpr (t == Type::F16)
        w.reg<uint16_t>(operand)[lane] = Half::narrow(v, r);
    else if constexpr (t == Type::BF16)
        w.reg<uint16_t>(operand)[lane] = Bfloat::narrow(v, r);
    else if constexpr (t == Type::F32)
        w.reg<float>(operand)[lane] = flushed(to_float(v, r), in);
    else
        w.reg<double>(operand)[lane] = v;
}

template <Type to, Type from>
void convert(Warp& w, const Instr& in) {
    auto r = static_cast<Rounding>(in.flag[0]);
    for (uint32_t left = w.mask; left; left &= left - 1) {
        auto lane = static_cast<unsigned>(std::countr_zero(left));
        double v = read<from>(w, in.op[1], lane, in);
        if (in.flag[1] & 2) v = integral(v, r);
        if (in.flag[1] & 1) v = v > 0 ? std::min(v, 1.0) : 0.0;
        if (in.flag[1] & 4 && v < 0) v = 0;
        write<to>(w, in.op[0], lane, v, in.flag[1] & 2 ? Rounding::Nearest : r, in);
    }
}

template <Type to>
Handler from_type(Type from) {
    switch (from) {
        case Type::F16:
            return convert<to, Type::F16>;
        case Type::BF16:
            return convert<to, Type::BF16>;
        case Type::F32:
            return convert<to, Type::F32>;
        case Type::F64:
            return convert<to, Type::F64>;
        default:
            return nullptr;
    }
}

int64_t read_integer(const Warp& w, const Instr& in, unsigned lane, Type t) {
    uint64_t v = in.flag[3] == 2   ? w.reg<uint16_t>(in.op[1])[lane]
                 : in.flag[3] == 4 ? w.reg<uint32_t>(in.op[1])[lane]
                                   : w.reg<uint64_t>(in.op[1])[lane];
    unsigned unused = 64 - 8 * size_of(t);
    return is_signed(t) ? static_cast<int64_t>(v << unused) >> unused
                        : static_cast<int64_t>(v << unused >> unused);
}

// 64-bit integers exceed double's precision: rounded to odd first.
double odd_double(int64_t v, bool is_unsigned) {
    double d = is_unsigned ? static_cast<double>(static_cast<uint64_t>(v)) : static_cast<double>(v);
    Int128 exact = is_unsigned ? static_cast<Int128>(static_cast<uint64_t>(v)) : v;
    auto back = static_cast<Int128>(d);
    if (back == exact) return d;
    auto bits = std::bit_cast<uint64_t>(d);
    if (!(bits & 1)) bits += (exact > back) == (d > 0) ? 1 : -1;
    return std::bit_cast<double>(bits);
}

template <class F, Type t>
void from_integer(Warp& w, const Instr& in) {
    for (uint32_t left = w.mask; left; left &= left - 1) {
        auto lane = static_cast<unsigned>(std::countr_zero(left));
        double v = odd_double(read_integer(w, in, lane, t), is_unsigned(t));
        if (in.flag[1]) v = v > 0 ? std::min(v, 1.0) : 0.0;
        w.reg<uint16_t>(in.op[0])[lane] = F::narrow(v, static_cast<Rounding>(in.flag[0]));
    }
}

template <class F, Type t>
void to_integer(Warp& w, const Instr& in) {
    constexpr unsigned bits = 8 * (t == Type::U8 || t == Type::S8     ? 1
                                   : t == Type::U16 || t == Type::S16 ? 2
                                   : t == Type::U32 || t == Type::S32 ? 4
                                                                      : 8);
    constexpr bool negative = t >= Type::S8 && t <= Type::S64;
    for (uint32_t left = w.mask; left; left &= left - 1) {
        auto lane = static_cast<unsigned>(std::countr_zero(left));
        double v = integral(F::widen(w.reg<uint16_t>(in.op[1])[lane]), static_cast<Rounding>(in.flag[0]));
        double high = std::ldexp(1.0, negative ? bits - 1 : bits), low = negative ? -high : 0;
        uint64_t result;
        if (v != v)
            result = bits == 64 ? uint64_t{1} << 63 : 0;
        else if (v < low)
            result = negative ? ~uint64_t{0} << (bits - 1) : 0;
        else if (v >= high)
            result = negative ? (uint64_t{1} << (bits - 1)) - 1 : ~uint64_t{0} >> (64 - bits);
        else
            result = negative ? static_cast<uint64_t>(static_cast<int64_t>(v)) : static_cast<uint64_t>(v);
        if (in.flag[2] == 2)
            w.reg<uint16_t>(in.op[0])[lane] = static_cast<uint16_t>(result);
        else if (in.flag[2] == 4)
            w.reg<uint32_t>(in.op[0])[lane] = static_cast<uint32_t>(result);
        else
            w.reg<uint64_t>(in.op[0])[lane] = result;
    }
}

template <class F>
Handler integer_handler(Type t, bool to) {
    switch (t) {
        case Type::U8:
            return to ? to_integer<F, Type::U8> : from_integer<F, Type::U8>;
        case Type::S8:
            return to ? to_integer<F, Type::S8> : from_integer<F, Type::S8>;
        case Type::U16:
            return to ? to_integer<F, Type::U16> : from_integer<F, Type::U16>;
        case Type::S16:
            return to ? to_integer<F, Type::S16> : from_integer<F, Type::S16>;
        case Type::U32:
            return to ? to_integer<F, Type::U32> : from_integer<F, Type::U32>;
        case Type::S32:
            return to ? to_integer<F, Type::S32> : from_integer<F, Type::S32>;
        case Type::U64:
            return to ? to_integer<F, Type::U64> : from_integer<F, Type::U64>;
        case Type::S64:
            return to ? to_integer<F, Type::S64> : from_integer<F, Type::S64>;
        default:
            return nullptr;
    }
}

// d = {high: a, low: b}
template <class F>
void pair(Warp& w, const Instr& in) {
    const auto *a = w.reg<float>(in.op[1]), *b = w.reg<float>(in.op[2]);
    auto* d = w.reg<uint32_t>(in.op[0]);
    auto one = [&](double v) -> uint32_t {
        if (in.flag[1] & 1) v = v > 0 ? std::min(v, 1.0) : 0.0;
        if (in.flag[1] & 4 && v < 0) v = 0;
        return F::narrow(v, static_cast<Rounding>(in.flag[0]));
    };
    for (uint32_t left = w.mask; left; left &= left - 1) {
        auto lane = std::countr_zero(left);
        d[lane] = one(a[lane]) << 16 | one(b[lane]);
    }
}

void pair_either(Warp& w, const Instr& in) {
    in.flag[2] ? pair<Bfloat>(w, in) : pair<Half>(w, in);
}

}  // namespace

Handler convert_float(Type to, Type from) {
    switch (to) {
        case Type::F16:
            return from_type<Type::F16>(from);
        case Type::BF16:
            return from_type<Type::BF16>(from);
        case Type::F32:
            return from_type<Type::F32>(from);
        case Type::F64:
            return from_type<Type::F64>(from);
        default:
            return nullptr;
    }
}

Handler convert_half_int(Type to, Type from) {
    if (to == Type::F16) return integer_handler<Half>(from, false);
    if (to == Type::BF16) return integer_handler<Bfloat>(from, false);
    if (from == Type::F16) return integer_handler<Half>(to, true);
    if (from == Type::BF16) return integer_handler<Bfloat>(to, true);
    return nullptr;
}

Handler convert_pair() {
    return pair_either;
}

}  // namespace softgpu::ptx::plain
