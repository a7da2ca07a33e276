// SPDX-License-Identifier: MIT
// Running a grid: a launch's state shared by its workers, a worker per CPU thread, the blocks a worker has in
// hand.
#pragma once

#include <atomic>
#include <deque>
#include <exception>
#include <mutex>
#include <string_view>
#include <vector>

#include "warp.h"

namespace softgpu::ptx {

struct LaunchState {
    const Program* program = nullptr;
    const Function* entry = nullptr;
    Launch launch;
    std::vector<std::byte>
        params;  // a copy: the caller's buffer may be shorter lived than a pool thread's glance
    const AccessCheck* may_access = nullptr;
    const std::function<void(std::string_view)>* print = nullptr;
    uint64_t grid_id = 0;
    // What cooperative groups finds through %envreg1 and %envreg2: its size in bytes and the grid's barrier.
    alignas(16) uint32_t workspace[4] = {sizeof workspace, 0, 0, 0};

    uint64_t blocks = 0;
    uint32_t block_threads = 0, warps = 0, workers = 1;
    uint32_t shared_bytes = 0, local_bytes = 0;

    std::atomic<uint64_t> next_block{0};
    std::atomic<bool> stopped{false};  // a fault happened: everyone ends at the next chance
    std::mutex mutex;                  // of fault and of calls of print
    std::exception_ptr fault;

    bool cancelled() const { return launch.cancel && launch.cancel->load(std::memory_order_relaxed); }
    void set_fault(std::exception_ptr e) {
        std::lock_guard lock(mutex);
        if (!fault) fault = e;
        stopped = true;
    }
};

struct BarrierState {
    uint32_t arrived = 0;         // threads
    uint32_t expected = 0;        // threads as the instruction says; 0: all of the block
    std::vector<uint32_t> lanes;  // arrived lanes by warp
    uint32_t popc = 0;            // of bar.red
    uint32_t contributors = 0;
};

struct Block {
    enum class Status : uint8_t { Done, Running, Spinning };

    Block(Worker& worker, LaunchState& launch);
    ~Block();
    void start(uint64_t index);
    // Gives every warp a turn; Spinning when all that still run only poll or wait.
    Status step();

    // For the run loop.
    void arrive(Warp& w, const Instr& in, uint32_t barrier, uint32_t expected);
    void check_barriers();
    Frame* take_frame(const Function* f);
    void give_frame(Frame* frame);

    Worker& worker;
    LaunchState& launch;
    uint32_t ctaid[3] = {};
    uint32_t live_threads = 0;
    std::vector<Warp> warps;
    std::vector<BarrierState> barriers;
    uint8_t* shared = nullptr;
    uint8_t* local = nullptr;
    bool progress = false;

  private:
    void release(uint32_t barrier);
    bool complete(const BarrierState& b) const;

    std::vector<uint8_t> shared_storage_;
    size_t local_mapped_ = 0;
    std::vector<std::vector<Frame*>> free_frames_;  // by function
    std::deque<Frame> frames_;
    std::vector<void*> register_storage_;
};

struct Worker {
    explicit Worker(LaunchState& launch) : launch(launch) {}
    void run();

    LaunchState& launch;
    CachedRange ranges[2][kCachedRanges];
    // The latest texture and surface.
    struct {
        uint64_t handle = 0;
        std::shared_ptr<const Texture> texture;
    } textures[2];
};

// The run loop: executes w until every fragment waits or its fuel is used up. Returns true when it did
// anything.
bool run_warp(Warp& w);
// Frees fragments that wait for lanes which will not come; true when there was one.
bool force_collective(Warp& w);

void call_builtin(Warp& w, const Instr& in, const CallSite& site, Builtin builtin);

// "kernel f, block (x,y,z), thread (x,y,z), PTX line n"
std::string where_of(const Warp& w, const Instr& in, unsigned lane);

// Runs job(0) on the calling thread and job(1..count-1) on pool threads that become free before it ends.
void run_on_pool(unsigned count, const std::function<void()>& job);

}  // namespace softgpu::ptx
