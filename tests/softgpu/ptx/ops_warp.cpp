// SPDX-License-Identifier: MIT
// Exchanges within a warp. The run loop has brought the lanes together; op[5] holds each lane's member mask.
#include "ops.h"
#include "warp.h"

namespace softgpu::ptx::plain {

namespace {

template <class F>
void active(const Warp& w, F f) {
    for (uint32_t left = w.mask; left; left &= left - 1) f(static_cast<unsigned>(std::countr_zero(left)));
}

// Lanes that take part together with lane i.
uint32_t peers(const Warp& w, const Instr& in, unsigned i) {
    return w.reg<uint32_t>(in.op[5])[i] & w.mask;
}

template <int mode>
void shuffle(Warp& w, const Instr& in) {
    uint32_t a[kLanes];
    std::memcpy(a, w.reg<uint32_t>(in.op[2]), sizeof a);
    const auto *b = w.reg<uint32_t>(in.op[3]), *c = w.reg<uint32_t>(in.op[4]);
    uint32_t result[kLanes], valid = 0;
    active(w, [&](unsigned i) {
        int lane = static_cast<int>(i), step = static_cast<int>(b[i] & 31),
            bound = static_cast<int>(c[i] & 31);
        int segment = static_cast<int>(c[i] >> 8 & 31);
        int most = (lane & segment) | (bound & ~segment), least = lane & segment;
        int from = 0;
        bool ok = false;
        switch (mode) {
            case 0:
                from = lane - step;
                ok = from >= most;
                break;
            case 1:
                from = lane + step;
                ok = from <= most;
                break;
            case 2:
                from = lane ^ step;
                ok = from <= most;
                break;
            case 3:
                from = least | (step & ~segment);
                ok = from <= most;
                break;
        }
        if (!ok) from = lane;
        valid |= (ok ? 1u : 0u) << i;
        // PTX leaves open what a lane that does not take part gives; programs count on the hardware's zero.
        result[i] = w.mask >> from & 1 ? a[from] : 0;
    });
    uint32_t* d = w.reg<uint32_t>(in.op[0]);
    active(w, [&](unsigned i) { d[i] = result[i]; });
    if (in.op[1] != kNone) w.set_pred(in.op[1], valid);
}

template <int mode>
void vote_lanes(Warp& w, const Instr& in) {
    uint32_t p = (w.pred(in.op[1]) ^ (in.flag[0] ? ~0u : 0u)) & w.mask, result = 0;
    active(w, [&](unsigned i) {
        uint32_t all = peers(w, in, i), yes = p & all;
        if constexpr (mode == 3) w.reg<uint32_t>(in.op[0])[i] = yes;
        bool r = mode == 0 ? yes == all : mode == 1 ? yes != 0 : yes == all || yes == 0;
        result |= (r ? 1u : 0u) << i;
    });
    if constexpr (mode != 3) w.set_pred(in.op[0], result);
}

template <class T, bool all>
void match_lanes(Warp& w, const Instr& in) {
    const T* a = w.reg<T>(in.op[2]);
    uint32_t result[kLanes], same = 0;
    active(w, [&](unsigned i) {
        uint32_t lanes = peers(w, in, i), equal = 0;
        for (uint32_t left = lanes; left; left &= left - 1) {
            auto k = std::countr_zero(left);
            if (a[k] == a[i]) equal |= 1u << k;
        }
        bool complete = equal == lanes;
        same |= (complete ? 1u : 0u) << i;
        result[i] = all && !complete ? 0 : equal;
    });
    uint32_t* d = w.reg<uint32_t>(in.op[0]);
    active(w, [&](unsigned i) { d[i] = result[i]; });
    if (in.op[1] != kNone) w.set_pred(in.op[1], same);
}

template <class T, Op op>
void reduce(Warp& w, const Instr& in) {
    T a[kLanes];
    std::memcpy(a, w.reg<T>(in.op[1]), sizeof a);
    T* d = w.reg<T>(in.op[0]);
    active(w, [&](unsigned i) {
        uint32_t left = peers(w, in, i);
        T r = a[std::countr_zero(left)];
        for (left &= left - 1; left; left &= left - 1) {
            T v = a[std::countr_zero(left)];
            switch (op) {
                case Op::Add:
                    r = static_cast<T>(static_cast<uint32_t>(r) + static_cast<uint32_t>(v));
                    break;
                case Op::Min:
                    r = v < r ? v : r;
                    break;
                case Op::Max:
                    r = v > r ? v : r;
                    break;
                case Op::And:
                    r &= v;
                    break;
                case Op::Or:
                    r |= v;
                    break;
                default:
                    r ^= v;
                    break;
            }
        }
        d[i] = r;
    });
}

template <Op op>
Handler pick_reduce(Type t) {
    if (t == Type::S32) return reduce<int32_t, op>;
    if (t == Type::U32 || t == Type::B32) return reduce<uint32_t, op>;
    return nullptr;
}

}  // namespace

Handler shfl(uint8_t mode) {
    constexpr Handler kModes[] = {shuffle<0>, shuffle<1>, shuffle<2>, shuffle<3>};
    return kModes[mode];
}

Handler vote(uint8_t mode) {
    constexpr Handler kModes[] = {vote_lanes<0>, vote_lanes<1>, vote_lanes<2>, vote_lanes<3>};
    return kModes[mode];
}

Handler match(bool all, unsigned width) {
    if (width == 8) return all ? match_lanes<uint64_t, true> : match_lanes<uint64_t, false>;
    return all ? match_lanes<uint32_t, true> : match_lanes<uint32_t, false>;
}

Handler redux(Op op, Type t) {
    switch (op) {
        case Op::Add:
            return t == Type::B32 ? nullptr : pick_reduce<Op::Add>(t);
        case Op::Min:
            return t == Type::B32 ? nullptr : pick_reduce<Op::Min>(t);
        case Op::Max:
            return t == Type::B32 ? nullptr : pick_reduce<Op::Max>(t);
        case Op::And:
            return pick_reduce<Op::And>(t);
        case Op::Or:
            return pick_reduce<Op::Or>(t);
        case Op::Xor:
            return pick_reduce<Op::Xor>(t);
        default:
            return nullptr;
    }
}

Handler elect() {
    return [](Warp& w, const Instr& in) {
        uint32_t leaders = 0;
        active(w, [&](unsigned i) {
            auto leader = static_cast<uint32_t>(std::countr_zero(peers(w, in, i)));
            w.reg<uint32_t>(in.op[0])[i] = leader;
            if (leader == i) leaders |= 1u << i;
        });
        w.set_pred(in.op[1], leaders);
    };
}

Handler activemask() {
    return [](Warp& w, const Instr& in) {
        active(w, [&](unsigned i) { w.reg<uint32_t>(in.op[0])[i] = w.mask; });
    };
}

}  // namespace softgpu::ptx::plain
