// SPDX-License-Identifier: MIT
// Spreading a grid's blocks over CPU threads. The calling thread always works on its own launch, so launches
// that wait for each other make progress however many of them hold pool threads.
#include <condition_variable>
#include <thread>

#include "runtime.h"

namespace softgpu::ptx {

namespace {

constexpr size_t kMaxResident = 1024;  // blocks a worker keeps in flight when they wait for each other
constexpr unsigned kLong = 4096;       // turns after which a block gets company in any case
constexpr unsigned kPatience = 16;     // turns a block may spin before another one is started beside it

class Pool {
  public:
    void run(unsigned helpers, const std::function<void()>& job) {
        auto task = std::make_shared<Task>();
        task->job = &job;
        {
            std::lock_guard lock(mutex_);
            for (; threads_ < helpers; ++threads_) std::thread([this] { serve(); }).detach();
            for (unsigned i = 0; i < helpers; ++i) queue_.push_back(task);
        }
        wake_.notify_all();
        job();
        std::unique_lock lock(mutex_);
        std::erase(queue_, task);
        done_.wait(lock, [&] { return task->running == 0; });
    }

  private:
    struct Task {
        const std::function<void()>* job = nullptr;
        unsigned running = 0;
    };

    void serve() {
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return !queue_.empty(); });
            std::shared_ptr<Task> task = queue_.front();
            queue_.pop_front();
            ++task->running;
            lock.unlock();
            (*task->job)();
            lock.lock();
            if (--task->running == 0) done_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::deque<std::shared_ptr<Task>> queue_;
    unsigned threads_ = 0;
};

}  // namespace

void run_on_pool(unsigned count, const std::function<void()>& job) {
    if (count <= 1) {
        job();
        return;
    }
    static Pool* pool = new Pool;  // never destroyed: its threads outlive static destructors
    pool->run(count - 1, job);
}

void Worker::run() {
    struct Resident {
        std::unique_ptr<Block> block;
        unsigned spins = 0, turns = 0;
    };
    std::vector<Resident> resident;
    std::vector<std::unique_ptr<Block>> spare;
    auto start = [&] {
        uint64_t index = launch.next_block.fetch_add(1, std::memory_order_relaxed);
        if (index >= launch.blocks) return false;
        if (spare.empty()) spare.push_back(std::make_unique<Block>(*this, launch));
        spare.back()->start(index);
        resident.push_back({std::move(spare.back())});
        spare.pop_back();
        return true;
    };
    // Blocks of a cooperative launch wait for each other: each worker takes its share at once.
    if (launch.launch.cooperative)
        for (uint64_t share = (launch.blocks + launch.workers - 1) / launch.workers; share > 0 && start();
             --share) {
        }
    size_t at = 0;
    unsigned idle = 0;
    while (!launch.stopped.load(std::memory_order_relaxed)) {
        if (launch.cancelled())
            throw Fault(Fault::Kind::Trap, "launch of " + launch.entry->name + " cancelled");
        if (resident.empty() && !start()) return;
        if (at >= resident.size()) at = 0;
        Resident& r = resident[at];
        switch (r.block->step()) {
            case Block::Status::Done:
                spare.push_back(std::move(r.block));
                resident.erase(resident.begin() + static_cast<std::ptrdiff_t>(at));
                idle = 0;
                break;
            case Block::Status::Running:
                r.spins = 0;
                idle = 0;
                if (resident.size() > 1) ++at;
                // It may poll by plain loads, which look like work.
                if (++r.turns % kLong == 0 && resident.size() < kMaxResident) start();
                break;
            case Block::Status::Spinning:
                ++at;
                if (++r.spins < kPatience) break;
                r.spins = 0;
                if (resident.size() < kMaxResident && start()) break;
                // What they wait for is some other thread's work.
                if (++idle < 64)
                    std::this_thread::yield();
                else
                    std::this_thread::sleep_for(std::chrono::microseconds(50));
                break;
        }
    }
}

}  // namespace softgpu::ptx
