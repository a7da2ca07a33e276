// SPDX-License-Identifier: MIT
// Slow paths of memory accesses: windows, the embedding driver's AccessCheck, faults with their place.
#include <utility>

#include "runtime.h"

namespace softgpu::ptx {

namespace {

std::string hex(uint64_t v) {
    char text[32];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(v));
    return text;
}

std::string triple(uint32_t x, uint32_t y, uint32_t z) {
    return "(" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + ")";
}

unsigned first_lane(const Warp& w) {
    return w.mask ? static_cast<unsigned>(std::countr_zero(w.mask)) : 0;
}

const char* space_name(Space s) {
    switch (s) {
        case Space::Shared:
            return "shared ";
        case Space::Local:
            return "local ";
        case Space::Param:
            return "parameter ";
        case Space::Global:
            return "global ";
        case Space::Const:
            return "constant ";
        case Space::Generic:
            return "";
    }
    return "";
}

[[noreturn]] void fault_at(const Warp& w, const Instr& in, unsigned lane, Space space, uint64_t address,
                           unsigned size, bool write) {
    throw Fault(Fault::Kind::IllegalAddress, std::string("illegal ") + space_name(space) +
                                                 (write ? "write" : "read") + " of " + std::to_string(size) +
                                                 " bytes at " + hex(address) + ", " + where_of(w, in, lane));
}

[[noreturn]] void misaligned_at(const Warp& w, const Instr& in, unsigned lane, uint64_t address,
                                unsigned size) {
    throw Fault(Fault::Kind::MisalignedAddress, "misaligned access of " + std::to_string(size) +
                                                    " bytes at " + hex(address) + ", " +
                                                    where_of(w, in, lane));
}

}  // namespace

std::string where_of(const Warp& w, const Instr& in, unsigned lane) {
    const uint32_t* c = w.block->ctaid;
    return "kernel " + w.block->launch.entry->name + ", block " + triple(c[0], c[1], c[2]) + ", thread " +
           triple(w.tid[0][lane], w.tid[1][lane], w.tid[2][lane]) + ", PTX line " + std::to_string(in.line);
}

void fault_instruction(const Warp& w, const Instr& in, const char* what) {
    throw Fault(Fault::Kind::IllegalInstruction, std::string(what) + ", " + where_of(w, in, first_lane(w)));
}

// Two neighbouring entries serve an instruction whose lanes go to two arrays; the latest is the one looked at
// first.
static void remember(Warp& w, const Instr& in, bool write, CachedRange range) {
    CachedRange& first = w.ranges[write][in.slot];
    if (first.end) w.ranges[write][in.slot ^ 1] = first;
    first = range;
}

static bool ask(Warp& w, const Instr& in, uint64_t address, unsigned size, bool write) {
    if (address + size < address) return false;
    LaunchState& launch = w.block->launch;
    auto workspace = reinterpret_cast<uint64_t>(launch.workspace);
    if (launch.launch.cooperative && address >= workspace &&
        address + size <= workspace + sizeof launch.workspace) {
        remember(w, in, write, {workspace, workspace + sizeof launch.workspace});
        return true;
    }
    AccessRange range = (*launch.may_access)(address, size, write);
    if (range.begin > address || range.end < address + size) return false;
    remember(w, in, write, {range.begin, range.end});
    return true;
}

uint8_t* host_address(Warp& w, const Instr& in, Space space, unsigned lane, uint64_t address, unsigned size,
                      bool write) {
    uint64_t asked = address;
    Space asked_space = space;
    if (address & (size - 1)) misaligned_at(w, in, lane, address, size);
    if (space == Space::Generic) {
        uint64_t window = address & ~uint64_t{0xffffffff};
        space = Space::Global;
        if (window == kSharedWindow)
            space = Space::Shared;
        else if (window == kLocalWindow)
            space = Space::Local;
        else if (window == kParamWindow)
            space = Space::Param;
        if (space != Space::Global) address -= window;
    }
    auto inside = [&](uint64_t limit) { return address < limit && size <= limit - address; };
    switch (space) {
        case Space::Shared:
            if (inside(w.shared_bytes)) return w.shared + address;
            break;
        case Space::Local:
            if (inside(w.local_bytes)) return w.local + uint64_t{lane} * w.local_bytes + address;
            break;
        case Space::Param:
            if (!write && inside(w.param_bytes)) return const_cast<uint8_t*>(w.params) + address;
            break;
        default: {
            CachedRange &first = w.ranges[write][in.slot], &second = w.ranges[write][in.slot ^ 1];
            auto known = [&](const CachedRange& r) {
                return address >= r.begin && address < r.end && size <= r.end - address;
            };
            if (!known(first) && known(second)) {
                if (first.end)
                    std::swap(first, second);
                else
                    first = second;
            }
            if (known(first) || ask(w, in, address, size, write)) return reinterpret_cast<uint8_t*>(address);
        }
    }
    fault_at(w, in, lane, asked_space, asked, size, write);
}

}  // namespace softgpu::ptx
