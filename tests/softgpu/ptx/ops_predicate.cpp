// SPDX-License-Identifier: MIT
// setp, set, testp and logic on predicates. For the comparisons op[2], op[3] are the inputs, op[4] the
// predicate combined with; flag: [0] 0 none, 1 and, 2 or, 3 xor; [1] that predicate is negated.
#include <cmath>

#include "half.h"
#include "warp.h"

namespace softgpu::ptx::plain {

namespace {

uint32_t combine(const Warp& w, const Instr& in, uint32_t lanes) {
    if (in.flag[0] == 0) return lanes;
    uint32_t c = w.pred(in.op[4]) ^ (in.flag[1] ? ~0u : 0u);
    return in.flag[0] == 1 ? lanes & c : in.flag[0] == 2 ? lanes | c : lanes ^ c;
}

uint32_t compare(const Instr& in, const void* a, const void* b) {
    return reinterpret_cast<CompareFn>(reinterpret_cast<uintptr_t>(in.data))(a, b);
}

void setp_handler(Warp& w, const Instr& in) {
    uint32_t lanes = compare(in, w.reg<void>(in.op[2]), w.reg<void>(in.op[3]));
    uint32_t p = combine(w, in, lanes), q = combine(w, in, ~lanes);
    w.set_pred(in.op[0], p);
    if (in.op[1] != kNone) w.set_pred(in.op[1], q);
}

template <class T>
void set_lanes(Warp& w, const Instr& in, T yes) {
    uint32_t lanes = combine(w, in, compare(in, w.reg<void>(in.op[2]), w.reg<void>(in.op[3])));
    T* d = w.reg<T>(in.op[0]);
    for (uint32_t left = w.mask; left; left &= left - 1) {
        auto i = std::countr_zero(left);
        d[i] = lanes >> i & 1 ? yes : T(0);
    }
}

// Lane i's pair as two arrays, so that the comparison of single values serves.
void split(const uint32_t* from, uint16_t* low, uint16_t* high) {
    for (unsigned i = 0; i < kLanes; ++i) {
        low[i] = static_cast<uint16_t>(from[i]);
        high[i] = static_cast<uint16_t>(from[i] >> 16);
    }
}

struct PairLanes {
    uint32_t low, high;
};
PairLanes compare_pairs(const Warp& w, const Instr& in) {
    uint16_t a[2][kLanes], b[2][kLanes];
    split(w.reg<uint32_t>(in.op[2]), a[0], a[1]);
    split(w.reg<uint32_t>(in.op[3]), b[0], b[1]);
    return {combine(w, in, compare(in, a[0], b[0])), combine(w, in, compare(in, a[1], b[1]))};
}

void setp_pair(Warp& w, const Instr& in) {
    PairLanes p = compare_pairs(w, in);
    w.set_pred(in.op[0], p.low);
    if (in.op[1] != kNone) w.set_pred(in.op[1], p.high);
}

void set_pair_handler(Warp& w, const Instr& in) {  // flag[3]: 0 integers, 1 f16x2, 2 bf16x2
    PairLanes p = compare_pairs(w, in);
    uint32_t one = in.flag[3] == 1 ? 0x3c00 : in.flag[3] == 2 ? 0x3f80 : 0xffff;
    auto* d = w.reg<uint32_t>(in.op[0]);
    for (uint32_t left = w.mask; left; left &= left - 1) {
        auto i = std::countr_zero(left);
        d[i] = (p.low >> i & 1 ? one : 0) | (p.high >> i & 1 ? one << 16 : 0);
    }
}

template <Op op>
void logic(Warp& w, const Instr& in) {
    uint32_t a = w.pred(in.op[1]) ^ (in.flag[0] ? ~0u : 0u);
    if constexpr (op == Op::Mov) {
        w.set_pred(in.op[0], a);
    } else {
        uint32_t b = w.pred(in.op[2]) ^ (in.flag[1] ? ~0u : 0u);
        w.set_pred(in.op[0], op == Op::And ? a & b : op == Op::Or ? a | b : a ^ b);
    }
}

template <class T>
void testp_handler(Warp& w, const Instr& in) {
    const T* a = w.reg<T>(in.op[1]);
    uint32_t lanes = 0;
    for (unsigned i = 0; i < kLanes; ++i) {
        int c = std::fpclassify(a[i]);
        bool r = false;
        switch (in.flag[0]) {
            case 0:
                r = c != FP_NAN && c != FP_INFINITE;
                break;
            case 1:
                r = c == FP_INFINITE;
                break;
            case 2:
                r = c != FP_NAN;
                break;
            case 3:
                r = c == FP_NAN;
                break;
            case 4:
                r = c == FP_NORMAL;
                break;
            case 5:
                r = c == FP_SUBNORMAL;
                break;
        }
        lanes |= (r ? 1u : 0u) << i;
    }
    w.set_pred(in.op[0], lanes);
}

}  // namespace

Handler setp() {
    return setp_handler;
}

Handler set(Type result) {
    switch (result) {
        case Type::U32:
        case Type::S32:
            return [](Warp& w, const Instr& in) { set_lanes<uint32_t>(w, in, ~0u); };
        case Type::U16:
        case Type::S16:
            return [](Warp& w, const Instr& in) { set_lanes<uint16_t>(w, in, 0xffff); };
        case Type::F32:
            return [](Warp& w, const Instr& in) { set_lanes<float>(w, in, 1.0f); };
        case Type::F16:
            return [](Warp& w, const Instr& in) { set_lanes<uint16_t>(w, in, 0x3c00); };
        case Type::BF16:
            return [](Warp& w, const Instr& in) { set_lanes<uint16_t>(w, in, 0x3f80); };
        default:
            return nullptr;
    }
}

Handler set_pair(bool predicate) {
    return predicate ? setp_pair : set_pair_handler;
}

Handler predicate(Op op) {
    switch (op) {
        case Op::And:
            return logic<Op::And>;
        case Op::Or:
            return logic<Op::Or>;
        case Op::Xor:
            return logic<Op::Xor>;
        case Op::Mov:
            return logic<Op::Mov>;
        default:
            return nullptr;
    }
}

Handler testp(Type t) {
    if (t == Type::F32) return testp_handler<float>;
    if (t == Type::F64) return testp_handler<double>;
    return nullptr;
}

}  // namespace softgpu::ptx::plain
