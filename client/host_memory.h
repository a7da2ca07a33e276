// SPDX-License-Identifier: MIT
// Host memory that the GPU uses: one memfd of the application, mapped at wire::host_base here and in the worker.
// Grows at its end; freed ranges are given back to the system and used again.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>

namespace cricket::client {

class HostMemory {
  public:
    // Reserves the address range and makes the memfd. False with errno when the range is taken.
    bool open();
    // `bytes` of zeroed memory, page aligned; null when there is none.
    void* allocate(uint64_t bytes);
    // Gives a range from allocate() back. False when it is not one.
    bool free(void* address);
    // Base and size of the allocation that `address` lies in; false when in none.
    bool find(const void* address, void** base, uint64_t* bytes);
    // Whether all of the range is memory that the worker maps at the same address.
    bool contains(const void* address, uint64_t bytes);

    // Memory of the application whose pages were put onto the memfd (cuMemHostRegister).
    void note_registered(uint64_t address, uint64_t bytes, uint64_t offset);
    bool registered_at(uint64_t address, uint64_t* bytes, uint64_t* offset);
    void forget_registered(uint64_t address);
    bool any_registered_in(uint64_t start, uint64_t end);

    int fd() const { return fd_; }
    // Length of the memfd: the mapped prefix of the range.
    uint64_t bytes() const { return bytes_; }
    void abandon();

  private:
    bool grow(uint64_t bytes);
    std::mutex mutex_;
    int fd_ = -1;
    uint64_t bytes_ = 0;
    std::map<uint64_t, uint64_t> used_;  // offset -> bytes
    std::map<uint64_t, uint64_t> free_;  // offset -> bytes, neighbours merged
    struct Registered {
        uint64_t bytes, offset;
    };
    std::map<uint64_t, Registered> registered_;  // by address
    std::atomic<bool> any_registered_{false};
};

}  // namespace cricket::client
