// SPDX-License-Identifier: MIT
// Bits: logic, shifts, fields, permutations, small dot products; moves and selections.
#include <type_traits>

#include "lanes.h"

namespace softgpu::ptx::SOFTGPU_LEVEL {

namespace {

struct And {
    template <class T>
    T operator()(T a, T b) const {
        return a & b;
    }
};
struct Or {
    template <class T>
    T operator()(T a, T b) const {
        return a | b;
    }
};
struct Xor {
    template <class T>
    T operator()(T a, T b) const {
        return a ^ b;
    }
};
struct Not {
    template <class T>
    T operator()(T a) const {
        return static_cast<T>(~a);
    }
};
struct Cnot {
    template <class T>
    T operator()(T a) const {
        return a == 0 ? 1 : 0;
    }
};
struct Mov {
    template <class T>
    T operator()(T a) const {
        return a;
    }
};
struct Shl {
    template <class T>
    T operator()(T a, uint32_t n) const {
        constexpr uint32_t bits = 8 * sizeof(T);
        return n < bits ? static_cast<T>(a << (n & (bits - 1))) : T(0);
    }
};
struct Shr {
    template <class T>
    T operator()(T a, uint32_t n) const {
        constexpr uint32_t bits = 8 * sizeof(T);
        if constexpr (std::is_signed_v<T>)
            return static_cast<T>(a >> (n < bits ? n : bits - 1));
        else
            return n < bits ? static_cast<T>(a >> (n & (bits - 1))) : T(0);
    }
};

enum class Funnel { LeftClamp, LeftWrap, RightClamp, RightWrap };
template <Funnel f>
struct Shf {
    uint32_t operator()(uint32_t a, uint32_t b, uint32_t n) const {
        constexpr bool wrap = f == Funnel::LeftWrap || f == Funnel::RightWrap;
        n = wrap ? n & 31 : (n < 32 ? n : 32);
        uint64_t pair = uint64_t(b) << 32 | a;
        if constexpr (f == Funnel::LeftClamp || f == Funnel::LeftWrap)
            return uint32_t((pair << n) >> 32);
        else
            return uint32_t(pair >> n);
    }
};

struct Brev {
    template <class T>
    T operator()(T v) const {
        if constexpr (sizeof(T) == 8) {
            return uint64_t((*this)(uint32_t(v))) << 32 | (*this)(uint32_t(v >> 32));
        } else {
            v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
            v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
            v = (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
            return __builtin_bswap32(v);
        }
    }
};
struct Popc {
    template <class T>
    uint32_t operator()(T v) const {
        return uint32_t(__builtin_popcountll(v));
    }
};
struct Clz {
    template <class T>
    uint32_t operator()(T v) const {
        return v == 0 ? 8 * sizeof(T) : uint32_t(__builtin_clzll(v)) - (64 - 8 * sizeof(T));
    }
};
// Position of the most significant bit that differs from the sign; ~0 when there is none.
template <bool shift_amount>
struct Bfind {
    template <class T>
    uint32_t operator()(T v) const {
        using U = std::make_unsigned_t<T>;
        U u = U(v);
        if constexpr (std::is_signed_v<T>)
            if (v < 0) u = U(~u);
        if (u == 0) return ~0u;
        uint32_t position = 63 - uint32_t(__builtin_clzll(u));
        return shift_amount ? 8 * sizeof(T) - 1 - position : position;
    }
};
struct Bfe {
    template <class T>
    T operator()(T a, uint32_t position, uint32_t length) const {
        constexpr uint32_t bits = 8 * sizeof(T);
        using U = std::make_unsigned_t<T>;
        position &= 0xff;
        length &= 0xff;
        U field = position < bits ? U(U(a) >> position) : U(0);
        if (length < bits) field &= U((U(1) << length) - 1);
        if constexpr (std::is_signed_v<T>) {
            // The sign is the field's top bit, or the value's where the field reaches past it.
            uint32_t top = position + length - 1 < bits - 1 ? position + length - 1 : bits - 1;
            bool negative = length != 0 && (U(a) >> top & 1);
            if (negative) {
                uint32_t have = top >= position ? top - position + 1 : 0;
                if (have < bits) field |= U(~U(0)) << have;
            }
        }
        return T(field);
    }
};
struct Fns {
    // The n-th set bit counted from `base`, upwards for n > 0 and downwards for n < 0.
    uint32_t operator()(uint32_t mask, uint32_t base, int32_t n) const {
        if (n == 0) return base < 32 && (mask >> base & 1) ? base : ~0u;
        int step = n > 0 ? 1 : -1;
        int64_t left = n > 0 ? n : -int64_t(n);
        for (int64_t i = base; i >= 0 && i < 32; i += step)
            if ((mask >> i & 1) && --left == 0) return uint32_t(i);
        return ~0u;
    }
};

template <bool wrap>
struct Bmsk {
    uint32_t operator()(uint32_t a, uint32_t b) const {
        if (wrap) a &= 31, b &= 31;
        if (a >= 32 || b == 0) return 0;
        uint32_t ones = b >= 32 ? ~0u : (1u << b) - 1;
        return ones << a;
    }
};
template <bool wrap>
struct Szext {
    template <class T>
    T operator()(T a, uint32_t n) const {
        if (wrap) n &= 31;
        if (n >= 32) return a;
        if (n == 0) return 0;
        if constexpr (std::is_signed_v<T>)
            return T(uint32_t(a) << (32 - n)) >> (32 - n);
        else
            return a & ((1u << n) - 1);
    }
};

SOFTGPU_INLINE uint32_t lut(uint32_t a, uint32_t b, uint32_t c, unsigned table) {
    uint32_t r = 0;
    for (unsigned k = 0; k < 8; ++k) {
        uint32_t term = (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
        r |= term & (table >> k & 1 ? ~0u : 0u);
    }
    return r;
}
void lop3(Warp& w, const Instr& in) {
    const auto *a = w.reg<uint32_t>(in.op[1]), *b = w.reg<uint32_t>(in.op[2]), *c = w.reg<uint32_t>(in.op[3]);
    unsigned table = unsigned(in.imm);
    each(w, w.reg<uint32_t>(in.op[0]), [=](unsigned i) { return lut(a[i], b[i], c[i], table); });
}

template <class T>
void bfi(Warp& w, const Instr& in) {  // op: d, field, base, position, length
    constexpr uint32_t bits = 8 * sizeof(T);
    const T *a = w.reg<T>(in.op[1]), *b = w.reg<T>(in.op[2]);
    const auto *p = w.reg<uint32_t>(in.op[3]), *n = w.reg<uint32_t>(in.op[4]);
    each(w, w.reg<T>(in.op[0]), [=](unsigned i) {
        uint32_t position = p[i] & 0xff, length = n[i] & 0xff;
        if (position >= bits || length == 0) return b[i];
        T ones = length >= bits ? T(~T(0)) : T((T(1) << length) - 1);
        T mask = T(ones << position);
        return T((b[i] & ~mask) | (a[i] << position & mask));
    });
}

// flag[0]: 0 generic selector, 1 f4e, 2 b4e, 3 rc8, 4 ecl, 5 ecr, 6 rc16.
void prmt(Warp& w, const Instr& in) {
    const auto *a = w.reg<uint32_t>(in.op[1]), *b = w.reg<uint32_t>(in.op[2]), *c = w.reg<uint32_t>(in.op[3]);
    uint8_t mode = in.flag[0];
    each(w, w.reg<uint32_t>(in.op[0]), [=](unsigned i) {
        uint64_t bytes = uint64_t(b[i]) << 32 | a[i];
        uint32_t select = c[i], s = select & 3, r = 0;
        for (unsigned k = 0; k < 4; ++k) {
            uint32_t n = 0;
            switch (mode) {
                case 0:
                    n = select >> (4 * k) & 15;
                    break;
                case 1:
                    n = s + k;
                    break;
                case 2:
                    n = (s - k) & 7;
                    break;
                case 3:
                    n = s;
                    break;
                case 4:
                    n = k < s ? s : k;
                    break;
                case 5:
                    n = k > s ? s : k;
                    break;
                case 6:
                    n = (s & 1) * 2 + (k & 1);
                    break;
            }
            uint32_t byte = uint32_t(bytes >> (8 * (n & 7))) & 0xff;
            if (mode == 0 && n & 8) byte = byte & 0x80 ? 0xff : 0;
            r |= byte << (8 * k);
        }
        return r;
    });
}

// flag[0] and [1]: the operands' bytes are signed; flag[2]: dp2a takes the upper half of b.
void dp4a(Warp& w, const Instr& in) {
    const auto *a = w.reg<uint32_t>(in.op[1]), *b = w.reg<uint32_t>(in.op[2]), *c = w.reg<uint32_t>(in.op[3]);
    bool sa = in.flag[0], sb = in.flag[1];
    each(w, w.reg<uint32_t>(in.op[0]), [=](unsigned i) {
        uint32_t sum = c[i];
        for (unsigned k = 0; k < 32; k += 8) {
            int32_t x = sa ? int8_t(a[i] >> k) : int32_t(uint8_t(a[i] >> k));
            int32_t y = sb ? int8_t(b[i] >> k) : int32_t(uint8_t(b[i] >> k));
            sum += uint32_t(x * y);
        }
        return sum;
    });
}
void dp2a(Warp& w, const Instr& in) {
    const auto *a = w.reg<uint32_t>(in.op[1]), *b = w.reg<uint32_t>(in.op[2]), *c = w.reg<uint32_t>(in.op[3]);
    bool sa = in.flag[0], sb = in.flag[1];
    unsigned base = in.flag[2] ? 16 : 0;
    each(w, w.reg<uint32_t>(in.op[0]), [=](unsigned i) {
        uint32_t sum = c[i];
        for (unsigned k = 0; k < 2; ++k) {
            int32_t x = sa ? int16_t(a[i] >> (16 * k)) : int32_t(uint16_t(a[i] >> (16 * k)));
            int32_t y = sb ? int8_t(b[i] >> (base + 8 * k)) : int32_t(uint8_t(b[i] >> (base + 8 * k)));
            sum += uint32_t(x) * uint32_t(y);
        }
        return sum;
    });
}

template <class T>
void selp(Warp& w, const Instr& in) {
    const T *a = w.reg<T>(in.op[1]), *b = w.reg<T>(in.op[2]);
    uint32_t p = w.pred(in.op[3]) ^ (in.flag[0] ? ~0u : 0u);
    each(w, w.reg<T>(in.op[0]), [=](unsigned i) { return p >> i & 1 ? a[i] : b[i]; });
}
template <class T, class C>
void slct(Warp& w, const Instr& in) {
    const T *a = w.reg<T>(in.op[1]), *b = w.reg<T>(in.op[2]);
    const C* c = w.reg<C>(in.op[3]);
    each(w, w.reg<T>(in.op[0]), [=](unsigned i) { return c[i] >= C(0) ? a[i] : b[i]; });
}

template <class F>
Handler unary_by_width(Type t) {
    switch (size_of(t)) {
        case 2:
            return unary<uint16_t, uint16_t, F>;
        case 4:
            return unary<uint32_t, uint32_t, F>;
        case 8:
            return unary<uint64_t, uint64_t, F>;
        default:
            return nullptr;
    }
}
template <class F>
Handler binary_by_width(Type t) {
    switch (size_of(t)) {
        case 2:
            return binary<uint16_t, uint16_t, uint16_t, F>;
        case 4:
            return binary<uint32_t, uint32_t, uint32_t, F>;
        case 8:
            return binary<uint64_t, uint64_t, uint64_t, F>;
        default:
            return nullptr;
    }
}
template <class F>
Handler count(Type t) {
    if (size_of(t) == 4) return unary<uint32_t, uint32_t, F>;
    if (size_of(t) == 8) return unary<uint32_t, uint64_t, F>;
    return nullptr;
}
template <class F>
Handler find(Type t) {
    switch (t) {
        case Type::U32:
            return unary<uint32_t, uint32_t, F>;
        case Type::S32:
            return unary<uint32_t, int32_t, F>;
        case Type::U64:
            return unary<uint32_t, uint64_t, F>;
        case Type::S64:
            return unary<uint32_t, int64_t, F>;
        default:
            return nullptr;
    }
}
template <bool wrap>
Handler szext(Type t) {
    if (t == Type::U32) return binary<uint32_t, uint32_t, uint32_t, Szext<wrap>>;
    if (t == Type::S32) return binary<int32_t, int32_t, uint32_t, Szext<wrap>>;
    return nullptr;
}
Handler shift_left(Type t) {
    switch (size_of(t)) {
        case 2:
            return binary<uint16_t, uint16_t, uint32_t, Shl>;
        case 4:
            return binary<uint32_t, uint32_t, uint32_t, Shl>;
        case 8:
            return binary<uint64_t, uint64_t, uint32_t, Shl>;
        default:
            return nullptr;
    }
}
Handler shift_right(Type t) {
    switch (t) {
        case Type::S16:
            return binary<int16_t, int16_t, uint32_t, Shr>;
        case Type::S32:
            return binary<int32_t, int32_t, uint32_t, Shr>;
        case Type::S64:
            return binary<int64_t, int64_t, uint32_t, Shr>;
        case Type::U16:
        case Type::B16:
            return binary<uint16_t, uint16_t, uint32_t, Shr>;
        case Type::U32:
        case Type::B32:
            return binary<uint32_t, uint32_t, uint32_t, Shr>;
        case Type::U64:
        case Type::B64:
            return binary<uint64_t, uint64_t, uint32_t, Shr>;
        default:
            return nullptr;
    }
}
Handler extract(Type t) {
    switch (t) {
        case Type::U32:
            return ternary<uint32_t, uint32_t, uint32_t, uint32_t, Bfe>;
        case Type::S32:
            return ternary<int32_t, int32_t, uint32_t, uint32_t, Bfe>;
        case Type::U64:
            return ternary<uint64_t, uint64_t, uint32_t, uint32_t, Bfe>;
        case Type::S64:
            return ternary<int64_t, int64_t, uint32_t, uint32_t, Bfe>;
        default:
            return nullptr;
    }
}
template <Funnel f>
Handler funnel() {
    return ternary<uint32_t, uint32_t, uint32_t, uint32_t, Shf<f>>;
}

}  // namespace

Handler bits(Op op, Type t) {
    unsigned size = size_of(t);
    switch (op) {
        case Op::And:
            return binary_by_width<And>(t);
        case Op::Or:
            return binary_by_width<Or>(t);
        case Op::Xor:
            return binary_by_width<Xor>(t);
        case Op::Not:
            return unary_by_width<Not>(t);
        case Op::Cnot:
            return unary_by_width<Cnot>(t);
        case Op::Mov:
            return unary_by_width<Mov>(t);
        case Op::Shl:
            return shift_left(t);
        case Op::Shr:
            return shift_right(t);
        case Op::ShfLeftClamp:
            return funnel<Funnel::LeftClamp>();
        case Op::ShfLeftWrap:
            return funnel<Funnel::LeftWrap>();
        case Op::ShfRightClamp:
            return funnel<Funnel::RightClamp>();
        case Op::ShfRightWrap:
            return funnel<Funnel::RightWrap>();
        case Op::Lop3:
            return lop3;
        case Op::Bfe:
            return extract(t);
        case Op::Bfi:
            return size == 4 ? bfi<uint32_t> : size == 8 ? bfi<uint64_t> : nullptr;
        case Op::Bfind:
            return find<Bfind<false>>(t);
        case Op::BfindShift:
            return find<Bfind<true>>(t);
        case Op::Brev:
            return size == 4   ? unary<uint32_t, uint32_t, Brev>
                   : size == 8 ? unary<uint64_t, uint64_t, Brev>
                               : nullptr;
        case Op::Popc:
            return count<Popc>(t);
        case Op::Clz:
            return count<Clz>(t);
        case Op::Fns:
            return ternary<uint32_t, uint32_t, uint32_t, int32_t, Fns>;
        case Op::Prmt:
            return prmt;
        case Op::SzextClamp:
            return szext<false>(t);
        case Op::SzextWrap:
            return szext<true>(t);
        case Op::BmskClamp:
            return binary<uint32_t, uint32_t, uint32_t, Bmsk<false>>;
        case Op::BmskWrap:
            return binary<uint32_t, uint32_t, uint32_t, Bmsk<true>>;
        case Op::Dp4a:
            return dp4a;
        case Op::Dp2aLo:
        case Op::Dp2aHi:
            return dp2a;
        case Op::Selp:
            return size == 2   ? selp<uint16_t>
                   : size == 4 ? selp<uint32_t>
                   : size == 8 ? selp<uint64_t>
                               : nullptr;
        case Op::Slct:
            return size == 2   ? slct<uint16_t, int32_t>
                   : size == 4 ? slct<uint32_t, int32_t>
                   : size == 8 ? slct<uint64_t, int32_t>
                               : nullptr;
        case Op::SlctF:
            return size == 2   ? slct<uint16_t, float>
                   : size == 4 ? slct<uint32_t, float>
                   : size == 8 ? slct<uint64_t, float>
                               : nullptr;
        default:
            return nullptr;
    }
}

}  // namespace softgpu::ptx::SOFTGPU_LEVEL
