// SPDX-License-Identifier: MIT
// cvt, mov with vectors, and 16-bit floating point. Every f16 and bf16 value is tried where there is one
// operand.
#include <bit>
#include <cmath>
#include <limits>

#include "harness.h"

namespace softgpu::ptx::test {
namespace {

template <class D, class A, class F>
void check(const std::string& text, const std::vector<A>& a, F expected) {
    std::vector<D> d = evaluate<D>(text, a, a, a);
    for (size_t i = 0; i < d.size(); ++i) {
        D want = expected(a[i]);
        bool nan = want != want && d[i] != d[i];
        ASSERT_TRUE(nan || std::memcmp(&d[i], &want, sizeof want) == 0)
            << text << " of " << +a[i] << " gives " << +d[i] << ", not " << +want;
    }
}

const std::vector<uint32_t> kWords{0,          1,          0x7f,       0x80,      0xff,
                                   0x100,      0x7fff,     0x8000,     0xffff,    0x12345678,
                                   0x7fffffff, 0x80000000, 0xffffffff, 0xffffff80};
const std::vector<uint64_t> kLongs{0,
                                   1,
                                   0x80,
                                   0xffff,
                                   0x7fffffff,
                                   0x80000000,
                                   0xffffffff,
                                   0x100000000,
                                   0x123456789abcdef0,
                                   0x7fffffffffffffff,
                                   0x8000000000000000,
                                   0xffffffffffffffff,
                                   0x20000000000001,
                                   0xffffff7fffffffff};

TEST(Convert, Integers) {
    check<uint64_t>("cvt.u64.u32 %d, %a;", kWords, [](uint32_t a) { return uint64_t(a); });
    check<int64_t>("cvt.s64.s32 %d, %a;", kWords, [](uint32_t a) { return int64_t(int32_t(a)); });
    check<uint32_t>("cvt.u32.u64 %d, %a;", kLongs, [](uint64_t a) { return uint32_t(a); });
    check<uint16_t>("cvt.u16.u32 %d, %a;", kWords, [](uint32_t a) { return uint16_t(a); });
    check<int32_t>("cvt.s32.s8 %d, %a;", kWords, [](uint32_t a) { return int32_t(int8_t(a)); });
    check<uint16_t>("cvt.u16.u8 %d, %a;", kWords, [](uint32_t a) { return uint16_t(uint8_t(a)); });
    check<int16_t>("cvt.s8.s32 %d, %a;", kWords, [](uint32_t a) { return int16_t(int8_t(a)); });
    check<int64_t>("cvt.s64.s16 %d, %a;", kWords, [](uint32_t a) { return int64_t(int16_t(a)); });
    check<uint32_t>("cvt.sat.u8.s32 %d, %a;", kWords,
                    [](uint32_t a) { return uint32_t(std::min(std::max(int32_t(a), 0), 255)); });
    check<int32_t>("cvt.sat.s32.u64 %d, %a;", kLongs,
                   [](uint64_t a) { return int32_t(std::min<uint64_t>(a, INT32_MAX)); });
}

const std::vector<float> kFloats{0.0f,     -0.0f,     0.5f,     1.5f,      2.5f,  -0.5f,  -1.5f,      0.49f,
                                 1e9f,     -1e9f,     3e9f,     5e9f,      1e19f, 2e19f,  -1e20f,     255.5f,
                                 32767.5f, -32768.5f, INFINITY, -INFINITY, NAN,   1e-40f, 16777217.0f};

template <class D, class S>
D saturated(S v) {
    if (v != v) return sizeof(D) == 8 || sizeof(S) == 8 ? D(D(1) << (8 * sizeof(D) - 1)) : D(0);
    if (v >= std::ldexp(S(1), std::numeric_limits<D>::digits)) return std::numeric_limits<D>::max();
    if (v < S(std::numeric_limits<D>::min())) return std::numeric_limits<D>::min();
    return static_cast<D>(v);
}

TEST(Convert, FloatToInteger) {
    check<int32_t>("cvt.rzi.s32.f32 %d, %a;", kFloats,
                   [](float a) { return saturated<int32_t>(std::trunc(a)); });
    check<int32_t>("cvt.rni.s32.f32 %d, %a;", kFloats,
                   [](float a) { return saturated<int32_t>(std::nearbyint(a)); });
    check<int32_t>("cvt.rmi.s32.f32 %d, %a;", kFloats,
                   [](float a) { return saturated<int32_t>(std::floor(a)); });
    check<uint32_t>("cvt.rpi.u32.f32 %d, %a;", kFloats,
                    [](float a) { return saturated<uint32_t>(std::ceil(a)); });
    check<int64_t>("cvt.rzi.s64.f32 %d, %a;", kFloats,
                   [](float a) { return saturated<int64_t>(std::trunc(a)); });
    check<uint64_t>("cvt.rzi.u64.f32 %d, %a;", kFloats,
                    [](float a) { return saturated<uint64_t>(std::trunc(a)); });
    check<uint16_t>("cvt.rzi.u16.f32 %d, %a;", kFloats,
                    [](float a) { return saturated<uint16_t>(std::trunc(a)); });
    check<int32_t>("cvt.rzi.s8.f32 %d, %a;", kFloats,
                   [](float a) { return int32_t(saturated<int8_t>(std::trunc(a))); });
    std::vector<double> doubles(kFloats.begin(), kFloats.end());
    check<int32_t>("cvt.rzi.s32.f64 %d, %a;", doubles,
                   [](double a) { return saturated<int32_t>(std::trunc(a)); });
    check<uint64_t>("cvt.rni.u64.f64 %d, %a;", doubles,
                    [](double a) { return saturated<uint64_t>(std::nearbyint(a)); });
    check<double>("cvt.rmi.f64.f64 %d, %a;", doubles, [](double a) { return std::floor(a); });
    check<float>("cvt.rni.f32.f32 %d, %a;", kFloats, [](float a) { return std::nearbyintf(a); });
    check<float>("cvt.sat.f32.f32 %d, %a;", kFloats,
                 [](float a) { return a > 0 ? std::min(a, 1.0f) : 0.0f; });
}

TEST(Convert, IntegerToFloat) {
    check<float>("cvt.rn.f32.s32 %d, %a;", kWords, [](uint32_t a) { return float(int32_t(a)); });
    check<float>("cvt.rn.f32.u64 %d, %a;", kLongs, [](uint64_t a) { return float(a); });
    check<double>("cvt.rn.f64.s64 %d, %a;", kLongs, [](uint64_t a) { return double(int64_t(a)); });
    check<double>("cvt.rn.f64.u32 %d, %a;", kWords, [](uint32_t a) { return double(a); });
    check<float>("cvt.rz.f32.u32 %d, %a;", kWords, [](uint32_t a) {
        float f = float(a);
        return double(f) > a ? std::nextafter(f, 0.0f) : f;
    });
    check<float>("cvt.rn.f32.s8 %d, %a;", kWords, [](uint32_t a) { return float(int8_t(a)); });
    check<double>("cvt.rp.f64.u64 %d, %a;", kLongs, [](uint64_t a) {
        double f = double(a);
        return f < 1.8e19 && uint64_t(f) < a ? std::nextafter(f, INFINITY) : f;
    });
}

TEST(Convert, Doubles) {
    std::vector<double> v{0.1, -0.1, 1e300, -1e300, 1e-300, 1e-40, 3.5, INFINITY, NAN, 16777217, -16777219};
    check<float>("cvt.rn.f32.f64 %d, %a;", v, [](double a) { return float(a); });
    auto toward = [](double a, double limit) {
        float f = float(a);
        if (a != a || double(f) == a) return f;
        return (double(f) > a) == (limit > a) ? f : std::nextafterf(f, float(limit));
    };
    check<float>("cvt.rz.f32.f64 %d, %a;", v, [=](double a) { return toward(a, 0); });
    check<float>("cvt.rm.f32.f64 %d, %a;", v, [=](double a) { return toward(a, -INFINITY); });
    check<float>("cvt.rp.f32.f64 %d, %a;", v, [=](double a) { return toward(a, INFINITY); });
    check<double>("cvt.f64.f32 %d, %a;", kFloats, [](float a) { return double(a); });
}

float half(uint16_t h) {
    return float(std::bit_cast<_Float16>(h));
}
uint16_t half_bits(float f) {
    return f != f ? 0x7fff : std::bit_cast<uint16_t>(_Float16(f));
}
float bfloat(uint16_t b) {
    return std::bit_cast<float>(uint32_t(b) << 16);
}

std::vector<uint16_t> all16() {
    std::vector<uint16_t> v(65536);
    for (size_t i = 0; i < v.size(); ++i) v[i] = uint16_t(i);
    return v;
}

TEST(Half, Conversions) {
    check<float>("cvt.f32.f16 %d, %a;", all16(), half);
    check<double>("cvt.f64.f16 %d, %a;", all16(), [](uint16_t a) { return double(half(a)); });
    check<float>("cvt.f32.bf16 %d, %a;", all16(), bfloat);
    std::vector<float> v;
    for (uint32_t i = 0; i < 1u << 16; ++i) {  // around and between the halves' values
        float f = std::bit_cast<float>(i * 65537u);
        if (std::fabs(f) < 1e-9f) continue;
        v.push_back(f);
    }
    for (uint16_t h = 1; h < 0x7c00; h += 3) v.push_back((half(h) + half(uint16_t(h + 1))) / 2);
    check<uint16_t>("cvt.rn.f16.f32 %d, %a;", v, half_bits);
    check<uint16_t>("cvt.rz.f16.f32 %d, %a;", v, [](float a) {
        uint16_t h = half_bits(a);
        return std::isfinite(a) && std::fabs(half(h)) > std::fabs(a) ? uint16_t(h - 1) : h;
    });
    check<uint16_t>("cvt.rn.f16.s32 %d, %a;", kWords,
                    [](uint32_t a) { return half_bits(float(double(int32_t(a)))); });
    check<int32_t>("cvt.rzi.s32.f16 %d, %a;", all16(),
                   [](uint16_t a) { return saturated<int32_t>(std::trunc(half(a))); });
    check<uint16_t>("cvt.rn.bf16.f32 %d, %a;", v, [](float a) {
        if (a != a) return uint16_t(0x7fff);
        uint32_t u = std::bit_cast<uint32_t>(a);
        return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
    });
}

TEST(Half, Arithmetic) {
    std::vector<uint16_t> a = all16(), b(a.size()), c(a.size());
    for (size_t i = 0; i < a.size(); ++i) b[i] = uint16_t(i * 40503), c[i] = uint16_t(i * 30011 + 7);
    auto run = [&](const std::string& text, auto expected) {
        auto d = evaluate<uint16_t>(text, a, b, c);
        for (size_t i = 0; i < a.size(); ++i) {
            uint16_t want = expected(half(a[i]), half(b[i]), half(c[i]));
            bool nan = half(want) != half(want);
            ASSERT_TRUE(nan ? half(d[i]) != half(d[i]) : d[i] == want)
                << text << " row " << i << ": " << half(d[i]) << ", not " << half(want);
        }
    };
    run("add.rn.f16 %d, %a, %b;", [](float x, float y, float) { return half_bits(x + y); });
    run("sub.f16 %d, %a, %b;", [](float x, float y, float) { return half_bits(x - y); });
    run("mul.f16 %d, %a, %b;", [](float x, float y, float) { return half_bits(x * y); });
    // The product is exact in long double and the sum of it with a half nearly so: 64 bits hold all of it.
    run("fma.rn.f16 %d, %a, %b, %c;", [](float x, float y, float z) {
        long double exact = static_cast<long double>(x) * y + z;
        return exact != exact ? uint16_t(0x7fff) : std::bit_cast<uint16_t>(static_cast<_Float16>(exact));
    });
    run("max.f16 %d, %a, %b;", [](float x, float y, float) {
        return half_bits(x != x ? y : y != y ? x : x == y ? (std::signbit(x) ? y : x) : std::max(x, y));
    });
    run("neg.f16 %d, %a;", [](float x, float, float) { return half_bits(-x); });
    run("abs.f16 %d, %a;", [](float x, float, float) { return half_bits(std::fabs(x)); });
    run("set.gt.f16.f16 %d, %a, %b;", [](float x, float y, float) { return half_bits(x > y ? 1.0f : 0.0f); });
    run("setp.le.f16 %p, %a, %b; selp.b16 %d, 0x3c00, 0, %p;",
        [](float x, float y, float) { return half_bits(x <= y ? 1.0f : 0.0f); });
}

TEST(Half, Pairs) {
    std::vector<uint32_t> a{0x3c004000, 0xbc007c00, 0x00013c00}, b{0x40003c00, 0x3c003c00, 0x00018000},
        c{0, 0x3c000000, 0x3c003c00};
    auto d = evaluate<uint32_t>("fma.rn.f16x2 %d, %a, %b, %c;", a, b, c);
    for (size_t i = 0; i < a.size(); ++i)
        for (int k = 0; k < 32; k += 16) {
            float want = half(uint16_t(a[i] >> k)) * half(uint16_t(b[i] >> k)) + half(uint16_t(c[i] >> k));
            EXPECT_EQ(half(uint16_t(d[i] >> k)), half(half_bits(want)));
        }
    d = evaluate<uint32_t>("set.eq.f16x2.f16x2 %d, %a, %a;", a, b, c);
    EXPECT_EQ(d[0], 0x3c003c00u);
    d = evaluate<uint32_t>("fma.rn.bf16x2 %d, %a, %b, %c;", std::vector<uint32_t>{0x3f804000},
                           std::vector<uint32_t>{0x40003f80}, std::vector<uint32_t>{0x3f803f80});
    EXPECT_EQ(d[0], 0x40404040u);
    auto f = evaluate<uint32_t>("cvt.rn.f16x2.f32 %d, %a, %b;", std::vector<float>{1.0f},
                                std::vector<float>{2.0f}, c);
    EXPECT_EQ(f[0], 0x3c004000u);
}

TEST(Move, Vectors) {
    check<uint64_t>("{.reg .u32 l, h; mov.b64 {l, h}, %a; mov.b64 %d, {h, l};}", kLongs,
                    [](uint64_t a) { return a >> 32 | a << 32; });
    check<uint32_t>("{.reg .u16 l, h; mov.b32 {l, h}, %a; mov.b32 %d, {h, l};}", kWords,
                    [](uint32_t a) { return a >> 16 | a << 16; });
    check<uint64_t>(
        "{.reg .u16 a, b, c, e; mov.b64 {a, b, c, e}, %a; mov.b64 %d, {e, c, b, a};}", kLongs,
        [](uint64_t a) { return a >> 48 | (a >> 16 & 0xffff0000) | (a << 16 & 0xffff00000000) | a << 48; });
    check<uint32_t>("{.reg .u32 h; mov.b64 {_, h}, %a; mov.u32 %d, h;}", kLongs,
                    [](uint64_t a) { return uint32_t(a >> 32); });
    check<float>("{.reg .u16 h; mov.b32 {_, h}, %a; mov.b32 %d, {0, h};}", kFloats,
                 [](float a) { return std::bit_cast<float>(std::bit_cast<uint32_t>(a) & 0xffff0000); });
    check<uint32_t>("{.reg .pred t; mov.pred t, 1; @!t mov.u32 %d, 3; @t mov.u32 %d, WARP_SZ;}", kWords,
                    [](uint32_t) { return 32u; });
}

}  // namespace
}  // namespace softgpu::ptx::test
