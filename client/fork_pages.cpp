// SPDX-License-Identifier: MIT
#include "client/fork_pages.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <new>
#include <vector>

#include "client/held_writers.h"
#include "client/own_maps.h"
#include "client/session.h"
#include "rpc/ring/not_cancelled.h"

namespace cricket::client::fork_pages {
namespace {

constexpr uint64_t page = 4096;
constexpr uint64_t exchanged_whole = 16 * page;

constinit std::atomic<bool> any{false};

struct Range {
    uint64_t address, bytes, offset;
    int protection;
    std::byte* before = nullptr;  // exchanged: what it held when it became private
};
// Of the fork that is going on, on the thread that forks: handlers of one fork at a time.
struct Fork {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    std::vector<Range> exchanged, inside;
};
Fork& state() {
    static auto* all = new Fork;  // never destroyed: see Session::start
    return *all;
}

std::byte* in_memfd(const Range& range) { return reinterpret_cast<std::byte*>(wire::host_base + range.offset); }

// Mappings of the memfd at places of the application's own.
void find_ranges(Session& session, Fork& fork) {
    OwnMaps maps(session.host_memory().fd());
    for (OwnMapping map; maps.next(&map);) {
        if (map.inode != maps.memfd_inode() || !map.shared() || map.start - wire::host_base < wire::host_span) continue;
        const int protection = map.protection();
        const uint64_t bytes = map.end - map.start;
        if (bytes <= exchanged_whole) {
            fork.exchanged.push_back({map.start, bytes, map.offset, protection});
            continue;
        }
        fork.exchanged.push_back({map.start, page, map.offset, protection});
        fork.inside.push_back({map.start + page, bytes - 2 * page, map.offset + page, protection});
        fork.exchanged.push_back({map.end - page, page, map.offset + bytes - page, protection});
    }
}

void* make_private(void* argument) {
    for (Range& range : static_cast<Fork*>(argument)->exchanged) {
        void* fresh = ::mmap(nullptr, range.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        void* before = ::mmap(nullptr, range.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (fresh == MAP_FAILED || before == MAP_FAILED) continue;  // shared with the child then
        const HeldWriters held(range.address, range.bytes);
        std::memcpy(fresh, in_memfd(range), range.bytes);
        std::memcpy(before, fresh, range.bytes);
        ::mprotect(fresh, range.bytes, range.protection);
        if (::mremap(fresh, range.bytes, range.bytes, MREMAP_MAYMOVE | MREMAP_FIXED, reinterpret_cast<void*>(range.address)) != MAP_FAILED)
            range.before = static_cast<std::byte*>(before);
    }
    return nullptr;
}

void* share_again(void* argument) {
    const int fd = Session::any()->host_memory().fd();
    for (Range& range : static_cast<Fork*>(argument)->exchanged) {
        if (!range.before) continue;
        const HeldWriters held(range.address, range.bytes);
        const auto* now = reinterpret_cast<const std::byte*>(range.address);
        std::byte* shared = in_memfd(range);
        for (uint64_t i = 0; i < range.bytes; ++i)
            if (now[i] != range.before[i]) shared[i] = now[i];
        ::mmap(reinterpret_cast<void*>(range.address), range.bytes, range.protection, MAP_SHARED | MAP_FIXED, fd,
               static_cast<off_t>(range.offset));
        ::munmap(range.before, range.bytes);
    }
    return nullptr;
}

// The pages may be the caller's stack: it stands still, signals held back, while another thread exchanges them.
void aside(void* (*work)(void*), Fork& fork) {
    const ring::NotCancelled whole;
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    if (::pthread_create(&thread, nullptr, work, &fork) == 0) ::pthread_join(thread, nullptr);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

void note() { any.store(true, std::memory_order_release); }

void prepare() {
    Session* session = Session::any();
    if (!any.load(std::memory_order_acquire) || !session) return;
    Fork& fork = state();
    ::pthread_mutex_lock(&fork.mutex);
    find_ranges(*session, fork);
    if (!fork.exchanged.empty()) aside(make_private, fork);
}

void parent() {
    if (!any.load(std::memory_order_acquire) || !Session::any()) return;
    Fork& fork = state();
    if (!fork.exchanged.empty()) aside(share_again, fork);
    fork.exchanged.clear();
    fork.inside.clear();
    ::pthread_mutex_unlock(&fork.mutex);
}

void child() {
    Session* session = Session::any();
    if (!any.exchange(false) || !session) return;
    Fork& fork = state();
    for (const Range& range : fork.inside)
        ::mmap(reinterpret_cast<void*>(range.address), range.bytes, range.protection, MAP_PRIVATE | MAP_FIXED,
               session->host_memory().fd(), static_cast<off_t>(range.offset));
    for (const Range& range : fork.exchanged)
        if (range.before) ::munmap(range.before, range.bytes);
    fork.exchanged.clear();
    fork.inside.clear();
    new (&fork.mutex) pthread_mutex_t(PTHREAD_MUTEX_INITIALIZER);
}

}  // namespace cricket::client::fork_pages
