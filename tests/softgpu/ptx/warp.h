// SPDX-License-Identifier: MIT
// State of a running warp as the instruction handlers see it. A warp's lanes form fragments, groups of lanes
// at the same instruction of the same activation; one fragment runs at a time and `mask` holds its lanes.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "program.h"

namespace softgpu::ptx {

struct Block;
struct Worker;

struct Frame {
    const Function* function = nullptr;
    Frame* caller = nullptr;
    const CallSite* site = nullptr;
    const Instr* resume = nullptr;  // in the caller, after the call
    uint8_t* registers = nullptr;
    uint32_t lanes = 0;       // that have not returned
    uint32_t local_base = 0;  // in each lane's local memory
    uint32_t depth = 0;
};

struct Fragment {
    enum class State : uint8_t { Ready, Barrier, WarpBarrier, Collective };
    const Instr* ip = nullptr;
    Frame* frame = nullptr;
    uint32_t mask = 0;
    State state = State::Ready;
    uint32_t barrier = 0;            // its number; for a WarpBarrier the lanes it needs
    bool forced = false;             // a Collective goes on with the lanes it has
    uint32_t turn = 0;               // when it last ran
    const Instr* waiting = nullptr;  // the barrier instruction, whose results are due on release
};

// Valid memory around earlier accesses of this worker.
struct CachedRange {
    uint64_t begin = 0, end = 0;
};
constexpr unsigned kCachedRanges = 64;

struct Warp {
    uint8_t* base[2] = {nullptr, nullptr};  // [0] the frame's registers, [1] the constants
    uint32_t mask = 0;                      // lanes of the running fragment, narrowed by a guard
    uint32_t live = 0;                      // lanes that have not exited
    bool full = false;                      // mask == live: registers of other lanes may be overwritten
    bool polled = false;                    // read memory others may write, or yielded, since last asked
    uint32_t carry = 0;                     // condition code, one bit per lane
    uint32_t frame_base = 0;                // the frame's local memory
    int fuel = 0;                           // backward branches until other warps get their turn

    uint8_t* local = nullptr;  // lane i's local memory starts at local + i * local_bytes
    uint32_t local_bytes = 0;
    uint8_t* shared = nullptr;
    uint32_t shared_bytes = 0;
    const uint8_t* params = nullptr;
    uint32_t param_bytes = 0;

    bool second = false;                          // which of two neighbouring entries the next range goes to
    CachedRange* ranges[2] = {nullptr, nullptr};  // for reads, for writes; kCachedRanges each, by Instr::slot

    alignas(64) uint32_t tid[3][kLanes] = {};
    uint32_t index = 0;  // in the block
    Block* block = nullptr;
    Worker* worker = nullptr;

    Frame* entry = nullptr;           // of the kernel itself
    Frame* frame = nullptr;           // of the running fragment
    std::vector<Fragment> fragments;  // all but the running one
    bool rotate = false;              // the next fragment to run is the one that waited longest
    uint32_t turn = 0;

    template <class T>
    T* reg(uint32_t operand) const {
        return reinterpret_cast<T*>(base[operand >> 31] + (operand & ~kConstant));
    }
    // A predicate's lane mask.
    uint32_t& pred(uint32_t operand) const { return *reg<uint32_t>(operand); }
    void set_pred(uint32_t operand, uint32_t lanes) const {
        uint32_t& p = pred(operand);
        p = (p & ~mask) | (lanes & mask);
    }
};

// In access.cpp. The host address of one lane's access in `space`; throws Fault when it is not allowed.
uint8_t* host_address(Warp& w, const Instr& in, Space space, unsigned lane, uint64_t address, unsigned size,
                      bool write);
[[noreturn]] void fault_instruction(const Warp& w, const Instr& in, const char* what);

}  // namespace softgpu::ptx
