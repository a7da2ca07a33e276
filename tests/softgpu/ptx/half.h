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
    static constexpr uint32_t kLeastNormal = 1u << M;
    static constexpr uint32_t kInfinity = ((1u << E) - 1) << M;

    static double widen(uint16_t bits) {
        constexpr uint32_t kMantissa = (1u << M) - 1;
        uint32_t magnitude = bits & 0x7fff;
        uint64_t sign = static_cast<uint64_t>(bits & 0x8000) << 48;
        if (magnitude < kLeastNormal) {
            constexpr double kUnit = std::bit_cast<double>(static_cast<uint64_t>(1023 + kLeast - M) << 52);
            return std::bit_cast<double>(std::bit_cast<uint64_t>(magnitude * kUnit) | sign);
        }
        uint64_t exponent = magnitude >= kInfinity ? 0x7ff : (magnitude >> M) + 1023 - kBias;
        return std::bit_cast<double>(sign | exponent << 52 |
                                     static_cast<uint64_t>(magnitude & kMantissa) << (52 - M));
    }

    static uint16_t narrow(double v, Rounding r = Rounding::Nearest) {
        if (v != v) return 0x7fff;
        auto source = std::bit_cast<uint64_t>(v);
        bool negative = source >> 63;
        uint32_t sign = negative ? 0x8000 : 0;
        int exponent = static_cast<int>(source >> 52 & 0x7ff) - 1023;
        uint64_t mantissa = source & 0xfffffffffffffull;
        if (exponent == 1024) return static_cast<uint16_t>(sign | kInfinity);
        if (exponent > -1023) mantissa |= uint64_t{1} << 52;
        int scale = std::max(exponent, kLeast), shift = 52 - M + (scale - exponent);
        uint64_t n = 0, rest = mantissa != 0, half = 2;  // for values far below the smallest
        if (shift < 64) {
            n = mantissa >> shift;
            half = uint64_t{1} << (shift - 1);
            rest = mantissa & (2 * half - 1);
        }
        bool up = r == Rounding::Nearest ? rest > half || (rest == half && (n & 1))
                  : r == Rounding::Up    ? !negative && rest > 0
                  : r == Rounding::Down  ? negative && rest > 0
                                         : false;
        uint64_t bits = (static_cast<uint64_t>(scale - kLeast) << M) + n + (up ? 1 : 0);
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
