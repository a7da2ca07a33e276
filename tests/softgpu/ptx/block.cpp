// SPDX-License-Identifier: MIT
// A block in a worker's hand: its memory, its warps, its barriers.
#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <thread>

#include "runtime.h"

namespace softgpu::ptx {

Block::Block(Worker& worker, LaunchState& launch)
    : worker(worker),
      launch(launch),
      warps(launch.warps),
      barriers(16),
      free_frames_(launch.program->functions.size()) {
    shared_storage_.resize(launch.shared_bytes + 1024);
    shared = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(shared_storage_.data()) + 1023) &
                                        ~uintptr_t{1023});
    if (launch.local_bytes) {
        local_mapped_ = uint64_t{launch.local_bytes} * kLanes * launch.warps;
        void* p = mmap(nullptr, local_mapped_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) throw std::bad_alloc();
        local = static_cast<uint8_t*>(p);
    }
    for (BarrierState& b : barriers) b.lanes.assign(launch.warps, 0);
    const Dim3& d = launch.launch.block;
    for (uint32_t i = 0; i < launch.warps; ++i) {
        Warp& w = warps[i];
        w.index = i;
        w.block = this;
        w.worker = &worker;
        w.base[1] = launch.program->constants.data();
        w.shared = shared;
        w.shared_bytes = launch.shared_bytes;
        w.local = local ? local + uint64_t{i} * kLanes * launch.local_bytes : nullptr;
        w.local_bytes = launch.local_bytes;
        w.params = reinterpret_cast<const uint8_t*>(launch.params.data());
        w.param_bytes = static_cast<uint32_t>(launch.params.size());
        w.ranges[0] = worker.ranges[0];
        w.ranges[1] = worker.ranges[1];
        w.entry = take_frame(launch.entry);
        for (uint32_t lane = 0; lane < kLanes; ++lane) {
            uint32_t t = i * kLanes + lane;
            w.tid[0][lane] = t % d.x;
            w.tid[1][lane] = t / d.x % d.y;
            w.tid[2][lane] = t / d.x / d.y;
        }
    }
}

Block::~Block() {
    if (local) munmap(local, local_mapped_);
    for (void* p : register_storage_) std::free(p);
}

void Block::start(uint64_t index) {
    const Dim3& g = launch.launch.grid;
    ctaid[0] = static_cast<uint32_t>(index % g.x);
    ctaid[1] = static_cast<uint32_t>(index / g.x % g.y);
    ctaid[2] = static_cast<uint32_t>(index / g.x / g.y);
    live_threads = launch.block_threads;
    for (BarrierState& b : barriers) {
        b.arrived = b.expected = b.popc = b.contributors = 0;
        std::fill(b.lanes.begin(), b.lanes.end(), 0);
    }
    for (Warp& w : warps) {
        uint32_t threads = launch.block_threads - w.index * kLanes;
        w.live = threads >= kLanes ? ~0u : (1u << threads) - 1;
        w.carry = 0;
        w.rotate = false;
        w.entry->lanes = w.live;
        w.fragments.clear();
        w.fragments.push_back(Fragment{.ip = launch.entry->code.data(), .frame = w.entry, .mask = w.live});
    }
}

Block::Status Block::step() {
    progress = false;
    bool ran = false, busy = false;
    for (Warp& w : warps) {
        if (!w.live) continue;
        bool any = run_warp(w);
        ran |= any;
        busy |= any && !w.polled;
        if (launch.stopped.load(std::memory_order_relaxed)) return Status::Done;
    }
    if (live_threads == 0) return Status::Done;
    if (!ran && !progress) {
        for (Warp& w : warps)
            if (force_collective(w)) return Status::Running;
        const Warp* stuck = nullptr;
        for (Warp& w : warps)
            if (w.live && !stuck) stuck = &w;
        throw Fault(Fault::Kind::IllegalInstruction,
                    "threads wait at a barrier that the others never reach, " +
                        where_of(*stuck, *stuck->fragments.front().waiting,
                                 static_cast<unsigned>(std::countr_zero(stuck->fragments.front().mask))));
    }
    return busy || progress ? Status::Running : Status::Spinning;
}

Frame* Block::take_frame(const Function* f) {
    auto& free = free_frames_[f->index];
    if (!free.empty()) {
        Frame* frame = free.back();
        free.pop_back();
        return frame;
    }
    Frame& frame = frames_.emplace_back();
    void* storage = std::aligned_alloc(256, (f->register_bytes + 511) & ~255u);
    if (!storage) throw std::bad_alloc();
    std::memset(storage, 0, (f->register_bytes + 511) & ~255u);
    register_storage_.push_back(storage);
    frame.function = f;
    frame.registers = static_cast<uint8_t*>(storage);
    return &frame;
}

void Block::give_frame(Frame* frame) {
    free_frames_[frame->function->index].push_back(frame);
}

bool Block::complete(const BarrierState& b) const {
    if (b.arrived == 0) return false;
    if (b.expected == 0) return b.arrived == live_threads;
    // A count is in whole warps: lanes that are gone or never were count as arrived with the others.
    uint32_t threads = 0;
    for (size_t i = 0; i < b.lanes.size(); ++i)
        threads += b.lanes[i] && b.lanes[i] == warps[i].live
                       ? kLanes
                       : static_cast<uint32_t>(std::popcount(b.lanes[i]));
    return threads >= b.expected;
}

void Block::arrive(Warp& w, const Instr& in, uint32_t number, uint32_t expected) {
    BarrierState& b = barriers[number];
    uint32_t lanes = w.mask;
    b.lanes[w.index] |= lanes;
    b.arrived += static_cast<uint32_t>(std::popcount(lanes));
    if (expected) b.expected = expected;
    if (static_cast<BarrierUse::Mode>(in.flag[0]) == BarrierUse::Mode::Reduce) {
        uint32_t p = w.pred(in.op[3]);
        b.popc += static_cast<uint32_t>(std::popcount((in.flag[2] ? ~p : p) & lanes));
        b.contributors += static_cast<uint32_t>(std::popcount(lanes));
    }
    if (complete(b)) release(number);
}

void Block::check_barriers() {
    for (uint32_t i = 0; i < barriers.size(); ++i)
        if (barriers[i].arrived && complete(barriers[i])) release(i);
}

void Block::release(uint32_t number) {
    BarrierState& b = barriers[number];
    progress = true;
    for (Warp& w : warps) {
        if (!b.lanes[w.index]) continue;
        b.lanes[w.index] = 0;
        for (Fragment& f : w.fragments) {
            if (f.state != Fragment::State::Barrier || f.barrier != number) continue;
            f.state = Fragment::State::Ready;
            const Instr& in = *f.waiting;
            if (static_cast<BarrierUse::Mode>(in.flag[0]) != BarrierUse::Mode::Reduce) continue;
            uint8_t* registers = f.frame->registers;
            if (in.flag[1] == static_cast<uint8_t>(BarrierUse::Reduce::Popc)) {
                auto* d = reinterpret_cast<uint32_t*>(registers + in.op[2]);
                for (uint32_t left = f.mask; left; left &= left - 1) d[std::countr_zero(left)] = b.popc;
            } else {
                bool all = in.flag[1] == static_cast<uint8_t>(BarrierUse::Reduce::And);
                bool result = all ? b.popc == b.contributors : b.popc != 0;
                auto& p = *reinterpret_cast<uint32_t*>(registers + in.op[2]);
                p = result ? p | f.mask : p & ~f.mask;
            }
        }
    }
    b.arrived = b.expected = b.popc = b.contributors = 0;
}

}  // namespace softgpu::ptx
