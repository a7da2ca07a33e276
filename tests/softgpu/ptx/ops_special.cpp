// SPDX-License-Identifier: MIT
// Special registers, addresses of frames and windows, packing, parameters, fences, asynchronous copies.
#include <x86intrin.h>

#include <atomic>
#include <chrono>

#include "ops.h"
#include "runtime.h"

namespace softgpu::ptx::plain {

namespace {

template <class F>
void active(const Warp& w, F f) {
    for (uint32_t left = w.mask; left; left &= left - 1) f(static_cast<unsigned>(std::countr_zero(left)));
}

template <class T>
void fill(const Warp& w, const Instr& in, T value) {
    T* d = w.reg<T>(in.op[0]);
    active(w, [&](unsigned i) { d[i] = value; });
}

// Blocks are dealt out in turn.
uint32_t multiprocessor(const Block& block) {
    const Launch& launch = block.launch.launch;
    const uint64_t index =
        (uint64_t{block.ctaid[2]} * launch.grid.y + block.ctaid[1]) * launch.grid.x + block.ctaid[0];
    uint64_t left = launch.multiprocessors;
    for (auto skip = index % static_cast<uint64_t>(std::popcount(left)); skip > 0; --skip) left &= left - 1;
    return static_cast<uint32_t>(std::countr_zero(left));
}

uint64_t nanoseconds() {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                     std::chrono::system_clock::now().time_since_epoch())
                                     .count());
}

template <int axis>
void tid(Warp& w, const Instr& in) {
    uint32_t* d = w.reg<uint32_t>(in.op[0]);
    active(w, [&](unsigned i) { d[i] = w.tid[axis][i]; });
}

struct Special {
    std::string_view name;
    Handler fn;
    bool wide = false;
};

constexpr Special kSpecials[] = {
    {"%tid.x", tid<0>},
    {"%tid.y", tid<1>},
    {"%tid.z", tid<2>},
    {"%ntid.x", [](Warp& w, const Instr& in) { fill(w, in, w.block->launch.launch.block.x); }},
    {"%ntid.y", [](Warp& w, const Instr& in) { fill(w, in, w.block->launch.launch.block.y); }},
    {"%ntid.z", [](Warp& w, const Instr& in) { fill(w, in, w.block->launch.launch.block.z); }},
    {"%ctaid.x", [](Warp& w, const Instr& in) { fill(w, in, w.block->ctaid[0]); }},
    {"%ctaid.y", [](Warp& w, const Instr& in) { fill(w, in, w.block->ctaid[1]); }},
    {"%ctaid.z", [](Warp& w, const Instr& in) { fill(w, in, w.block->ctaid[2]); }},
    {"%nctaid.x", [](Warp& w, const Instr& in) { fill(w, in, w.block->launch.launch.grid.x); }},
    {"%nctaid.y", [](Warp& w, const Instr& in) { fill(w, in, w.block->launch.launch.grid.y); }},
    {"%nctaid.z", [](Warp& w, const Instr& in) { fill(w, in, w.block->launch.launch.grid.z); }},
    {"%laneid",
     [](Warp& w, const Instr& in) {
         uint32_t* d = w.reg<uint32_t>(in.op[0]);
         active(w, [&](unsigned i) { d[i] = i; });
     }},
    {"%warpid", [](Warp& w, const Instr& in) { fill(w, in, w.index); }},
    {"%nwarpid", [](Warp& w, const Instr& in) { fill<uint32_t>(w, in, 32); }},
    {"%smid", [](Warp& w, const Instr& in) { fill(w, in, multiprocessor(*w.block)); }},
    {"%nsmid", [](Warp& w, const Instr& in) { fill(w, in, w.block->launch.launch.multiprocessor_ids); }},
    {"%gridid", [](Warp& w, const Instr& in) { fill<uint64_t>(w, in, w.block->launch.grid_id); }, true},
    {"%clock", [](Warp& w, const Instr& in) { fill(w, in, static_cast<uint32_t>(__rdtsc())); }},
    {"%clock_hi", [](Warp& w, const Instr& in) { fill(w, in, static_cast<uint32_t>(__rdtsc() >> 32)); }},
    {"%clock64", [](Warp& w, const Instr& in) { fill<uint64_t>(w, in, __rdtsc()); }, true},
    {"%globaltimer",
     [](Warp& w, const Instr& in) {
         w.polled = true;
         fill(w, in, nanoseconds());
     },
     true},
    {"%globaltimer_lo",
     [](Warp& w, const Instr& in) {
         w.polled = true;
         fill(w, in, static_cast<uint32_t>(nanoseconds()));
     }},
    {"%globaltimer_hi",
     [](Warp& w, const Instr& in) {
         w.polled = true;
         fill(w, in, static_cast<uint32_t>(nanoseconds() >> 32));
     }},
    {"%lanemask_eq",
     [](Warp& w, const Instr& in) {
         active(w, [&](unsigned i) { w.reg<uint32_t>(in.op[0])[i] = 1u << i; });
     }},
    {"%lanemask_lt",
     [](Warp& w, const Instr& in) {
         active(w, [&](unsigned i) { w.reg<uint32_t>(in.op[0])[i] = (1u << i) - 1; });
     }},
    {"%lanemask_le",
     [](Warp& w, const Instr& in) {
         active(w, [&](unsigned i) { w.reg<uint32_t>(in.op[0])[i] = (2u << i) - 1; });
     }},
    {"%lanemask_gt",
     [](Warp& w, const Instr& in) {
         active(w, [&](unsigned i) { w.reg<uint32_t>(in.op[0])[i] = ~((2u << i) - 1); });
     }},
    {"%lanemask_ge",
     [](Warp& w, const Instr& in) {
         active(w, [&](unsigned i) { w.reg<uint32_t>(in.op[0])[i] = ~((1u << i) - 1); });
     }},
    {"%dynamic_smem_size",
     [](Warp& w, const Instr& in) { fill(w, in, w.block->launch.launch.dynamic_shared_bytes); }},
    {"%total_smem_size", [](Warp& w, const Instr& in) { fill(w, in, w.shared_bytes); }},
};

const Special* find(std::string_view name) {
    for (const Special& s : kSpecials)
        if (s.name == name) return &s;
    return nullptr;
}

template <class T>
void store_uniform(Warp& w, const Instr& in, uint64_t value) {
    fill(w, in, static_cast<T>(value));
}

template <uint64_t window>
void to_generic(Warp& w, const Instr& in) {
    const uint64_t* a = w.reg<uint64_t>(in.op[1]);
    uint64_t* d = w.reg<uint64_t>(in.op[0]);
    active(w, [&](unsigned i) { d[i] = window + a[i]; });
}

void from_generic(Warp& w, const Instr& in) {
    const uint64_t* a = w.reg<uint64_t>(in.op[1]);
    uint64_t* d = w.reg<uint64_t>(in.op[0]);
    active(w, [&](unsigned i) { d[i] = a[i] & 0xffffffff; });
}

template <Space space>
void in_space(Warp& w, const Instr& in) {
    const uint64_t* a = w.reg<uint64_t>(in.op[1]);
    uint32_t lanes = 0;
    const Program& program = *w.block->launch.program;
    active(w, [&](unsigned i) {
        uint64_t window = a[i] & ~uint64_t{0xffffffff};
        bool special = window == kSharedWindow || window == kLocalWindow || window == kParamWindow;
        bool constant = false;
        if (!special && (space == Space::Const || space == Space::Global))
            for (const VariableDecl* v : program.ast.globals)
                if (v->space == Space::Const && a[i] - v->placed < v->size) constant = true;
        bool r = space == Space::Shared  ? window == kSharedWindow
                 : space == Space::Local ? window == kLocalWindow
                 : space == Space::Param ? window == kParamWindow
                 : space == Space::Const ? constant
                                         : !special && !constant;
        lanes |= (r ? 1u : 0u) << i;
    });
    w.set_pred(in.op[0], lanes);
}

template <class P, class W>
void pack_parts(Warp& w, const Instr& in) {
    W* d = w.reg<W>(in.op[0]);
    W t[kLanes] = {};
    for (unsigned k = 0; k < in.flag[0]; ++k) {
        const P* s = w.reg<P>(in.op[1 + k]);
        for (unsigned i = 0; i < kLanes; ++i)
            t[i] |= static_cast<W>(static_cast<W>(s[i]) << (8 * sizeof(P) * k));
    }
    active(w, [&](unsigned i) { d[i] = t[i]; });
}

template <class W, class P>
void unpack_parts(Warp& w, const Instr& in) {
    W s[kLanes];
    std::memcpy(s, w.reg<W>(in.op[4]), sizeof s);
    for (unsigned k = 0; k < in.flag[0]; ++k) {
        if (in.op[k] == kNone) continue;
        P* d = w.reg<P>(in.op[k]);
        active(w, [&](unsigned i) { d[i] = static_cast<P>(s[i] >> (8 * sizeof(P) * k)); });
    }
}

template <class M, class R>
void entry_param(Warp& w, const Instr& in) {
    for (unsigned k = 0; k < in.flag[0]; ++k) {
        M value;
        std::memcpy(&value, w.params + in.imm + k * sizeof(M), sizeof(M));
        R* d = w.reg<R>(in.op[k]);
        R extended = static_cast<R>(value);
        if (w.full) {
            for (unsigned i = 0; i < kLanes; ++i) d[i] = extended;
        } else {
            active(w, [&](unsigned i) { d[i] = extended; });
        }
    }
}

template <class M>
Handler entry_param_into(unsigned width) {
    switch (width) {
        case 2:
            if constexpr (sizeof(M) <= 2) return entry_param<M, uint16_t>;
            return nullptr;
        case 4:
            if constexpr (sizeof(M) <= 4) return entry_param<M, uint32_t>;
            return nullptr;
        case 8:
            return entry_param<M, uint64_t>;
        default:
            return nullptr;
    }
}

// op[4] source, imm its offset; op[0] destination, data its offset; op[1] bytes really copied, the rest zero.
void copy_async(Warp& w, const Instr& in) {
    unsigned size = in.flag[0];
    active(w, [&](unsigned i) {
        uint64_t from = w.reg<uint64_t>(in.op[4])[i] + static_cast<uint64_t>(in.imm);
        uint64_t to = in.flag[1] ? w.reg<uint64_t>(in.op[0])[i] : w.reg<uint32_t>(in.op[0])[i];
        to += reinterpret_cast<uint64_t>(in.data);
        uint8_t* d = host_address(w, in, Space::Shared, i, to, size, true);
        unsigned copied = in.op[1] == kNone ? size : std::min(size, w.reg<uint32_t>(in.op[1])[i]);
        if (copied) std::memcpy(d, host_address(w, in, Space::Global, i, from, size, false), copied);
        std::memset(d + copied, 0, size - copied);
    });
}

}  // namespace

Handler special(std::string_view name) {
    if (name == "%envreg1" || name == "%envreg2") {
        static constexpr auto half = [](Warp& w, const Instr& in, unsigned shift) {
            const LaunchState& launch = w.block->launch;
            uint64_t address = launch.launch.cooperative ? reinterpret_cast<uint64_t>(launch.workspace) : 0;
            fill(w, in, static_cast<uint32_t>(address >> shift));
        };
        if (name == "%envreg1") return [](Warp& w, const Instr& in) { half(w, in, 32); };
        return [](Warp& w, const Instr& in) { half(w, in, 0); };
    }
    if (name.starts_with("%envreg")) return [](Warp& w, const Instr& in) { fill<uint32_t>(w, in, 0); };
    const Special* s = find(name);
    return s ? s->fn : nullptr;
}

bool special_is_wide(std::string_view name) {
    const Special* s = find(name);
    return s && s->wide;
}

Handler frame_address() {
    return [](Warp& w, const Instr& in) {
        uint64_t value = w.frame_base + static_cast<uint64_t>(in.imm);
        in.flag[0] ? store_uniform<uint64_t>(w, in, value) : store_uniform<uint32_t>(w, in, value);
    };
}

Handler dynamic_shared_address() {
    return [](Warp& w, const Instr& in) {
        uint64_t value = w.block->launch.entry->static_shared + static_cast<uint64_t>(in.imm);
        in.flag[0] ? store_uniform<uint64_t>(w, in, value) : store_uniform<uint32_t>(w, in, value);
    };
}

Handler window_to_generic(Space space) {
    switch (space) {
        case Space::Shared:
            return to_generic<kSharedWindow>;
        case Space::Local:
            return to_generic<kLocalWindow>;
        case Space::Param:
            return to_generic<kParamWindow>;
        default:
            return nullptr;
    }
}

Handler generic_to_window() {
    return from_generic;
}

Handler isspacep(Space space) {
    switch (space) {
        case Space::Shared:
            return in_space<Space::Shared>;
        case Space::Local:
            return in_space<Space::Local>;
        case Space::Param:
            return in_space<Space::Param>;
        case Space::Const:
            return in_space<Space::Const>;
        case Space::Global:
            return in_space<Space::Global>;
        default:
            return nullptr;
    }
}

Handler pack(unsigned part, unsigned whole) {
    if (part == 2 && whole == 4) return pack_parts<uint16_t, uint32_t>;
    if (part == 2 && whole == 8) return pack_parts<uint16_t, uint64_t>;
    if (part == 4 && whole == 8) return pack_parts<uint32_t, uint64_t>;
    return nullptr;
}

Handler unpack(unsigned whole, unsigned part) {
    if (part == 2 && whole == 4) return unpack_parts<uint32_t, uint16_t>;
    if (part == 2 && whole == 8) return unpack_parts<uint64_t, uint16_t>;
    if (part == 4 && whole == 8) return unpack_parts<uint64_t, uint32_t>;
    return nullptr;
}

Handler load_entry_param(Type t, unsigned width) {
    if (is_signed(t)) {
        switch (size_of(t)) {
            case 1:
                return entry_param_into<int8_t>(width);
            case 2:
                return entry_param_into<int16_t>(width);
            case 4:
                return entry_param_into<int32_t>(width);
            default:
                return entry_param_into<int64_t>(width);
        }
    }
    switch (size_of(t)) {
        case 1:
            return entry_param_into<uint8_t>(width);
        case 2:
            return entry_param_into<uint16_t>(width);
        case 4:
            return entry_param_into<uint32_t>(width);
        default:
            return entry_param_into<uint64_t>(width);
    }
}

Handler fence() {
    return [](Warp&, const Instr&) { std::atomic_thread_fence(std::memory_order_seq_cst); };
}

Handler nothing() {
    return [](Warp&, const Instr&) {};
}

Handler cp_async() {
    return copy_async;
}

}  // namespace softgpu::ptx::plain
