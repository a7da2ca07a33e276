// SPDX-License-Identifier: MIT
#include "fetcher.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "rpc/ring/channel.h"
#include "settings.h"

namespace cricket::server {
namespace {

constexpr unsigned spin_rounds = 2000;      // between two pieces of a copy, some 50 us
constexpr uint64_t look_again_us = 60'000'000;
constexpr uint64_t index_mask = 0xffffffff;

}  // namespace

unsigned Fetcher::default_threads() {
    const unsigned usual = std::thread::hardware_concurrency() >= 8 ? 3 : 0;
    return static_cast<unsigned>(settings::number(settings::fetch_threads).value_or(usual));
}

Fetcher::Fetcher(unsigned started, unsigned used) : used_(std::min(started, used)) {
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < started; ++i) threads_.emplace_back([this, i] { serve(i); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Fetcher::~Fetcher() {
    stop_.store(true);
    bell_.fetch_add(1);
    idle_.fetch_add(1);
    ring::futex_wake_all(bell_);
    ring::futex_wake_all(idle_);
    for (std::thread& thread : threads_) thread.join();
}

bool Fetcher::follow(pid_t pid, uint64_t address, uint64_t expected) {
    process_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    pid_.store(pid, std::memory_order_relaxed);
    refused_.store(false, std::memory_order_relaxed);
    uint64_t found = 0;
    return used_ > 0 && address && read(reinterpret_cast<std::byte*>(&found), address, sizeof found) == Result::Ok &&
           found == expected;
}

Fetcher::Result Fetcher::read(std::byte* to, uint64_t from, uint64_t bytes) const {
    if (refused_.load(std::memory_order_relaxed)) return Result::Refused;
    const pid_t pid = pid_.load(std::memory_order_relaxed);
    while (bytes) {
        const iovec here{to, bytes}, there{reinterpret_cast<void*>(from), bytes};
        const ssize_t got = ::process_vm_readv(pid, &here, 1, &there, 1, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno == EFAULT ? Result::Fault : errno == ESRCH ? Result::Gone : Result::Refused;
        if (got == 0) return Result::Fault;
        to += got;
        from += static_cast<uint64_t>(got);
        bytes -= static_cast<uint64_t>(got);
    }
    return Result::Ok;
}

// Takes blocks of the fetch that `claim` is of until there are no more.
void Fetcher::work(uint64_t claim) {
    const uint64_t fetch = claim & ~index_mask;
    for (; (claim & ~index_mask) == fetch;) {
        const uint64_t index = claim & index_mask;
        std::byte* to = to_.load(std::memory_order_relaxed);
        const uint64_t from = from_.load(std::memory_order_relaxed), bytes = bytes_.load(std::memory_order_relaxed);
        if (index >= blocks_.load(std::memory_order_relaxed)) return;
        if (!claim_.compare_exchange_weak(claim, claim + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        const uint64_t at = index * block;
        const auto result = static_cast<int>(read(to + at, from + at, std::min(block, bytes - at)));
        int worst = result_.load(std::memory_order_relaxed);
        while (worst < result && !result_.compare_exchange_weak(worst, result, std::memory_order_relaxed)) {
        }
        done_.fetch_add(1, std::memory_order_release);
        claim = claim_.load(std::memory_order_acquire);
    }
}

void Fetcher::serve(unsigned index) {
    uint64_t seen = 0;
    while (!stop_.load(std::memory_order_relaxed)) {
        if (index >= used_) {
            ring::futex_wait(idle_, 0, look_again_us);
            continue;
        }
        const uint32_t before = bell_.load(std::memory_order_acquire);
        const auto fresh = [&] { return (claim_.load(std::memory_order_acquire) & ~index_mask) != seen; };
        if (!ring::spin_until(fresh, seen ? spin_rounds : 0)) {
            sleeping_.fetch_add(1, std::memory_order_seq_cst);
            if (!fresh()) ring::futex_wait(bell_, before, look_again_us);
            sleeping_.fetch_sub(1, std::memory_order_relaxed);
        }
        const uint64_t claim = claim_.load(std::memory_order_acquire);
        seen = claim & ~index_mask;
        work(claim);
    }
}

Fetcher::Result Fetcher::fetch(std::byte* to, uint64_t from, uint64_t bytes) {
    // Closed first: who still looks at the last fetch takes nothing while its description changes.
    uint64_t number = claim_.load(std::memory_order_relaxed) >> 32;
    claim_.store(++number << 32 | index_mask, std::memory_order_seq_cst);
    to_.store(to, std::memory_order_relaxed);
    from_.store(from, std::memory_order_relaxed);
    bytes_.store(bytes, std::memory_order_relaxed);
    const auto blocks = static_cast<uint32_t>((bytes + block - 1) / block);
    blocks_.store(blocks, std::memory_order_relaxed);
    result_.store(0, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    const uint64_t claim = ++number << 32;
    claim_.store(claim, std::memory_order_seq_cst);
    bell_.fetch_add(1, std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst)) ring::futex_wake_all(bell_);
    work(claim);
    while (done_.load(std::memory_order_acquire) < blocks) __builtin_ia32_pause();
    pollfd ended{process_.get(), POLLIN, 0};
    if (!process_ || ::poll(&ended, 1, 0) == 1) return Result::Gone;
    return static_cast<Result>(result_.load(std::memory_order_relaxed));
}

}  // namespace cricket::server
