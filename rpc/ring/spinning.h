// SPDX-License-Identifier: MIT
// How long to spin for what another process does before sleeping. Being woken costs some 5 us, in a virtual machine ten times
// that; but where cores are few, the one that spins may keep that from happening which it awaits.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>

#include "cricket/clock.h"

namespace cricket::ring {

// The cores that this process may run on; with many, one that spins is in nobody's way.
enum class Cores { One, Few, Many };

inline Cores cores() {
    constexpr int many = 8;
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return Cores::Few;
    return CPU_COUNT(&set) == 1 ? Cores::One : CPU_COUNT(&set) < many ? Cores::Few : Cores::Many;
}

// A limit, in whatever unit, that shrinks while spinning is in vain and is back at once when it pays; now and then a whole
// one is tried. From several threads: what they overwrite of each other's experience does no harm.
class SpinBudget {
  public:
    constexpr SpinBudget() = default;
    void set(uint64_t most, bool adapts) {
        most_.store(most, std::memory_order_relaxed);
        now_.store(most, std::memory_order_relaxed);
        adapts_.store(adapts, std::memory_order_relaxed);
    }
    uint64_t next() {
        const uint64_t most = most_.load(std::memory_order_relaxed), now = now_.load(std::memory_order_relaxed);
        if (now == most) return most;
        const uint32_t number = number_.load(std::memory_order_relaxed) + 1;
        number_.store(number, std::memory_order_relaxed);
        return number % tried_every ? now : most;
    }
    void paid() {
        const uint64_t most = most_.load(std::memory_order_relaxed);
        if (now_.load(std::memory_order_relaxed) != most) now_.store(most, std::memory_order_relaxed);
    }
    void in_vain() {
        if (adapts_.load(std::memory_order_relaxed)) now_.store(now_.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
    }

  private:
    static constexpr uint32_t tried_every = 32;
    std::atomic<uint64_t> most_{0}, now_{0};
    std::atomic<uint32_t> number_{0};
    std::atomic<bool> adapts_{false};
};

}  // namespace cricket::ring
