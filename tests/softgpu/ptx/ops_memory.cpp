// SPDX-License-Identifier: MIT
// Loads and stores. A warp's addresses are mostly neighbours or all the same: those cases move the whole warp
// after one check, the rest lane by lane. op[0..3] are the values, op[4] the address register or none.
#include "lanes.h"

namespace softgpu::ptx::SOFTGPU_LEVEL {

namespace {

enum class Pattern { Lanes, Neighbours, Same, Spread };

// Where the warp's accesses go. Lanes: address by address, unchecked yet. Otherwise checked and aligned.
struct Where {
    Pattern pattern = Pattern::Lanes;
    uint8_t* at = nullptr;  // of lane 0, or for Spread the window's begin, to which lane offsets are added
};

template <class A>
SOFTGPU_INLINE Pattern pattern_of(const A* a, uint64_t stride) {
    A first = a[0], step = static_cast<A>(stride), apart = 0, differ = 0;
    for (unsigned i = 0; i < kLanes; ++i) {
        apart |= static_cast<A>(a[i] - (first + static_cast<A>(i) * step));
        differ |= a[i] ^ first;
    }
    return apart == 0 ? Pattern::Neighbours : differ == 0 ? Pattern::Same : Pattern::Spread;
}

// The bounds of Spread addresses and the bits set in any.
template <class A>
SOFTGPU_INLINE void bounds(const A* a, A& low, A& high, A& any) {
    low = high = a[0];
    any = 0;
    for (unsigned i = 0; i < kLanes; ++i) {
        low = a[i] < low ? a[i] : low;
        high = a[i] > high ? a[i] : high;
        any |= a[i];
    }
}

SOFTGPU_INLINE bool within(const Warp& w, const Instr& in, uint64_t begin, uint64_t size, bool write) {
    const CachedRange& r = w.ranges[write][in.slot];
    return begin >= r.begin && begin <= r.end && size <= r.end - begin;
}

// total: bytes of a lane's whole access. All 32 lanes are active.
SOFTGPU_INLINE Where where_global(Warp& w, const Instr& in, const uint64_t* a, uint64_t total, bool write) {
    Pattern p = pattern_of(a, total);
    uint64_t begin = a[0] + static_cast<uint64_t>(in.imm), span = total;
    if (p == Pattern::Neighbours) span *= kLanes;
    uint64_t any = begin;
    if (p == Pattern::Spread) {
        uint64_t low, high;
        bounds(a, low, high, any);
        begin = low + static_cast<uint64_t>(in.imm);
        span = high - low + total;
        any |= static_cast<uint64_t>(in.imm);
    }
    if (any & (total - 1))
        return {};  // the lane-wise path tells which lane; v4 of 8 bytes and such go there too
    if (!within(w, in, begin, span, write)) return {};
    return {p, reinterpret_cast<uint8_t*>(p == Pattern::Spread ? static_cast<uint64_t>(in.imm) : begin)};
}

template <class A>
SOFTGPU_INLINE Where where_shared(Warp& w, const Instr& in, const A* a, uint64_t total) {
    Pattern p = pattern_of(a, total);
    A begin = a[0] + static_cast<A>(in.imm), last = begin, any = begin;
    if (p == Pattern::Neighbours) last += static_cast<A>((kLanes - 1) * total);
    if (p == Pattern::Spread) {
        A low, high;
        bounds(a, low, high, any);
        any |= static_cast<A>(in.imm);
        // In 64 bits, as the lanes' addresses will be: offsets that wrap at 32 bits go lane by lane.
        uint64_t least = low + static_cast<uint64_t>(in.imm), most = high + static_cast<uint64_t>(in.imm);
        if (least > most || most > w.shared_bytes) return {};
        begin = static_cast<A>(least);
        last = static_cast<A>(most);
    }
    if (any & (total - 1) || begin > last || last > w.shared_bytes || total > w.shared_bytes - last)
        return {};
    return {p, p == Pattern::Spread ? w.shared + in.imm : w.shared + begin};
}

// Which window the generic addresses of a full warp lie in: Global, Shared, or Generic for a mixture.
SOFTGPU_INLINE Space window_of(const uint64_t* a) {
    uint32_t shared = 0, local = 0;
    for (unsigned i = 0; i < kLanes; ++i) {
        uint64_t window = a[i] & ~uint64_t{0xffffffff};
        shared += window == kSharedWindow;
        local += window == kLocalWindow || window == kParamWindow;
    }
    if (shared + local == 0) return Space::Global;
    return shared == kLanes ? Space::Shared : Space::Generic;
}

SOFTGPU_INLINE uint64_t lane_address(const Warp& w, const Instr& in, unsigned lane) {
    if (in.op[4] == kNone) return w.frame_base + static_cast<uint64_t>(in.imm);
    if (in.address64) return w.reg<uint64_t>(in.op[4])[lane] + static_cast<uint64_t>(in.imm);
    return static_cast<uint32_t>(w.reg<uint32_t>(in.op[4])[lane] + static_cast<uint32_t>(in.imm));
}

// One lane's access: checked here when it is an ordinary one, else by host_address.
template <Space space>
SOFTGPU_INLINE uint8_t* lane_pointer(Warp& w, const Instr& in, unsigned lane, uint64_t total, bool write) {
    uint64_t a = lane_address(w, in, lane);
    if (!(a & (total - 1))) [[likely]] {
        if constexpr (space == Space::Local || space == Space::Generic) {
            uint64_t offset = space == Space::Generic ? a - kLocalWindow : a;
            if (offset < w.local_bytes && total <= w.local_bytes - offset)
                return w.local + uint64_t{lane} * w.local_bytes + offset;
        }
        if constexpr (space == Space::Shared || space == Space::Generic) {
            uint64_t offset = space == Space::Generic ? a - kSharedWindow : a;
            if (offset < w.shared_bytes && total <= w.shared_bytes - offset) return w.shared + offset;
        }
        if constexpr (space == Space::Global || space == Space::Generic)
            if (within(w, in, a, total, write)) return reinterpret_cast<uint8_t*>(a);
    }
    return host_address(w, in, space, lane, a, static_cast<unsigned>(total), write);
}

// Spread addresses of 64 bits are host addresses (global) or offsets (shared); of 32 bits always offsets.
struct Resolved {
    Where where;
    bool wide = true;
};

template <Space space>
SOFTGPU_INLINE Resolved resolve(Warp& w, const Instr& in, uint64_t size, bool write) {
    uint64_t total = size * in.flag[0];
    Resolved r;
    if (w.mask != ~0u) return r;
    if constexpr (space == Space::Global) {
        r.where = where_global(w, in, w.reg<uint64_t>(in.op[4]), total, write);
    } else if constexpr (space == Space::Shared) {
        r.wide = in.address64;
        r.where = r.wide ? where_shared(w, in, w.reg<uint64_t>(in.op[4]), total)
                         : where_shared(w, in, w.reg<uint32_t>(in.op[4]), total);
    } else if constexpr (space == Space::Generic) {
        const uint64_t* a = w.reg<uint64_t>(in.op[4]);
        Space window = window_of(a);
        if (window == Space::Global) r.where = where_global(w, in, a, total, write);
        // Lanes of a uniform window; the lane-wise path handles the rest.
    }
    return r;
}

// Host addresses of all lanes at once, checked together; waiting lanes get an address that may be read too.
// False when something is amiss or the lanes' windows differ: lane_pointer finds out what.
template <Space space>
bool host_lanes(Warp& w, const Instr& in, uint64_t total, bool write, uint64_t* host) {
    uint32_t mask = w.mask;
    auto first = static_cast<unsigned>(std::countr_zero(mask));
    auto gather = [&](const auto* a, auto offset) {
        auto instead = a[first];
        for (unsigned i = 0; i < kLanes; ++i)
            host[i] = static_cast<decltype(offset)>((mask >> i & 1 ? a[i] : instead) + offset);
    };
    if (in.op[4] == kNone) {
        for (unsigned i = 0; i < kLanes; ++i) host[i] = w.frame_base + static_cast<uint64_t>(in.imm);
    } else if (in.address64) {
        gather(w.reg<uint64_t>(in.op[4]), static_cast<uint64_t>(in.imm));
    } else {
        gather(w.reg<uint32_t>(in.op[4]), static_cast<uint32_t>(in.imm));
    }
    uint64_t low, high, any;
    bounds(host, low, high, any);
    if (any & (total - 1)) return false;
    Space where = space;
    if constexpr (space == Space::Generic) {
        uint64_t window = low & ~uint64_t{0xffffffff};
        where = window == kSharedWindow  ? Space::Shared
                : window == kLocalWindow ? Space::Local
                                         : Space::Global;
        if (where != Space::Global) {
            if ((high & ~uint64_t{0xffffffff}) != window) return false;
            for (unsigned i = 0; i < kLanes; ++i) host[i] -= window;
            high -= window;
        }
    }
    switch (where) {
        case Space::Global:
            return within(w, in, low, high - low + total, write);
        case Space::Shared:
            if (high >= w.shared_bytes || total > w.shared_bytes - high) return false;
            for (unsigned i = 0; i < kLanes; ++i) host[i] += reinterpret_cast<uint64_t>(w.shared);
            return true;
        case Space::Local:
            if (high >= w.local_bytes || total > w.local_bytes - high) return false;
            for (unsigned i = 0; i < kLanes; ++i)
                host[i] += reinterpret_cast<uint64_t>(w.local) + uint64_t{i} * w.local_bytes;
            return true;
        default:
            return false;
    }
}

template <class M, class R, Space space>
void load_lanes(Warp& w, const Instr& in) {
    unsigned count = in.flag[0];
    alignas(64) uint64_t host[kLanes];
    if (host_lanes<space>(w, in, sizeof(M) * count, false, host)) {
        for (unsigned k = 0; k < count; ++k) {
            alignas(64) R t[kLanes];
            for (unsigned i = 0; i < kLanes; ++i)
                t[i] = static_cast<R>(reinterpret_cast<const M*>(host[i])[k]);
            each(w, w.reg<R>(in.op[k]), [&](unsigned i) { return t[i]; });
        }
        return;
    }
    for (uint32_t left = w.mask; left; left &= left - 1) {
        unsigned i = static_cast<unsigned>(std::countr_zero(left));
        const uint8_t* p = lane_pointer<space>(w, in, i, sizeof(M) * count, false);
        for (unsigned k = 0; k < count; ++k) {
            M value;
            std::memcpy(&value, p + k * sizeof(M), sizeof(M));
            w.reg<R>(in.op[k])[i] = static_cast<R>(value);
        }
    }
}

template <class M, class R, Space space>
void load(Warp& w, const Instr& in) {
    w.polled |= in.flag[1] != 0;
    Resolved r = resolve<space>(w, in, sizeof(M), false);
    const uint8_t* at = r.where.at;
    unsigned count = in.flag[0];
    switch (r.where.pattern) {
        case Pattern::Lanes:
            load_lanes<M, R, space>(w, in);
            return;
        case Pattern::Neighbours:
            if (count == 1) [[likely]] {
                R* d = w.reg<R>(in.op[0]);
                const M* s = reinterpret_cast<const M*>(at);
#pragma GCC ivdep
                for (unsigned i = 0; i < kLanes; ++i) d[i] = static_cast<R>(s[i]);
                return;
            }
            for (unsigned k = 0; k < count; ++k) {
                R* d = w.reg<R>(in.op[k]);
                const M* s = reinterpret_cast<const M*>(at) + k;
                for (unsigned i = 0; i < kLanes; ++i) d[i] = static_cast<R>(s[i * count]);
            }
            return;
        case Pattern::Same:
            for (unsigned k = 0; k < count; ++k) {
                R value = static_cast<R>(reinterpret_cast<const M*>(at)[k]);
                R* d = w.reg<R>(in.op[k]);
                for (unsigned i = 0; i < kLanes; ++i) d[i] = value;
            }
            return;
        case Pattern::Spread: {
            // The address register may be among the destinations, so it is read before they are written.
            alignas(64) uint64_t from[kLanes];
            if (r.wide) {
                const uint64_t* a = w.reg<uint64_t>(in.op[4]);
                for (unsigned i = 0; i < kLanes; ++i) from[i] = reinterpret_cast<uint64_t>(at) + a[i];
            } else {
                const uint32_t* a = w.reg<uint32_t>(in.op[4]);
                if (count == 1) {
                    R* d = w.reg<R>(in.op[0]);
#pragma GCC ivdep
                    for (unsigned i = 0; i < kLanes; ++i)
                        d[i] = static_cast<R>(*reinterpret_cast<const M*>(at + a[i]));
                    return;
                }
                for (unsigned i = 0; i < kLanes; ++i) from[i] = reinterpret_cast<uint64_t>(at) + a[i];
            }
            for (unsigned k = 0; k < count; ++k) {
                R* d = w.reg<R>(in.op[k]);
                for (unsigned i = 0; i < kLanes; ++i)
                    d[i] = static_cast<R>(reinterpret_cast<const M*>(from[i])[k]);
            }
            return;
        }
    }
}

template <class R, class M, Space space>
void store(Warp& w, const Instr& in) {
    Resolved r = resolve<space>(w, in, sizeof(M), true);
    uint8_t* at = r.where.at;
    unsigned count = in.flag[0];
    switch (r.where.pattern) {
        case Pattern::Lanes: {
            alignas(64) uint64_t host[kLanes];
            if (host_lanes<space>(w, in, sizeof(M) * count, true, host)) {
                for (unsigned k = 0; k < count; ++k) {
                    const R* s = w.reg<R>(in.op[k]);
                    for (uint32_t left = w.mask; left; left &= left - 1) {
                        auto i = static_cast<unsigned>(std::countr_zero(left));
                        reinterpret_cast<M*>(host[i])[k] = static_cast<M>(s[i]);
                    }
                }
                return;
            }
            for (uint32_t left = w.mask; left; left &= left - 1) {
                unsigned i = static_cast<unsigned>(std::countr_zero(left));
                uint8_t* p = lane_pointer<space>(w, in, i, sizeof(M) * count, true);
                for (unsigned k = 0; k < count; ++k) {
                    M value = static_cast<M>(w.reg<R>(in.op[k])[i]);
                    std::memcpy(p + k * sizeof(M), &value, sizeof(M));
                }
            }
            return;
        }
        case Pattern::Neighbours:
            for (unsigned k = 0; k < count; ++k) {
                const R* s = w.reg<R>(in.op[k]);
                M* d = reinterpret_cast<M*>(at) + k;
                if (count == 1) {
#pragma GCC ivdep
                    for (unsigned i = 0; i < kLanes; ++i) d[i] = static_cast<M>(s[i]);
                } else {
                    for (unsigned i = 0; i < kLanes; ++i) d[i * count] = static_cast<M>(s[i]);
                }
            }
            return;
        case Pattern::Same:
            for (unsigned k = 0; k < count; ++k)
                reinterpret_cast<M*>(at)[k] = static_cast<M>(w.reg<R>(in.op[k])[kLanes - 1]);
            return;
        case Pattern::Spread:
            for (unsigned k = 0; k < count; ++k) {
                const R* s = w.reg<R>(in.op[k]);
                for (unsigned i = 0; i < kLanes; ++i) {
                    uint64_t a = r.wide ? w.reg<uint64_t>(in.op[4])[i] : w.reg<uint32_t>(in.op[4])[i];
                    reinterpret_cast<M*>(at + a)[k] = static_cast<M>(s[i]);
                }
            }
            return;
    }
}

template <Space space>
Handler load_in(Type m, unsigned width) {
    switch (m) {
        case Type::U8:
        case Type::B8:
            return width == 2   ? load<uint8_t, uint16_t, space>
                   : width == 4 ? load<uint8_t, uint32_t, space>
                                : load<uint8_t, uint64_t, space>;
        case Type::S8:
            return width == 2   ? load<int8_t, uint16_t, space>
                   : width == 4 ? load<int8_t, uint32_t, space>
                                : load<int8_t, uint64_t, space>;
        case Type::U16:
        case Type::B16:
        case Type::F16:
        case Type::BF16:
            return width == 2   ? load<uint16_t, uint16_t, space>
                   : width == 4 ? load<uint16_t, uint32_t, space>
                                : load<uint16_t, uint64_t, space>;
        case Type::S16:
            return width == 2   ? load<uint16_t, uint16_t, space>
                   : width == 4 ? load<int16_t, uint32_t, space>
                                : load<int16_t, uint64_t, space>;
        case Type::U32:
        case Type::B32:
        case Type::F32:
        case Type::F16x2:
        case Type::BF16x2:
            return width == 4   ? load<uint32_t, uint32_t, space>
                   : width == 8 ? load<uint32_t, uint64_t, space>
                                : nullptr;
        case Type::S32:
            return width == 4   ? load<uint32_t, uint32_t, space>
                   : width == 8 ? load<int32_t, uint64_t, space>
                                : nullptr;
        case Type::U64:
        case Type::S64:
        case Type::B64:
        case Type::F64:
            return width == 8 ? load<uint64_t, uint64_t, space> : nullptr;
        default:
            return nullptr;
    }
}

template <Space space, class R>
Handler store_from(unsigned memory) {
    switch (memory) {
        case 1:
            return store<R, uint8_t, space>;
        case 2:
            return store<R, uint16_t, space>;
        case 4:
            if constexpr (sizeof(R) >= 4) return store<R, uint32_t, space>;
            return nullptr;
        case 8:
            if constexpr (sizeof(R) >= 8) return store<R, uint64_t, space>;
            return nullptr;
        default:
            return nullptr;
    }
}
template <Space space>
Handler store_in(unsigned width, unsigned memory) {
    switch (width) {
        case 2:
            return store_from<space, uint16_t>(memory);
        case 4:
            return store_from<space, uint32_t>(memory);
        case 8:
            return store_from<space, uint64_t>(memory);
        default:
            return nullptr;
    }
}

}  // namespace

Handler load(Type memory, unsigned width, Space space) {
    switch (space) {
        case Space::Global:
        case Space::Const:
            return load_in<Space::Global>(memory, width);
        case Space::Shared:
            return load_in<Space::Shared>(memory, width);
        case Space::Local:
            return load_in<Space::Local>(memory, width);
        case Space::Param:
            return load_in<Space::Param>(memory, width);
        case Space::Generic:
            return load_in<Space::Generic>(memory, width);
    }
    return nullptr;
}

Handler store(unsigned width, unsigned memory, Space space) {
    switch (space) {
        case Space::Global:
            return store_in<Space::Global>(width, memory);
        case Space::Shared:
            return store_in<Space::Shared>(width, memory);
        case Space::Local:
            return store_in<Space::Local>(width, memory);
        case Space::Generic:
            return store_in<Space::Generic>(width, memory);
        default:
            return nullptr;
    }
}

}  // namespace softgpu::ptx::SOFTGPU_LEVEL
