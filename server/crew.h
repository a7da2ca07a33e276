// SPDX-License-Identifier: MIT
// Threads of a worker that come and go. Their stacks are at a place of their own, as everything of ours that is mapped
// while a session lives: where the kernel puts what the driver maps must not depend on it.
#pragma once

#include <atomic>
#include <functional>
#include <utility>

namespace cricket::server {

inline constexpr unsigned crew_stacks = 24;

// A thread on stack `slot`, which no other may use until it was joined. `run` must not throw.
class OwnThread {
  public:
    OwnThread() = default;
    OwnThread(unsigned slot, std::function<void()> run);  // throws std::runtime_error
    ~OwnThread() { join(); }
    OwnThread(OwnThread&& other) noexcept { swap(other); }
    OwnThread& operator=(OwnThread&& other) noexcept {
        join();
        swap(other);
        return *this;
    }
    bool joinable() const { return started_; }
    void join();

  private:
    void swap(OwnThread& other) noexcept {
        std::swap(started_, other.started_);
        std::swap(handle_, other.handle_);
    }
    bool started_ = false;
    unsigned long handle_ = 0;
};

// Who may be asked how many threads help: as many as the machine's cores allow, few for little work.
unsigned crew_size(uint64_t bytes);

// Runs `work(i)` on threads 0 to `count` - 1, while `lead` runs on the calling one; what any of them throws first ends it
// all (`stop` becomes true) and is thrown here.
void with_crew(unsigned count, std::atomic<bool>& stop, const std::function<void(unsigned)>& work,
               const std::function<void()>& lead = {});

}  // namespace cricket::server
