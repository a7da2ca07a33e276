// SPDX-License-Identifier: MIT
// Floating-point instructions against the host's, under each rounding mode, on awkward values. Built with
// -frounding-math.
#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>

#include "harness.h"

namespace softgpu::ptx::test {
namespace {

template <class T>
std::vector<T> awkward() {
    using L = std::numeric_limits<T>;
    std::vector<T> v{0,
                     T(-0.0),
                     1,
                     -1,
                     T(0.1),
                     T(-0.3),
                     2,
                     3,
                     T(1e10),
                     T(-7.25),
                     T(0.5),
                     T(1.5),
                     T(2.5),
                     T(-2.5),
                     T(1) / 3,
                     L::max(),
                     L::lowest(),
                     L::min(),
                     L::min() / 2,
                     -L::denorm_min(),
                     L::denorm_min(),
                     L::infinity(),
                     -L::infinity(),
                     L::quiet_NaN(),
                     L::epsilon(),
                     1 + L::epsilon(),
                     T(65504),
                     T(123456.789)};
    return v;
}

template <class T>
bool same(T a, T b) {  // bit for bit, but any NaN equals any other
    if (a != a || b != b) return a != a && b != b;
    return std::memcmp(&a, &b, sizeof a) == 0;
}

template <class D, class T, class F>
void check(const std::string& text, F expected, int mode = FE_TONEAREST) {
    std::vector<T> a, b, c, values = awkward<T>();
    for (T x : values)
        for (T y : values) {
            a.push_back(x);
            b.push_back(y);
            c.push_back(values[(a.size() * 5 + a.size() / 28) % values.size()]);
        }
    std::vector<D> d = evaluate<D>(text, a, b, c);
    for (size_t i = 0; i < d.size(); ++i) {
        volatile T x = a[i], y = b[i], z = c[i];
        std::fesetround(mode);
        volatile D want = expected(x, y, z);
        std::fesetround(FE_TONEAREST);
        ASSERT_TRUE(same<D>(d[i], want)) << text << " of " << a[i] << ", " << b[i] << ", " << c[i]
                                         << " gives " << d[i] << ", not " << want;
    }
}

template <class T>
void arithmetic(const std::string& t) {
    const std::pair<std::string, int> modes[] = {
        {".rn", FE_TONEAREST}, {".rz", FE_TOWARDZERO}, {".rm", FE_DOWNWARD}, {".rp", FE_UPWARD}};
    for (auto& [suffix, mode] : modes) {
        check<T, T>(
            "add" + suffix + t + " %d, %a, %b;", [](T a, T b, T) { return a + b; }, mode);
        check<T, T>(
            "sub" + suffix + t + " %d, %a, %b;", [](T a, T b, T) { return a - b; }, mode);
        check<T, T>(
            "mul" + suffix + t + " %d, %a, %b;", [](T a, T b, T) { return a * b; }, mode);
        check<T, T>(
            "div" + suffix + t + " %d, %a, %b;", [](T a, T b, T) { return a / b; }, mode);
        check<T, T>(
            "fma" + suffix + t + " %d, %a, %b, %c;", [](T a, T b, T c) { return std::fma(a, b, c); }, mode);
        check<T, T>(
            "rcp" + suffix + t + " %d, %a;", [](T a, T, T) { return T(1) / a; }, mode);
        check<T, T>(
            "sqrt" + suffix + t + " %d, %a;", [](T a, T, T) { return std::sqrt(a); }, mode);
    }
    check<T, T>("abs" + t + " %d, %a;", [](T a, T, T) { return std::fabs(a); });
    check<T, T>("neg" + t + " %d, %a;", [](T a, T, T) { return -a; });
    check<T, T>("copysign" + t + " %d, %a, %b;", [](T a, T b, T) { return std::copysign(b, a); });
    auto least = [](T a, T b) {
        return a != a ? b : b != b ? a : a == b ? (std::signbit(a) ? a : b) : std::min(a, b);
    };
    check<T, T>("min" + t + " %d, %a, %b;", [=](T a, T b, T) { return least(a, b); });
    check<T, T>("max" + t + " %d, %a, %b;", [=](T a, T b, T) { return -least(-a, -b); });
}

TEST(Float, Single) {
    arithmetic<float>(".f32");
}
TEST(Float, Double) {
    arithmetic<double>(".f64");
}

TEST(Float, CanonicalNan) {
    auto d = evaluate<uint32_t>("add.f32 %d, %a, %b;", std::vector<uint32_t>{0xffc01234},
                                std::vector<uint32_t>{0}, std::vector<int>{0});
    EXPECT_EQ(d[0], 0x7fffffffu);
}

TEST(Float, SaturationAndNan) {
    auto sat = [](float v) { return v > 0 ? std::min(v, 1.0f) : 0.0f; };
    check<float, float>("add.sat.f32 %d, %a, %b;", [=](float a, float b, float) { return sat(a + b); });
    check<float, float>("fma.rn.sat.f32 %d, %a, %b, %c;",
                        [=](float a, float b, float c) { return sat(std::fmaf(a, b, c)); });
    check<float, float>("min.NaN.f32 %d, %a, %b;", [](float a, float b, float) {
        return a != a || b != b ? NAN : a == b ? (std::signbit(a) ? a : b) : std::min(a, b);
    });
}

TEST(Float, FlushToZero) {
    auto f = [](float v) {
        return std::fabs(v) < std::numeric_limits<float>::min() ? std::copysign(0.0f, v) : v;
    };
    check<float, float>("mul.ftz.f32 %d, %a, %b;", [=](float a, float b, float) { return f(f(a) * f(b)); });
    check<float, float>("add.ftz.f32 %d, %a, %b;", [=](float a, float b, float) { return f(f(a) + f(b)); });
    check<float, float>("abs.ftz.f32 %d, %a;", [=](float a, float, float) { return std::fabs(f(a)); });
    check<float, float>("setp.eq.ftz.f32 %p, %a, 0f00000000; selp.f32 %d, 0f3F800000, 0f00000000, %p;",
                        [=](float a, float, float) { return f(a) == 0 ? 1.0f : 0.0f; });
}

TEST(Float, Comparisons) {
    auto yes = [](bool b) { return b ? 1.0f : 0.0f; };
    const std::pair<std::string, bool (*)(float, float)> ops[] = {
        {"eq", [](float a, float b) { return a == b; }},
        {"ne", [](float a, float b) { return a < b || a > b; }},
        {"lt", [](float a, float b) { return a < b; }},
        {"ge", [](float a, float b) { return a >= b; }},
        {"equ", [](float a, float b) { return !(a < b || a > b); }},
        {"neu", [](float a, float b) { return a != b; }},
        {"ltu", [](float a, float b) { return !(a >= b); }},
        {"geu", [](float a, float b) { return !(a < b); }},
        {"num", [](float a, float b) { return a == a && b == b; }},
        {"nan", [](float a, float b) { return a != a || b != b; }},
    };
    for (auto& [name, holds] : ops) {
        check<float, float>("set." + name + ".f32.f32 %d, %a, %b;",
                            [&, holds = holds](float a, float b, float) { return yes(holds(a, b)); });
        check<double, double>(
            "setp." + name + ".f64 %p, %a, %b; selp.f64 %d, 0d3FF0000000000000, 0d0000000000000000, %p;",
            [&, holds = holds](double a, double b, double) {
                return double(yes(name == "ne"    ? a < b || a > b
                                  : name == "neu" ? a != b
                                  : name == "equ" ? !(a < b || a > b)
                                  : name == "eq"  ? a == b
                                  : name == "lt"  ? a < b
                                  : name == "ge"  ? a >= b
                                  : name == "ltu" ? !(a >= b)
                                  : name == "geu" ? !(a < b)
                                  : name == "num" ? a == a && b == b
                                                  : a != a || b != b));
            });
    }
    check<float, float>("testp.subnormal.f32 %p, %a; selp.f32 %d, 0f3F800000, 0f00000000, %p;",
                        [=](float a, float, float) { return yes(std::fpclassify(a) == FP_SUBNORMAL); });
}

// The approximations may differ from the GPU's, within the error PTX allows.
void close(const std::string& text, double (*exact)(double), double relative, double absolute, double from,
           double to) {
    std::vector<float> a;
    for (int i = 0; i <= 1000; ++i) a.push_back(float(from + (to - from) * i / 1000));
    auto d = evaluate<float>(text, a, a, a);
    for (size_t i = 0; i < d.size(); ++i) {
        double want = exact(a[i]);
        ASSERT_NEAR(d[i], want, absolute + relative * std::fabs(want)) << text << " of " << a[i];
    }
}

TEST(Float, Approximations) {
    constexpr double kUlp = 0x1p-22;
    close("sin.approx.f32 %d, %a;", std::sin, 0, 0x1p-20, -3.14, 3.14);
    close("cos.approx.ftz.f32 %d, %a;", std::cos, 0, 0x1p-20, -3.14, 3.14);
    close("ex2.approx.f32 %d, %a;", std::exp2, kUlp, 0, -20, 20);
    close("lg2.approx.f32 %d, %a;", std::log2, kUlp, 0x1p-22, 0.01, 50);
    close(
        "rsqrt.approx.f32 %d, %a;", [](double v) { return 1 / std::sqrt(v); }, kUlp, 0, 0.001, 100);
    close("sqrt.approx.f32 %d, %a;", std::sqrt, kUlp, 0, 0, 100);
    close(
        "rcp.approx.f32 %d, %a;", [](double v) { return 1 / v; }, kUlp, 0, 0.001, 100);
    close("tanh.approx.f32 %d, %a;", std::tanh, 0x1p-10, 0, -5, 5);
    close(
        "div.approx.f32 %d, 0f3F800000, %a;", [](double v) { return 1 / v; }, kUlp, 0, 0.001, 100);
    close(
        "div.full.f32 %d, 0f40400000, %a;", [](double v) { return 3 / v; }, kUlp, 0, 0.001, 100);
}

}  // namespace
}  // namespace softgpu::ptx::test
