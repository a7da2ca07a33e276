// SPDX-License-Identifier: MIT
#include "device_pipe.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "checkpoint_parts.h"
#include "crew.h"
#include "places.h"

namespace cricket::server {
namespace {

constexpr unsigned pause_us = 15;  // between looks at copies under way
constexpr auto longest_wait = std::chrono::milliseconds(1);

// Indices handed from thread to thread.
class Handover {
  public:
    enum class Order { Oldest, Newest };
    explicit Handover(std::mutex& mutex, Order order = Order::Oldest) : mutex_(mutex), order_(order) {}
    void give(size_t one) {
        {
            std::lock_guard lock(mutex_);
            waiting_.push_back(one);
        }
        there_.notify_one();
    }
    bool try_take(size_t* one) {
        std::lock_guard lock(mutex_);
        return take_locked(one);
    }
    // False when `over` became true and nothing is left, or `stop`.
    bool take(size_t* one, const std::atomic<bool>& over, const std::atomic<bool>& stop) {
        std::unique_lock lock(mutex_);
        for (;;) {
            if (stop) return false;
            if (take_locked(one)) return true;
            if (over) return false;
            there_.wait_for(lock, longest_wait);
        }
    }
    void wake_all() { there_.notify_all(); }

  private:
    bool take_locked(size_t* one) {
        if (waiting_.empty()) return false;
        if (order_ == Order::Newest) {
            *one = waiting_.back();
            waiting_.pop_back();
        } else {
            *one = waiting_.front();
            waiting_.pop_front();
        }
        return true;
    }
    std::mutex& mutex_;
    const Order order_;
    std::condition_variable there_;
    std::deque<size_t> waiting_;
};

}  // namespace

CUresult open_lane(const DriverTable& driver, Lane& lane) {
    CUresult status = driver.cuCtxSetCurrent(lane.context);
    if (status == CUDA_SUCCESS && !lane.stream) status = driver.cuStreamCreate(&lane.stream, CU_STREAM_NON_BLOCKING);
    while (status == CUDA_SUCCESS && lane.events.size() < DevicePipe::most_buffers) {
        CUevent event = nullptr;
        status = driver.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING);
        if (status == CUDA_SUCCESS) lane.events.push_back(event);
    }
    return status;
}

void close_lane(const DriverTable& driver, Lane& lane) {
    for (CUevent event : lane.events) driver.cuEventDestroy(event);
    if (lane.stream) driver.cuStreamDestroy(lane.stream);
    lane.events.clear();
    lane.stream = nullptr;
}

DevicePipe::DevicePipe(const DriverTable& driver, std::vector<Lane>& lanes, uint64_t bytes)
    : driver_(driver), lanes_(lanes), workers_(crew_size(bytes)) {
    buffers_ = static_cast<unsigned>(std::min<uint64_t>(std::min(workers_ * 2 + 2, most_buffers), bytes / buffer_bytes + 1));
    void* place = reinterpret_cast<void*>(places::snapshot_staging.address);
    const size_t room = buffers_ * buffer_bytes;
    void* got = ::mmap(place, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != place) fail_checkpoint(at_address("the address range of a snapshot's buffers is taken", places::snapshot_staging.address));
    memory_ = static_cast<std::byte*>(got);
    ::madvise(memory_, room, MADV_HUGEPAGE);
    if (!lanes_.empty() && driver_.cuCtxSetCurrent(lanes_.front().context) == CUDA_SUCCESS)
        pinned_ = driver_.cuMemHostRegister(memory_, room, CU_MEMHOSTREGISTER_PORTABLE) == CUDA_SUCCESS;
}

DevicePipe::~DevicePipe() {
    // Nothing may be under way in the buffers, whatever ended the work.
    for (Lane& lane : lanes_)
        if (lane.stream && driver_.cuCtxSetCurrent(lane.context) == CUDA_SUCCESS) driver_.cuStreamSynchronize(lane.stream);
    if (pinned_) driver_.cuMemHostUnregister(memory_);
    if (memory_) ::munmap(memory_, buffers_ * buffer_bytes);
}

std::vector<DevicePipe::Batch> DevicePipe::cut(std::span<const DeviceRun> runs) const {
    std::vector<Batch> batches;
    uint64_t bytes = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
        if (batches.empty() || bytes + runs[i].bytes > buffer_bytes || runs[i].lane != runs[batches.back().first].lane) {
            batches.push_back({i, i});
            bytes = 0;
        }
        batches.back().last = i + 1;
        bytes += runs[i].bytes;
    }
    return batches;
}

Lane& DevicePipe::enter(uint32_t lane) {
    if (const CUresult status = driver_.cuCtxSetCurrent(lanes_[lane].context); status != CUDA_SUCCESS)
        fail_checkpoint("a context cannot be used: " + result_name(driver_, status));
    return lanes_[lane];
}

void DevicePipe::issue(std::span<const DeviceRun> runs, const Batch& batch, unsigned index, bool to_device) {
    const Lane& lane = enter(runs[batch.first].lane);
    std::byte* at = buffer(index);
    for (const DeviceRun& run : runs.subspan(batch.first, batch.last - batch.first)) {
        const CUresult status = to_device ? driver_.cuMemcpyHtoDAsync(run.address, at, run.bytes, lane.stream)
                                          : driver_.cuMemcpyDtoHAsync(at, run.address, run.bytes, lane.stream);
        if (status != CUDA_SUCCESS)
            fail_checkpoint(at_address(to_device ? "writing device memory" : "reading device memory", run.address) + ": " +
                            result_name(driver_, status));
        at += run.bytes;
    }
    if (const CUresult status = driver_.cuEventRecord(lane.events[index], lane.stream); status != CUDA_SUCCESS)
        fail_checkpoint("marking a copy: " + result_name(driver_, status));
}

bool DevicePipe::completed(uint32_t lane, unsigned index) {
    const CUresult status = driver_.cuEventQuery(enter(lane).events[index]);
    if (status == CUDA_ERROR_NOT_READY) return false;
    if (status != CUDA_SUCCESS) fail_checkpoint("copying device memory: " + result_name(driver_, status));
    return true;
}

void DevicePipe::pull(std::span<const DeviceRun> runs, std::atomic<bool>& stop,
                      const std::function<void(unsigned, const DeviceRun&, std::span<std::byte>)>& sink,
                      const std::function<void(size_t)>& left) {
    const std::vector<Batch> batches = cut(runs);
    std::vector<size_t> batch_in(buffers_);
    std::mutex mutex;
    Handover free(mutex), full(mutex);  // buffers
    std::atomic<bool> over{false};
    for (unsigned i = 0; i < buffers_; ++i) free.give(i);
    const auto work = [&](unsigned worker) {
        for (size_t index; full.take(&index, over, stop);) {
            std::byte* at = buffer(static_cast<unsigned>(index));
            const Batch& batch = batches[batch_in[index]];
            for (const DeviceRun& run : runs.subspan(batch.first, batch.last - batch.first)) {
                sink(worker, run, {at, run.bytes});
                at += run.bytes;
            }
            free.give(index);
        }
    };
    const auto lead = [&] {
        std::deque<size_t> under_way;
        for (size_t next = 0; (next < batches.size() || !under_way.empty()) && !stop;) {
            bool moved = false;
            if (size_t index; next < batches.size() && free.try_take(&index)) {
                batch_in[index] = next;
                issue(runs, batches[next++], static_cast<unsigned>(index), false);
                under_way.push_back(index);
                moved = true;
            }
            while (!under_way.empty()) {
                const size_t index = under_way.front();
                const Batch& batch = batches[batch_in[index]];
                if (!completed(runs[batch.first].lane, static_cast<unsigned>(index))) break;
                under_way.pop_front();
                if (left) left(batch.last);
                full.give(index);
                moved = true;
            }
            if (!moved) ::usleep(pause_us);
        }
        over = true;
        full.wake_all();
    };
    with_crew(static_cast<unsigned>(std::min<size_t>(workers_, batches.size())), stop, work, lead);
}

void DevicePipe::push(std::span<const DeviceRun> runs, std::atomic<bool>& stop,
                      const std::function<void(unsigned, const DeviceRun&, std::span<std::byte>)>& source) {
    const std::vector<Batch> batches = cut(runs);
    std::vector<size_t> batch_in(buffers_);
    std::mutex mutex;
    Handover free(mutex, Handover::Order::Newest), full(mutex);  // what was used last is in the caches still
    std::atomic<bool> never{false};
    std::atomic<size_t> next{0};
    for (unsigned i = 0; i < buffers_; ++i) free.give(i);
    const auto work = [&](unsigned worker) {
        for (size_t index; free.take(&index, never, stop);) {
            const size_t number = next.fetch_add(1);
            if (number >= batches.size()) {
                free.give(index);  // for those who find out as well
                return;
            }
            std::byte* at = buffer(static_cast<unsigned>(index));
            const Batch& batch = batches[number];
            for (const DeviceRun& run : runs.subspan(batch.first, batch.last - batch.first)) {
                source(worker, run, {at, run.bytes});
                at += run.bytes;
            }
            batch_in[index] = number;
            full.give(index);
        }
    };
    const auto lead = [&] {
        std::deque<size_t> under_way;
        for (size_t done = 0; done < batches.size() && !stop;) {
            bool moved = false;
            for (size_t index; full.try_take(&index); moved = true) {
                issue(runs, batches[batch_in[index]], static_cast<unsigned>(index), true);
                under_way.push_back(index);
            }
            while (!under_way.empty()) {
                const size_t index = under_way.front();
                if (!completed(runs[batches[batch_in[index]].first].lane, static_cast<unsigned>(index))) break;
                under_way.pop_front();
                ++done;
                free.give(index);
                moved = true;
            }
            if (!moved) ::usleep(pause_us);
        }
    };
    with_crew(static_cast<unsigned>(std::min<size_t>(workers_, batches.size())), stop, work, lead);
}

}  // namespace cricket::server
