// SPDX-License-Identifier: MIT
// The host's memory to copy device memory aside in, when the device has no room: ordinary memory, in large pages where the
// kernel gives them, touched first by the threads that fill it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "places.h"

namespace cricket::server {

class HostAside {
  public:
    explicit HostAside(const Place& place = places::memory_aside) : place_(place) {}
    ~HostAside() { release(); }
    HostAside(const HostAside&) = delete;
    // At most `limit`, and at most a part of what the machine and our cgroup have free; null: not to be had.
    std::byte* take(uint64_t bytes, uint64_t limit);
    std::byte* data() const { return data_; }
    // These bytes are not needed any more.
    void forget(const std::byte* from, uint64_t bytes);
    void release();

  private:
    const Place place_;
    std::byte* data_ = nullptr;
    uint64_t bytes_ = 0;
};

// CRICKET_ASIDE_HOST: the most that a copy may take, in bytes.
uint64_t aside_host_limit();
uint64_t free_host_memory();

}  // namespace cricket::server
