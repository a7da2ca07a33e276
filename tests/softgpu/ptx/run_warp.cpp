// SPDX-License-Identifier: MIT
// The run loop of a warp. Lanes that part at a branch become fragments; blocks of code are laid out so that
// where paths meet again lies behind all of them (layout.cpp), so running the fragment that is furthest
// behind, deepest call first, brings them together at the earliest common point. A fragment ahead waits by
// preference only: when the one behind just polls memory, others run too, so lanes of one warp may wait for
// each other.
#include <immintrin.h>

#include <limits>

#include "ops.h"
#include "runtime.h"

namespace softgpu::ptx {

namespace {

constexpr int kFuel = 1024;   // backward branches and calls per turn
constexpr int kPolling = 16;  // what a backward branch costs a warp that polls memory
constexpr uint32_t kMaxDepth = 1 << 14;

const Instr* const kNowhere = reinterpret_cast<const Instr*>(std::numeric_limits<uintptr_t>::max());

bool can_merge(const Fragment& a, const Fragment& b) {
    auto mobile = [](const Fragment& f) {
        return f.state == Fragment::State::Ready || f.state == Fragment::State::Collective;
    };
    return a.frame == b.frame && a.ip == b.ip && mobile(a) && mobile(b);
}

void add(Warp& w, const Fragment& f) {
    for (Fragment& g : w.fragments) {
        if (!can_merge(f, g)) continue;
        g.mask |= f.mask;
        g.state = Fragment::State::Ready;
        g.forced |= f.forced;
        return;
    }
    w.fragments.push_back(f);
}

// Lane barriers and collectives whose missing lanes have exited meanwhile.
bool recheck(Warp& w) {
    uint32_t waiting = 0;
    bool any = false;
    for (Fragment& f : w.fragments)
        if (f.state == Fragment::State::WarpBarrier) waiting |= f.mask;
    for (Fragment& f : w.fragments) {
        if (f.state == Fragment::State::WarpBarrier && (f.barrier & w.live & ~waiting) == 0) {
            f.state = Fragment::State::Ready;
            any = true;
        }
    }
    return any;
}

bool before(const Fragment& a, const Fragment& b) {
    if (a.frame->depth != b.frame->depth) return a.frame->depth > b.frame->depth;
    return std::less<>{}(a.ip, b.ip);
}

// Takes the fragment to run out of the list; false when none can.
bool pick(Warp& w, Fragment& chosen) {
    auto& all = w.fragments;
    for (size_t i = 0; all.size() > 1 && i < all.size(); ++i) {
        for (size_t k = i + 1; k < all.size();) {
            if (can_merge(all[i], all[k])) {
                all[i].mask |= all[k].mask;
                all[i].state = Fragment::State::Ready;
                all[i].forced |= all[k].forced;
                all[k] = all.back();
                all.pop_back();
            } else {
                ++k;
            }
        }
    }
    for (;;) {
        Fragment* best = nullptr;
        for (Fragment& f : all) {
            if (f.state != Fragment::State::Ready) continue;
            if (!best || (w.rotate ? f.turn < best->turn : before(f, *best))) best = &f;
        }
        if (best) {
            chosen = *best;
            *best = all.back();
            all.pop_back();
            w.rotate = false;
            return true;
        }
        if (!recheck(w)) return false;
    }
}

const Instr* stop_for(const Warp& w, const Frame* frame, const Instr* ip) {
    const Instr* stop = kNowhere;
    for (const Fragment& f : w.fragments)
        if (f.frame == frame && f.state == Fragment::State::Ready && f.ip > ip && f.ip < stop) stop = f.ip;
    return stop;
}

void enter(Warp& w, Frame* frame, uint32_t mask) {
    w.frame = frame;
    w.base[0] = frame->registers;
    w.frame_base = frame->local_base;
    w.mask = mask;
    w.full = mask == w.live;
}

uint8_t* lane_local(const Warp& w, unsigned lane, uint32_t offset) {
    return w.local + uint64_t{lane} * w.local_bytes + offset;
}

void copy_slots(const Warp& w, uint32_t lanes, const std::vector<Slot>& from, uint32_t from_base,
                const std::vector<Slot>& to, uint32_t to_base) {
    for (size_t k = 0; k < from.size(); ++k)
        for (uint32_t left = lanes; left; left &= left - 1) {
            auto lane = static_cast<unsigned>(std::countr_zero(left));
            std::memcpy(lane_local(w, lane, to_base + to[k].offset),
                        lane_local(w, lane, from_base + from[k].offset), from[k].size);
        }
}

void push_frame(Warp& w, const Instr& in, const CallSite& site, const Function* callee, uint32_t lanes) {
    if (callee->code.empty()) fault_instruction(w, in, "call of a function without a body");
    if (callee->params.size() != site.arguments.size() || callee->results.size() != site.results.size())
        fault_instruction(w, in, "call with the wrong number of arguments");
    for (size_t k = 0; k < callee->params.size(); ++k)
        if (callee->params[k].size != site.arguments[k].size)
            fault_instruction(w, in, "call with an argument of the wrong size");
    for (size_t k = 0; k < callee->results.size(); ++k)
        if (callee->results[k].size != site.results[k].size)
            fault_instruction(w, in, "call with a result of the wrong size");
    Frame* caller = w.frame;
    uint32_t base = caller->local_base + caller->function->frame_bytes;
    if (uint64_t{base} + callee->frame_bytes > w.local_bytes || caller->depth + 1 > kMaxDepth)
        throw Fault(Fault::Kind::IllegalAddress,
                    "stack overflow, " + where_of(w, in, static_cast<unsigned>(std::countr_zero(lanes))));
    Frame* frame = w.block->take_frame(callee);
    frame->caller = caller;
    frame->site = &site;
    frame->resume = &in + 1;
    frame->lanes = lanes;
    frame->local_base = base;
    frame->depth = caller->depth + 1;
    copy_slots(w, lanes, site.arguments, caller->local_base, callee->params, base);
    enter(w, frame, lanes);
}

// The lanes leave the frame; frees it behind the last one.
void leave(Warp& w, Frame* frame, uint32_t lanes) {
    frame->lanes &= ~lanes;
    if (frame->lanes == 0 && frame->caller) w.block->give_frame(frame);
}

void exit_lanes(Warp& w, uint32_t lanes) {
    w.live &= ~lanes;
    for (Frame* f = w.frame; f;) {
        Frame* caller = f->caller;
        leave(w, f, lanes);
        f = caller;
    }
    w.block->live_threads -= static_cast<uint32_t>(std::popcount(lanes));
    w.block->progress = true;
    w.block->check_barriers();
}

// The union of the lanes named by the active lanes' member masks.
uint32_t members(const Warp& w, uint32_t operand, uint32_t lanes) {
    if (operand == kNone) return 0;
    const uint32_t* m = w.reg<uint32_t>(operand);
    uint32_t all = 0;
    for (uint32_t left = lanes; left; left &= left - 1) all |= m[std::countr_zero(left)];
    return all;
}

uint32_t first_value(const Warp& w, uint32_t operand, uint32_t lanes) {
    return operand == kNone ? 0 : w.reg<uint32_t>(operand)[std::countr_zero(lanes)];
}

void run_guarded(Warp& w, const Instr& in, uint32_t lanes) {
    uint32_t saved = w.mask;
    w.mask = lanes;
    w.full = lanes == w.live;
    if (in.csr) {
        _mm_setcsr(in.csr);
        in.fn(w, in);
        _mm_setcsr(kCsrDefault);
    } else {
        in.fn(w, in);
    }
    w.mask = saved;
    w.full = saved == w.live;
}

enum class Ended { Switch, OutOfFuel };

Ended run_fragment(Warp& w, const Fragment& fragment) {
    using State = Fragment::State;
    enter(w, fragment.frame, fragment.mask);
    const Instr* ip = fragment.ip;
    const Instr* stop = stop_for(w, w.frame, ip);
    bool forced = fragment.forced;

    auto park = [&](const Instr* at, uint32_t lanes, State state = State::Ready, uint32_t barrier = 0,
                    const Instr* waiting = nullptr) {
        add(w, Fragment{.ip = at,
                        .frame = w.frame,
                        .mask = lanes,
                        .state = state,
                        .barrier = barrier,
                        .turn = ++w.turn,
                        .waiting = waiting});
    };
    // The rest of a guarded control instruction's lanes goes on behind it.
    auto part = [&](uint32_t lanes) {
        if (lanes != w.mask) park(ip + 1, w.mask & ~lanes);
        w.mask = lanes;
        w.full = lanes == w.live;
    };

    for (;;) {
        const Instr& in = *ip;
        if (in.simple) [[likely]] {
            in.fn(w, in);
            if (++ip == stop) [[unlikely]] {
                park(ip, w.mask);
                return Ended::Switch;
            }
            continue;
        }
        uint32_t lanes = w.mask;
        if (in.guard != kNone) lanes &= in.guard_not ? ~w.pred(in.guard) : w.pred(in.guard);
        const Instr* to = ip + 1;
        switch (in.kind) {
            case Kind::Plain:
                if (lanes) run_guarded(w, in, lanes);
                break;
            case Kind::Jump:
                to = in.target;
                break;
            case Kind::Branch:
                if (lanes == w.mask) {
                    to = in.target;
                } else if (lanes == 0 || in.target == in.next) {
                    to = in.next;
                } else {
                    bool forward = in.target > in.next;
                    to = forward ? in.next : in.target;
                    const Instr* other = forward ? in.target : in.next;
                    uint32_t others = forward ? lanes : w.mask & ~lanes;
                    park(other, others);
                    w.mask &= ~others;
                    w.full = false;
                    if (other < stop && other > to) stop = other;
                }
                break;
            case Kind::BranchTable: {
                if (!lanes) break;
                part(lanes);
                const auto& table = *static_cast<const BranchTable*>(in.data);
                const uint32_t* index = w.reg<uint32_t>(in.op[0]);
                to = nullptr;
                uint32_t stay = 0;
                for (uint32_t left = lanes; left; left &= left - 1) {
                    auto lane = static_cast<unsigned>(std::countr_zero(left));
                    if (index[lane] >= table.targets.size())
                        fault_instruction(w, in, "brx.idx beyond its table");
                    const Instr* t = table.targets[index[lane]];
                    if (!to || t == to) {
                        to = t;
                        stay |= 1u << lane;
                    } else {
                        park(t, 1u << lane);
                    }
                }
                if (stay != lanes) {
                    park(to, stay);
                    return Ended::Switch;
                }
                if (!w.fragments.empty()) stop = stop_for(w, w.frame, to - 1);
                break;
            }
            case Kind::Call: {
                if (!lanes) break;
                const auto& site = *static_cast<const CallSite*>(in.data);
                const Function* callee = site.callee;
                uint32_t group = lanes;
                if (!callee) {
                    const uint64_t* target = w.reg<uint64_t>(site.target);
                    uint64_t first = target[std::countr_zero(lanes)];
                    group = 0;
                    for (uint32_t left = lanes; left; left &= left - 1) {
                        auto lane = static_cast<unsigned>(std::countr_zero(left));
                        if (target[lane] == first) group |= 1u << lane;
                    }
                    callee = w.block->launch.program->at_code_address(first);
                    if (!callee) fault_instruction(w, in, "call of an address that is no function");
                    if (group != lanes) {
                        park(ip, lanes & ~group);  // they come back to this call
                        if (lanes != w.mask) park(ip + 1, w.mask & ~lanes);
                        w.mask = lanes = group;
                        w.full = false;
                    }
                }
                if (callee->builtin != Builtin::None) {
                    uint32_t saved = w.mask;
                    w.mask = group;
                    call_builtin(w, in, site, callee->builtin);
                    w.mask = saved;
                    if (w.fragments.empty()) break;
                    park(ip + 1, w.mask);
                    return Ended::Switch;
                }
                part(group);
                push_frame(w, in, site, callee, group);
                to = callee->code.data();
                stop = kNowhere;
                if (--w.fuel <= 0) {
                    park(to, w.mask);
                    return Ended::OutOfFuel;
                }
                ip = to;
                continue;
            }
            case Kind::Return:
            case Kind::Exit: {
                if (!lanes) break;
                if (in.kind == Kind::Exit || !w.frame->caller) {
                    if (lanes != w.mask) park(ip + 1, w.mask & ~lanes);
                    exit_lanes(w, lanes);
                    return Ended::Switch;
                }
                if (lanes != w.mask) park(ip + 1, w.mask & ~lanes);
                Frame* frame = w.frame;
                Frame* caller = frame->caller;
                copy_slots(w, lanes, frame->function->results, frame->local_base, frame->site->results,
                           caller->local_base);
                to = frame->resume;
                leave(w, frame, lanes);
                enter(w, caller, lanes);
                if (!w.fragments.empty()) {
                    park(to, lanes);
                    return Ended::Switch;
                }
                stop = kNowhere;
                ip = to;
                continue;
            }
            case Kind::Trap:
                if (!lanes) break;
                throw Fault(Fault::Kind::Trap,
                            "trap, " + where_of(w, in, static_cast<unsigned>(std::countr_zero(lanes))));
            case Kind::Barrier: {
                if (!lanes) break;
                part(lanes);
                auto mode = static_cast<BarrierUse::Mode>(in.flag[0]);
                uint32_t number = first_value(w, in.op[0], lanes), count = first_value(w, in.op[1], lanes);
                if (number > 15) fault_instruction(w, in, "barrier number beyond 15");
                if (count % kLanes)
                    fault_instruction(w, in, "barrier thread count is no multiple of the warp size");
                bool wait = mode != BarrierUse::Mode::Arrive;
                if (wait) park(ip + 1, lanes, State::Barrier, number, &in);
                w.block->arrive(w, in, number, count);
                if (!wait) {
                    park(ip + 1, lanes);
                }
                return Ended::Switch;
            }
            case Kind::WarpBarrier: {
                if (!lanes) break;
                uint32_t needed = members(w, in.op[5], lanes);
                if ((needed & w.live & ~lanes) == 0) break;
                part(lanes);
                park(ip + 1, lanes, State::WarpBarrier, needed);
                recheck(w);
                return Ended::Switch;
            }
            case Kind::Collective: {
                if (!lanes) break;
                uint32_t needed = members(w, in.op[5], lanes);
                if ((needed & w.live & ~lanes) == 0 || forced) {
                    forced = false;
                    run_guarded(w, in, lanes);
                    break;
                }
                part(lanes);
                park(ip, lanes, State::Collective);
                return Ended::Switch;
            }
            case Kind::Pause:
                w.polled = true;
                park(ip + 1, w.mask);
                return Ended::OutOfFuel;
        }
        bool backward = to <= ip;
        ip = to;
        if (backward && (w.fuel -= w.polled ? kPolling : 1) <= 0) {
            park(ip, w.mask);
            return Ended::OutOfFuel;
        }
        if (ip >= stop) {
            park(ip, w.mask);
            return Ended::Switch;
        }
    }
}

}  // namespace

bool run_warp(Warp& w) {
    Fragment fragment;
    bool any = false;
    w.fuel = kFuel;
    w.polled = false;
    while (pick(w, fragment)) {
        any = true;
        if (run_fragment(w, fragment) == Ended::OutOfFuel) {
            w.rotate = w.polled;
            break;
        }
    }
    return any;
}

bool force_collective(Warp& w) {
    for (Fragment& f : w.fragments) {
        if (f.state != Fragment::State::Collective && f.state != Fragment::State::WarpBarrier) continue;
        f.forced = f.state == Fragment::State::Collective;
        f.state = Fragment::State::Ready;
        return true;
    }
    return false;
}

}  // namespace softgpu::ptx
