// SPDX-License-Identifier: MIT
// The 16-bit floating-point formats as bit patterns; every value of theirs is exact in a double.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "ops.h"

namespace softgpu::ptx {

template <int E, int M>
struct SmallFloat {
    static constexpr int kBias = (1 << (E - 1)) - 1;
    static constexpr int kLeast = 1 - kBias;  // exponent of the smallest normal number
    static constexpr uint32_t kInfinity = ((1u << E) - 1) << M;

    static double widen(uint16_t bits) {
        uint32_t magnitude = bits & 0x7fff;
        double v;
        if (magnitude > kInfinity)
            v = std::numeric_limits<double>::quiet_NaN();
        else if (magnitude == kInfinity)
            v = std::numeric_limits<double>::infinity();
        else if (magnitude < (1u << M))
            v = std::ldexp(static_cast<double>(magnitude), kLeast - M);
        else
            v = std::ldexp(static_cast<double>((magnitude & ((1u << M) - 1)) | 1u << M),
                           int(magnitude >> M) - 1 + kLeast - M);
        return bits & 0x8000 ? -v : v;
    }

    static uint16_t narrow(double v, Rounding r = Rounding::Nearest) {
        if (v != v) return 0x7fff;
        bool negative = std::signbit(v);
        uint32_t sign = negative ? 0x8000 : 0;
        double a = std::fabs(v);
        if (a == 0) return static_cast<uint16_t>(sign);
        if (a == std::numeric_limits<double>::infinity()) return static_cast<uint16_t>(sign | kInfinity);
        int exponent = std::max(std::ilogb(a), kLeast);
        double scaled = std::ldexp(a, M - exponent), whole = std::trunc(scaled), rest = scaled - whole;
        auto n = static_cast<uint64_t>(std::min(whole, 0x1p40));
        bool up = r == Rounding::Nearest ? rest > 0.5 || (rest == 0.5 && (n & 1))
                  : r == Rounding::Up    ? !negative && rest > 0
                  : r == Rounding::Down  ? negative && rest > 0
                                         : false;
        uint64_t bits = (static_cast<uint64_t>(exponent - kLeast) << M) + n + (up ? 1 : 0);
        if (exponent > kBias || bits >= kInfinity) {
            bool to_infinity = r == Rounding::Nearest || (r == Rounding::Up && !negative) ||
                               (r == Rounding::Down && negative);
            bits = to_infinity ? kInfinity : kInfinity - 1;
        }
        return static_cast<uint16_t>(sign | bits);
    }
};

using Half = SmallFloat<5, 10>;
using Bfloat = SmallFloat<8, 7>;

// a * b + c where a * b is exact: rounded to odd, so that rounding again to a short format is right.
inline double fused_odd(double a, double b, double c) {
    double p = a * b, s = p + c;
    if (!std::isfinite(s)) return s;
    double t = s - p, error = (p - (s - t)) + (c - t);
    if (error != 0 && !(std::bit_cast<uint64_t>(s) & 1)) {
        uint64_t bits = std::bit_cast<uint64_t>(s);
        bits += (error > 0) == (s > 0) ? 1 : -1;
        s = std::bit_cast<double>(bits);
    }
    return s;
}

}  // namespace softgpu::ptx
