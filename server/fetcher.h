// SPDX-License-Identifier: MIT
// Takes pageable memory of the application straight out of its process, with several threads: one core fills staging memory
// no faster than the driver's own copy does, and the application's thread is only one. It waits in its call meanwhile, so
// the bytes hold still; a client that criu has frozen is read all the same, and one that was killed has not had its call
// executed (Call::client_gone).
//
// The threads exist from the worker's start on: where the kernel puts what the driver maps later must not depend on when a
// first copy comes (worker.cpp, settle_address_space). They sleep but for the moments between the pieces of a copy.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "cricket/unique_fd.h"

namespace cricket::server {

class Fetcher {
  public:
    // CRICKET_FETCH_THREADS, else as many as the machine can spare, beside the one that asks. 0: nothing is fetched.
    static unsigned default_threads();

    // `started` threads exist; `used` of them work.
    Fetcher(unsigned started, unsigned used);
    ~Fetcher();
    Fetcher(const Fetcher&) = delete;

    // The process to read. False when that is not permitted or not worth it: `address` must read as `expected` there.
    void refuse() { refused_.store(true, std::memory_order_relaxed); }  // until the next follow()
    bool follow(pid_t pid, uint64_t address, uint64_t expected);

    // Fault: not all of it is memory; Refused: it may not be read, so the client has to bring it; Gone: the process is.
    enum class Result : int { Ok, Fault, Refused, Gone };
    Result fetch(std::byte* to, uint64_t from, uint64_t bytes);

  private:
    void serve(unsigned index);
    void work(uint64_t claim);
    Result read(std::byte* to, uint64_t from, uint64_t bytes) const;

    static constexpr uint64_t block = 256 * 1024;
    const unsigned used_;
    std::atomic<pid_t> pid_{0};
    UniqueFd process_;  // whose number that was: what is read once it has ended may be another's. Of the thread that fetches
    std::atomic<bool> refused_{false};
    // One fetch: its number in the upper half and the next block in the lower. What it is about is written while no block can
    // be had, and is believed by whoever then takes one with the number unchanged.
    std::atomic<uint64_t> claim_{0};
    std::atomic<uint32_t> blocks_{0};
    std::atomic<std::byte*> to_{nullptr};
    std::atomic<uint64_t> from_{0}, bytes_{0};
    std::atomic<uint32_t> done_{0};
    std::atomic<int> result_{0};
    std::atomic<uint32_t> bell_{0};      // futex: changes with each fetch
    std::atomic<uint32_t> sleeping_{0};
    std::atomic<uint32_t> idle_{0};      // futex of the threads that are not used
    std::atomic<bool> stop_{false};
    std::vector<std::thread> threads_;
};

}  // namespace cricket::server
