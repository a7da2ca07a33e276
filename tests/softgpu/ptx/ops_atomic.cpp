// SPDX-License-Identifier: MIT
// atom and red. Global memory may be touched by other host threads and the application at the same time, so
// these are real atomic operations of the host, sequentially consistent; lanes act one after the other. op:
// [0] old value or none, [1] operand, [2] new value of cas, [4] address.
#include "half.h"
#include "warp.h"

namespace softgpu::ptx::plain {

namespace {

template <class T, class F>
T exchange_by(T* p, F next) {  // next(old) -> new
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(p, &old, next(old), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
    }
    return old;
}

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

template <class T>
T add(T a, T b) {
    if constexpr (std::is_floating_point_v<T>)
        return a + b;
    else
        return static_cast<T>(static_cast<Bits<T>>(a) + static_cast<Bits<T>>(b));
}

template <class T, Atomic op>
T apply(uint8_t* at, T b, T c) {
    using U = Bits<T>;
    auto* p = reinterpret_cast<U*>(at);
    auto by = [&](auto f) {
        return std::bit_cast<T>(
            exchange_by(p, [&](U old) { return std::bit_cast<U>(f(std::bit_cast<T>(old))); }));
    };
    auto u = std::bit_cast<U>(b);
    if constexpr (op == Atomic::Exch)
        return std::bit_cast<T>(__atomic_exchange_n(p, u, __ATOMIC_SEQ_CST));
    else if constexpr (op == Atomic::Cas) {
        __atomic_compare_exchange_n(p, &u, std::bit_cast<U>(c), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        return std::bit_cast<T>(u);
    } else if constexpr (op == Atomic::Add && std::is_integral_v<T>)
        return std::bit_cast<T>(__atomic_fetch_add(p, u, __ATOMIC_SEQ_CST));
    else if constexpr (op == Atomic::Add)
        return by([&](T old) { return add(old, b); });
    else if constexpr (op == Atomic::And)
        return std::bit_cast<T>(__atomic_fetch_and(p, u, __ATOMIC_SEQ_CST));
    else if constexpr (op == Atomic::Or)
        return std::bit_cast<T>(__atomic_fetch_or(p, u, __ATOMIC_SEQ_CST));
    else if constexpr (op == Atomic::Xor)
        return std::bit_cast<T>(__atomic_fetch_xor(p, u, __ATOMIC_SEQ_CST));
    else if constexpr (op == Atomic::Min)
        return by([&](T old) { return b < old ? b : old; });
    else if constexpr (op == Atomic::Max)
        return by([&](T old) { return b > old ? b : old; });
    else if constexpr (op == Atomic::Inc)
        return by([&](T old) { return old >= b ? T(0) : T(old + 1); });
    else
        return by([&](T old) { return old == T(0) || old > b ? b : T(old - 1); });
}

template <class F>
void each_address(Warp& w, const Instr& in, unsigned size, F f) {
    w.polled = true;
    for (uint32_t left = w.mask; left; left &= left - 1) {
        auto i = static_cast<unsigned>(std::countr_zero(left));
        uint64_t a =
            in.address64
                ? w.reg<uint64_t>(in.op[4])[i] + static_cast<uint64_t>(in.imm)
                : static_cast<uint32_t>(w.reg<uint32_t>(in.op[4])[i] + static_cast<uint32_t>(in.imm));
        f(i, host_address(w, in, static_cast<Space>(in.space), i, a, size, true));
    }
}

template <class T, Atomic op>
void run(Warp& w, const Instr& in) {
    const T* b = w.reg<T>(in.op[1]);
    const T* c = in.op[2] == kNone ? nullptr : w.reg<T>(in.op[2]);
    T* d = in.op[0] == kNone ? nullptr : w.reg<T>(in.op[0]);
    each_address(w, in, sizeof(T), [&](unsigned i, uint8_t* p) {
        T old = apply<T, op>(p, b[i], c ? c[i] : T());
        if (d) d[i] = old;
    });
}

// add of 16-bit floating point, alone or in pairs, on whole words of memory of its size.
template <class F, class U>
void add_half(Warp& w, const Instr& in) {
    const U* b = w.reg<U>(in.op[1]);
    U* d = in.op[0] == kNone ? nullptr : w.reg<U>(in.op[0]);
    each_address(w, in, sizeof(U), [&](unsigned i, uint8_t* p) {
        U old = exchange_by(reinterpret_cast<U*>(p), [&](U v) {
            U sum = 0;
            for (unsigned k = 0; k < 8 * sizeof(U); k += 16) {
                double x = F::widen(static_cast<uint16_t>(v >> k)),
                       y = F::widen(static_cast<uint16_t>(b[i] >> k));
                sum = static_cast<U>(sum | static_cast<U>(F::narrow(x + y)) << k);
            }
            return sum;
        });
        if (d) d[i] = old;
    });
}

// exch and cas of 16 bits.
template <Atomic op>
void word16(Warp& w, const Instr& in) {
    const uint16_t* b = w.reg<uint16_t>(in.op[1]);
    const uint16_t* c = in.op[2] == kNone ? nullptr : w.reg<uint16_t>(in.op[2]);
    uint16_t* d = in.op[0] == kNone ? nullptr : w.reg<uint16_t>(in.op[0]);
    each_address(w, in, 2, [&](unsigned i, uint8_t* at) {
        auto* p = reinterpret_cast<uint16_t*>(at);
        uint16_t old = b[i];
        if constexpr (op == Atomic::Exch)
            old = __atomic_exchange_n(p, b[i], __ATOMIC_SEQ_CST);
        else
            __atomic_compare_exchange_n(p, &old, c[i], false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        if (d) d[i] = old;
    });
}

template <Atomic op>
Handler any_integer(Type t) {
    switch (t) {
        case Type::U32:
            return run<uint32_t, op>;
        case Type::S32:
            return run<int32_t, op>;
        case Type::U64:
            return run<uint64_t, op>;
        case Type::S64:
            return run<int64_t, op>;
        default:
            return nullptr;
    }
}
template <Atomic op>
Handler any_bits(Type t) {
    switch (size_of(t)) {
        case 2:
            if constexpr (op == Atomic::Exch || op == Atomic::Cas) return word16<op>;
            return nullptr;
        case 4:
            return run<uint32_t, op>;
        case 8:
            return run<uint64_t, op>;
        default:
            return nullptr;
    }
}

}  // namespace

Handler atomic(Atomic op, Type t) {
    switch (op) {
        case Atomic::Add:
            switch (t) {
                case Type::F32:
                    return run<float, Atomic::Add>;
                case Type::F64:
                    return run<double, Atomic::Add>;
                case Type::F16:
                    return add_half<Half, uint16_t>;
                case Type::F16x2:
                    return add_half<Half, uint32_t>;
                case Type::BF16:
                    return add_half<Bfloat, uint16_t>;
                case Type::BF16x2:
                    return add_half<Bfloat, uint32_t>;
                default:
                    return any_integer<Atomic::Add>(t);
            }
        case Atomic::Min:
            return any_integer<Atomic::Min>(t);
        case Atomic::Max:
            return any_integer<Atomic::Max>(t);
        case Atomic::And:
            return is_bits(t) && t != Type::B16 ? any_bits<Atomic::And>(t) : nullptr;
        case Atomic::Or:
            return is_bits(t) && t != Type::B16 ? any_bits<Atomic::Or>(t) : nullptr;
        case Atomic::Xor:
            return is_bits(t) && t != Type::B16 ? any_bits<Atomic::Xor>(t) : nullptr;
        case Atomic::Exch:
            return is_bits(t) ? any_bits<Atomic::Exch>(t) : nullptr;
        case Atomic::Cas:
            return is_bits(t) ? any_bits<Atomic::Cas>(t) : nullptr;
        case Atomic::Inc:
            return t == Type::U32 ? run<uint32_t, Atomic::Inc> : nullptr;
        case Atomic::Dec:
            return t == Type::U32 ? run<uint32_t, Atomic::Dec> : nullptr;
    }
    return nullptr;
}

}  // namespace softgpu::ptx::plain
