// SPDX-License-Identifier: MIT
// Large amounts of device memory to and from the host: several copies in flight through pinned buffers, several threads
// that do the rest with what is in them. One thread, the caller's, talks to the driver, so the executor is little disturbed.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "driver_table.h"

namespace cricket::server {

// A context of the session, with a stream of ours that waits for nobody. The events are those of the pipe's buffers.
struct Lane {
    CUcontext context = nullptr;
    CUdevice device = 0;
    CUstream stream = nullptr;
    std::vector<CUevent> events;
};

// A piece of device memory that fits a buffer.
struct DeviceRun {
    uint64_t address = 0;
    uint32_t bytes = 0;
    uint32_t lane = 0;
    uint64_t tag = 0;  // the caller's
};

class DevicePipe {
  public:
    static constexpr uint64_t buffer_bytes = 2u << 20;
    static constexpr unsigned most_buffers = 32;

    // For about `bytes` of memory. The buffers are pinned in any of the lanes' contexts, where that can be done.
    DevicePipe(const DriverTable& driver, std::vector<Lane>& lanes, uint64_t bytes);
    ~DevicePipe();
    DevicePipe(const DevicePipe&) = delete;

    unsigned workers() const { return workers_; }
    // Off the device, in order; `sink` is called on the workers' threads with one of their numbers. `left` is called, on
    // the calling thread, with how many runs have left the device. Throws what sink throws, or std::runtime_error.
    void pull(std::span<const DeviceRun> runs, std::atomic<bool>& stop,
              const std::function<void(unsigned worker, const DeviceRun&, std::span<std::byte>)>& sink,
              const std::function<void(size_t)>& left = {});
    // Onto the device: `source` fills what the run is to be.
    void push(std::span<const DeviceRun> runs, std::atomic<bool>& stop,
              const std::function<void(unsigned worker, const DeviceRun&, std::span<std::byte>)>& source);

  private:
    struct Batch {
        size_t first, last;  // runs, of one lane
    };
    std::vector<Batch> cut(std::span<const DeviceRun> runs) const;
    std::byte* buffer(unsigned index) const { return memory_ + index * buffer_bytes; }
    Lane& enter(uint32_t lane);
    void issue(std::span<const DeviceRun> runs, const Batch& batch, unsigned buffer, bool to_device);
    bool completed(uint32_t lane, unsigned buffer);

    const DriverTable& driver_;
    std::vector<Lane>& lanes_;
    unsigned workers_, buffers_;
    std::byte* memory_ = nullptr;
    bool pinned_ = false;
};

// Makes streams for lanes that have none, and their buffers' events. On the thread that will use them or before.
CUresult open_lane(const DriverTable& driver, Lane& lane);
void close_lane(const DriverTable& driver, Lane& lane);

}  // namespace cricket::server
