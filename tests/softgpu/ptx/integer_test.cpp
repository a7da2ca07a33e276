// SPDX-License-Identifier: MIT
// Integer and bit instructions against C++ on every pair of awkward values.
#include <bit>
#include <limits>

#include "harness.h"

namespace softgpu::ptx::test {
namespace {

__extension__ using Wide = __int128;
__extension__ using UWide = unsigned __int128;

template <class T>
std::vector<T> awkward() {
    using L = std::numeric_limits<T>;
    std::vector<T> v{0,
                     1,
                     2,
                     3,
                     5,
                     7,
                     31,
                     32,
                     63,
                     100,
                     L::max(),
                     L::min(),
                     static_cast<T>(L::max() - 1),
                     static_cast<T>(L::min() + 1),
                     static_cast<T>(L::max() / 2),
                     static_cast<T>(0x5a5a5a5a5a5a5a5aull),
                     static_cast<T>(0xdeadbeefcafebabeull),
                     static_cast<T>(-1),
                     static_cast<T>(-2),
                     static_cast<T>(-7)};
    return v;
}

// expected(a, b, c) for all pairs a, b, with c running through the values too.
template <class D, class T, class C = T, class F>
void check(const std::string& text, F expected) {
    std::vector<T> a, b, values = awkward<T>();
    std::vector<C> c, cs = awkward<C>();
    for (T x : values)
        for (T y : values) {
            a.push_back(x);
            b.push_back(y);
            c.push_back(cs[(a.size() * 7 + a.size() / 20) % cs.size()]);
        }
    std::vector<D> d = evaluate<D>(text, a, b, c);
    for (size_t i = 0; i < d.size(); ++i) {
        D want = expected(a[i], b[i], c[i]);
        ASSERT_EQ(d[i], want) << text << " of " << +a[i] << ", " << +b[i] << ", " << +c[i];
    }
}

template <class T>
std::string name() {
    return (std::is_signed_v<T> ? "s" : "u") + std::to_string(8 * sizeof(T));
}

template <class T>
void arithmetic() {
    using U = std::make_unsigned_t<T>;
    std::string t = name<T>();
    auto high = [](T a, T b) {
        return static_cast<T>((static_cast<Wide>(a) * static_cast<Wide>(b)) >> (8 * sizeof(T)));
    };
    auto high_unsigned = [](T a, T b) {
        return static_cast<T>((static_cast<UWide>(a) * static_cast<UWide>(b)) >> (8 * sizeof(T)));
    };
    auto hi = [&](T a, T b) { return std::is_signed_v<T> ? high(a, b) : high_unsigned(a, b); };
    auto lo = [](T a, T b) { return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); };
    check<T, T>("add." + t + " %d, %a, %b;", [](T a, T b, T) { return T(U(a) + U(b)); });
    check<T, T>("sub." + t + " %d, %a, %b;", [](T a, T b, T) { return T(U(a) - U(b)); });
    check<T, T>("mul.lo." + t + " %d, %a, %b;", [=](T a, T b, T) { return lo(a, b); });
    check<T, T>("mul.hi." + t + " %d, %a, %b;", [=](T a, T b, T) { return hi(a, b); });
    check<T, T>("mad.lo." + t + " %d, %a, %b, %c;", [=](T a, T b, T c) { return T(U(lo(a, b)) + U(c)); });
    check<T, T>("mad.hi." + t + " %d, %a, %b, %c;", [=](T a, T b, T c) { return T(U(hi(a, b)) + U(c)); });
    check<T, T>("min." + t + " %d, %a, %b;", [](T a, T b, T) { return std::min(a, b); });
    check<T, T>("max." + t + " %d, %a, %b;", [](T a, T b, T) { return std::max(a, b); });
    check<T, T>("sad." + t + " %d, %a, %b, %c;",
                [](T a, T b, T c) { return T(U(c) + (a < b ? U(b) - U(a) : U(a) - U(b))); });
    auto wide = [](T a) { return static_cast<Wide>(a); };
    check<T, T>("div." + t + " %d, %a, %b;",
                [=](T a, T b, T) { return b == 0 ? T(-1) : T(wide(a) / wide(b)); });
    check<T, T>("rem." + t + " %d, %a, %b;", [=](T a, T b, T) { return b == 0 ? a : T(wide(a) % wide(b)); });
    check<T, T, uint32_t>("shr." + t + " %d, %a, %c;", [](T a, T, uint32_t c) {
        return c >= 8 * sizeof(T) ? T(a < 0 ? -1 : 0) : T(a >> c);
    });
    if constexpr (std::is_signed_v<T>) {
        check<T, T>("abs." + t + " %d, %a;", [](T a, T, T) { return a < 0 ? T(U(0) - U(a)) : a; });
        check<T, T>("neg." + t + " %d, %a;", [](T a, T, T) { return T(U(0) - U(a)); });
    }
    if constexpr (sizeof(T) < 8) {
        using W =
            std::conditional_t<std::is_signed_v<T>, std::conditional_t<sizeof(T) == 2, int32_t, int64_t>,
                               std::conditional_t<sizeof(T) == 2, uint32_t, uint64_t>>;
        check<W, T>("mul.wide." + t + " %d, %a, %b;", [](T a, T b, T) { return W(W(a) * W(b)); });
        check<W, T, W>("mad.wide." + t + " %d, %a, %b, %c;", [](T a, T b, W c) {
            using UW = std::make_unsigned_t<W>;
            return W(UW(W(a) * W(b)) + UW(c));
        });
    }
}

TEST(Integer, Arithmetic16) {
    arithmetic<uint16_t>();
    arithmetic<int16_t>();
}
TEST(Integer, Arithmetic32) {
    arithmetic<uint32_t>();
    arithmetic<int32_t>();
}
TEST(Integer, Arithmetic64) {
    arithmetic<uint64_t>();
    arithmetic<int64_t>();
}

TEST(Integer, Saturation) {
    auto clamp = [](int64_t v) {
        return int32_t(std::min<int64_t>(std::max<int64_t>(v, INT32_MIN), INT32_MAX));
    };
    using I = int32_t;
    check<I, I>("add.sat.s32 %d, %a, %b;", [=](I a, I b, I) { return clamp(int64_t(a) + b); });
    check<I, I>("sub.sat.s32 %d, %a, %b;", [=](I a, I b, I) { return clamp(int64_t(a) - b); });
    check<I, I>("mad.hi.sat.s32 %d, %a, %b, %c;",
                [=](I a, I b, I c) { return clamp((int64_t(a) * b >> 32) + c); });
}

TEST(Integer, TwentyFourBits) {
    auto p = [](int32_t a, int32_t b) { return int64_t(a << 8 >> 8) * int64_t(b << 8 >> 8); };
    using I = int32_t;
    using U = uint32_t;
    check<I, I>("mul24.lo.s32 %d, %a, %b;", [=](I a, I b, I) { return I(p(a, b)); });
    check<I, I>("mul24.hi.s32 %d, %a, %b;", [=](I a, I b, I) { return I(p(a, b) >> 16); });
    check<I, I>("mad24.lo.s32 %d, %a, %b, %c;", [=](I a, I b, I c) { return I(U(p(a, b)) + U(c)); });
    check<U, U>("mul24.lo.u32 %d, %a, %b;",
                [](U a, U b, U) { return U(uint64_t(a & 0xffffff) * (b & 0xffffff)); });
    check<U, U>("mul24.hi.u32 %d, %a, %b;",
                [](U a, U b, U) { return U(uint64_t(a & 0xffffff) * (b & 0xffffff) >> 16); });
}

// A 128-bit sum, difference and product out of 32-bit pieces, as nvcc writes them.
TEST(Integer, Carries) {
    using U = uint64_t;
    std::string split = ".reg .u32 a0, a1, b0, b1, r0, r1; mov.b64 {a0, a1}, %a; mov.b64 {b0, b1}, %b;";
    check<U, U>(split + "add.cc.u32 r0, a0, b0; addc.u32 r1, a1, b1; mov.b64 %d, {r0, r1};",
                [](U a, U b, U) { return a + b; });
    check<U, U>(split + "sub.cc.u32 r0, a0, b0; subc.u32 r1, a1, b1; mov.b64 %d, {r0, r1};",
                [](U a, U b, U) { return a - b; });
    std::string mul =
        ".reg .u32 alo, ahi, blo, bhi, r0, r1, r2, r3; mov.b64 {alo, ahi}, %a; mov.b64 {blo, bhi}, %b;"
        "mul.lo.u32 r0, alo, blo; mul.hi.u32 r1, alo, blo; mad.lo.cc.u32 r1, alo, bhi, r1;"
        "madc.hi.u32 r2, alo, bhi, 0; mad.lo.cc.u32 r1, ahi, blo, r1; madc.hi.cc.u32 r2, ahi, blo, r2;"
        "madc.hi.u32 r3, ahi, bhi, 0; mad.lo.cc.u32 r2, ahi, bhi, r2; addc.u32 r3, r3, 0;";
    check<U, U>(mul + "mov.b64 %d, {r0, r1};", [](U a, U b, U) { return a * b; });
    check<U, U>(mul + "mov.b64 %d, {r2, r3};", [](U a, U b, U) { return U(UWide(a) * b >> 64); });
    check<U, U>("add.cc.u64 %d, %a, %b; addc.u64 %d, 0, 0;", [](U a, U b, U) { return U(a + b < a); });
}

TEST(Bits, Logic) {
    using U = uint32_t;
    using L = uint64_t;
    using S = uint16_t;
    check<U, U>("and.b32 %d, %a, %b;", [](U a, U b, U) { return a & b; });
    check<L, L>("or.b64 %d, %a, %b;", [](L a, L b, L) { return a | b; });
    check<S, S>("xor.b16 %d, %a, %b;", [](S a, S b, S) { return S(a ^ b); });
    check<S, S>("not.b16 %d, %a;", [](S a, S, S) { return S(~a); });
    check<L, L>("cnot.b64 %d, %a;", [](L a, L, L) { return L(a == 0); });
    check<U, U>("lop3.b32 %d, %a, %b, %c, 0xe8;", [](U a, U b, U c) { return (a & b) | (a & c) | (b & c); });
    check<U, U>("lop3.b32 %d, %a, %b, %c, 0x1a;", [](U a, U b, U c) { return (a ^ c) & ~(a & b); });
}

TEST(Bits, Shifts) {
    using U = uint32_t;
    check<uint16_t, uint16_t, U>("shl.b16 %d, %a, %c;",
                                 [](uint16_t a, uint16_t, U c) { return uint16_t(c < 16 ? a << c : 0); });
    check<U, U>("shl.b32 %d, %a, %b;", [](U a, U b, U) { return b < 32 ? a << b : 0; });
    check<uint64_t, uint64_t, U>("shl.b64 %d, %a, %c;",
                                 [](uint64_t a, uint64_t, U c) { return c < 64 ? a << c : 0; });
    auto funnel = [](U a, U b) { return uint64_t(b) << 32 | a; };
    check<U, U>("shf.l.wrap.b32 %d, %a, %b, %c;",
                [=](U a, U b, U c) { return U(funnel(a, b) << (c & 31) >> 32); });
    check<U, U>("shf.r.wrap.b32 %d, %a, %b, %c;", [=](U a, U b, U c) { return U(funnel(a, b) >> (c & 31)); });
    check<U, U>("shf.l.clamp.b32 %d, %a, %b, %c;",
                [=](U a, U b, U c) { return U(funnel(a, b) << std::min(c, 32u) >> 32); });
    check<U, U>("shf.r.clamp.b32 %d, %a, %b, %c;",
                [=](U a, U b, U c) { return U(funnel(a, b) >> std::min(c, 32u)); });
}

TEST(Bits, Counting) {
    using U = uint32_t;
    using L = uint64_t;
    check<U, U>("popc.b32 %d, %a;", [](U a, U, U) { return U(std::popcount(a)); });
    check<U, L>("popc.b64 %d, %a;", [](L a, L, L) { return U(std::popcount(a)); });
    check<U, U>("clz.b32 %d, %a;", [](U a, U, U) { return U(std::countl_zero(a)); });
    check<U, L>("clz.b64 %d, %a;", [](L a, L, L) { return U(std::countl_zero(a)); });
    check<U, U>("bfind.u32 %d, %a;", [](U a, U, U) { return a ? 31 - U(std::countl_zero(a)) : ~0u; });
    check<U, U>("bfind.shiftamt.u32 %d, %a;", [](U a, U, U) { return a ? U(std::countl_zero(a)) : ~0u; });
    check<U, int64_t>("bfind.s64 %d, %a;", [](int64_t a, int64_t, int64_t) {
        L u = L(a < 0 ? ~a : a);
        return u ? 63 - U(std::countl_zero(u)) : ~0u;
    });
    auto reverse = [](auto v) {
        decltype(v) r = 0;
        for (size_t i = 0; i < 8 * sizeof v; ++i) r |= (v >> i & 1) << (8 * sizeof v - 1 - i);
        return r;
    };
    check<U, U>("brev.b32 %d, %a;", [=](U a, U, U) { return reverse(a); });
    check<L, L>("brev.b64 %d, %a;", [=](L a, L, L) { return reverse(a); });
}

TEST(Bits, Fields) {
    using U = uint32_t;
    auto field = [](auto v, U position, U length) {  // as the PTX manual defines it, bit by bit
        using T = decltype(v);
        constexpr int msb = 8 * sizeof(T) - 1;
        int pos = int(position & 0xff), len = int(length & 0xff);
        bool sign = std::is_signed_v<T> && len > 0 && (v >> std::min(pos + len - 1, msb) & 1);
        T d = 0;
        for (int i = 0; i <= msb; ++i) {
            bool bit = i < len && pos + i <= msb ? v >> (pos + i) & 1 : sign;
            if (bit) d = T(d | T(T(1) << i));
        }
        return d;
    };
    check<U, U>("bfe.u32 %d, %a, %b, %c;", [=](U a, U b, U c) { return field(a, b, c); });
    check<int32_t, int32_t>("bfe.s32 %d, %a, %b, %c;",
                            [=](int32_t a, int32_t b, int32_t c) { return field(a, U(b), U(c)); });
    check<uint64_t, uint64_t, U>("bfe.u64 %d, %a, 9, %c;",
                                 [=](uint64_t a, uint64_t, U c) { return field(a, 9, c); });
    check<int64_t, int64_t, U>("bfe.s64 %d, %a, %c, 17;",
                               [=](int64_t a, int64_t, U c) { return field(a, c, 17); });
    check<U, U>("bfi.b32 %d, %a, %b, %c, 7;", [](U a, U b, U c) {
        U d = b;
        for (U i = 0; i < 7 && (c & 0xff) + i < 32; ++i)
            d = (d & ~(1u << ((c & 0xff) + i))) | (a >> i & 1) << ((c & 0xff) + i);
        return d;
    });
    check<uint64_t, uint64_t, U>("bfi.b64 %d, %a, %b, 20, %c;", [](uint64_t a, uint64_t b, U c) {
        uint64_t d = b;
        for (U i = 0; i < (c & 0xff) && 20 + i < 64; ++i)
            d = (d & ~(1ull << (20 + i))) | (a >> i & 1) << (20 + i);
        return d;
    });
    check<U, U>("bmsk.clamp.b32 %d, %a, %b;", [](U a, U b, U) {
        U d = 0;
        for (U i = a; i < 32 && i - a < b; ++i) d |= 1u << i;
        return d;
    });
    check<int32_t, int32_t, U>("szext.wrap.s32 %d, %a, %c;", [](int32_t a, int32_t, U c) {
        c &= 31;
        return c ? int32_t(U(a) << (32 - c)) >> (32 - c) : 0;
    });
}

TEST(Bits, Permutations) {
    using U = uint32_t;
    check<U, U>("prmt.b32 %d, %a, %b, %c;", [](U a, U b, U c) {
        U d = 0;
        for (int i = 0; i < 4; ++i) {
            U s = c >> (4 * i) & 15;
            U byte = (s & 4 ? b : a) >> (8 * (s & 3)) & 0xff;
            if (s & 8) byte = byte & 0x80 ? 0xff : 0;
            d |= byte << (8 * i);
        }
        return d;
    });
    check<U, U>("prmt.b32.rc8 %d, %a, %b, 2;", [](U a, U, U) { return (a >> 16 & 0xff) * 0x01010101u; });
    check<U, U>("prmt.b32.f4e %d, %a, %b, 1;", [](U a, U b, U) { return U((uint64_t(b) << 32 | a) >> 8); });
}

TEST(Bits, DotProducts) {
    using U = uint32_t;
    check<U, U>("dp4a.s32.u32 %d, %a, %b, %c;", [](U a, U b, U c) {
        for (int i = 0; i < 4; ++i) c += U(int8_t(a >> 8 * i) * int(uint8_t(b >> 8 * i)));
        return c;
    });
    check<U, U>("dp2a.hi.u32.s32 %d, %a, %b, %c;", [](U a, U b, U c) {
        for (int i = 0; i < 2; ++i) c += U(uint16_t(a >> 16 * i)) * U(int(int8_t(b >> (16 + 8 * i))));
        return c;
    });
}

TEST(Bits, SelectionsAndComparisons) {
    using I = int32_t;
    check<I, I>("setp.lt.s32 %p, %a, %b; selp.b32 %d, %a, %c, %p;",
                [](I a, I b, I c) { return a < b ? a : c; });
    check<I, I>("setp.gt.u32 %p|%q, %a, %b; @%p mov.u32 %d, 1; @%q mov.u32 %d, 2;",
                [](I a, I b, I) { return uint32_t(a) > uint32_t(b) ? 1 : 2; });
    check<I, I>("setp.ne.s32 %q, %c, 0; setp.le.and.s32 %p, %a, %b, !%q; selp.s32 %d, 7, 9, %p;",
                [](I a, I b, I c) { return a <= b && c == 0 ? 7 : 9; });
    check<I, I>(
        "setp.hs.u32 %p, %a, %b; not.pred %q, %p; xor.pred %p, %p, %q; and.pred %p, %p, %q; selp.s32 %d, 1, "
        "0, %p;",
        [](I a, I b, I) { return I(!(uint32_t(a) >= uint32_t(b))); });
    check<uint32_t, int64_t>("set.ge.u32.s64 %d, %a, %b;",
                             [](int64_t a, int64_t b, int64_t) { return a >= b ? ~0u : 0u; });
    check<uint64_t, uint64_t, I>("slct.u64.s32 %d, %a, %b, %c;",
                                 [](uint64_t a, uint64_t b, I c) { return c >= 0 ? a : b; });
}

}  // namespace
}  // namespace softgpu::ptx::test
