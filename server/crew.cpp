// SPDX-License-Identifier: MIT
#include "crew.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "places.h"

namespace cricket::server {
namespace {

constexpr size_t stack_bytes = 1u << 20, stack_room = 2 * stack_bytes;  // what lies between is not mapped
constexpr unsigned first_crew_slot = 1;                                 // 0 leads in the background
constexpr unsigned most_workers = 16;
constexpr uint64_t bytes_a_worker = 16u << 20;

void* stack(unsigned slot) {
    static std::mutex mutex;
    static bool mapped[crew_stacks];
    void* place = reinterpret_cast<void*>(places::crew_stacks.address + slot * stack_room);
    std::lock_guard lock(mutex);
    if (slot >= crew_stacks) throw std::runtime_error("no stack for another thread");
    if (!mapped[slot]) {
        void* got = ::mmap(place, stack_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_FIXED_NOREPLACE, -1, 0);
        if (got != place) throw std::runtime_error("the place of a thread's stack is taken");
        mapped[slot] = true;
    }
    return place;
}

}  // namespace

OwnThread::OwnThread(unsigned slot, std::function<void()> run) {
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstack(&attributes, stack(slot), stack_bytes);
    auto start = std::make_unique<std::function<void()>>(std::move(run));
    const auto body = [](void* argument) -> void* {
        const std::unique_ptr<std::function<void()>> function(static_cast<std::function<void()>*>(argument));
        (*function)();
        return nullptr;
    };
    pthread_t handle{};
    const int error = ::pthread_create(&handle, &attributes, body, start.get());
    ::pthread_attr_destroy(&attributes);
    if (error) throw std::runtime_error("a thread cannot be started");
    start.release();
    handle_ = handle;
    started_ = true;
}

void OwnThread::join() {
    if (std::exchange(started_, false)) ::pthread_join(handle_, nullptr);
}

unsigned crew_size(uint64_t bytes) {
    const unsigned cores = std::max(2u, std::thread::hardware_concurrency());
    const unsigned most = std::min(most_workers, cores - cores / 8);
    return static_cast<unsigned>(std::clamp<uint64_t>(bytes / bytes_a_worker + 1, 1, most));
}

void with_crew(unsigned count, std::atomic<bool>& stop, const std::function<void(unsigned)>& work,
               const std::function<void()>& lead) {
    std::mutex mutex;
    std::exception_ptr first;
    const auto guarded = [&](const auto& function) {
        try {
            function();
        } catch (...) {
            std::lock_guard lock(mutex);
            if (!first) first = std::current_exception();
            stop = true;
        }
    };
    std::vector<OwnThread> threads;
    guarded([&] {
        for (unsigned i = 0; i < count; ++i)
            threads.emplace_back(first_crew_slot + i, [&guarded, &work, i] { guarded([&] { work(i); }); });
        if (lead) lead();
    });
    for (OwnThread& thread : threads) thread.join();
    if (first) std::rethrow_exception(first);
}

}  // namespace cricket::server
