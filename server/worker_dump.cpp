// SPDX-License-Identifier: MIT
// What a worker does when criu has stopped its client and is about to read it (dump_watch.h): the device's work is brought to an
// end, so that the image holds all that it wrote, or, where it takes longer, the host memory is kept as it is now (host_image.h).
#include <unistd.h>

#include "cricket/clock.h"
#include "criu_watch.h"
#include "log.h"
#include "worker.h"

namespace cricket::server {
namespace {

constexpr uint64_t for_device_ns = 200'000'000, without_room_ns = 10'000'000'000;  // criu, and who waits for it, are held up
constexpr uint64_t for_copy_ns = 20'000'000'000;
constexpr uint64_t margin_ns = 200'000'000;  // in which what we say reaches the supervisor

}  // namespace

// Nothing posted, nothing at work. A quiesced session's device was waited for, and what is posted is not executed.
bool Worker::stands_still() {
    session_.callbacks.collect();
    if (session_.callbacks.pending() || executor_.waiting()) return false;
    return state_ == SessionState::Quiesced || (ring_->empty() && session_.idle());
}

void Worker::settle_for_dump(uint64_t inode) {
    HostMemory& memory = session_.host_memory;
    if (joining_) {
        // The device's work goes on in the memory of the client's earlier life.
        memory.exchange();
        memory.image().copy(memory.ranges(), now_ns() + for_copy_ns);
        return;
    }
    if (!ring_ || !memory.is(inode) || memory.ranges().empty()) return;
    memory.image().forget();
    const uint64_t began = now_ns();
    const uint64_t patience = HostImage::room_for(memory.ranges()) ? for_device_ns : without_room_ns;
    bool still = stands_still();
    while (!still && state_ == SessionState::Running && !session_.callbacks.pending() && session_.can_tell_idle() &&
           now_ns() - began < patience) {
        const bool moved = may_step() && executor_.step(*ring_);
        if (executor_.said_goodbye()) return;
        if (!executor_.poll(ring_.get()) && !moved) ::usleep(50);
        still = stands_still();
    }
    const double ms = static_cast<double>(now_ns() - began) / 1e6;
    if (still) {
        memory.image().take_all(memory.ranges(), session_.executed);
        log_debug("session %llu: its client is opened, as criu does: the device stands still after %.1f ms", id(), ms);
    } else if (state_ == SessionState::Quiesced) {
        return;
    } else if (memory.image().copy(memory.ranges(), now_ns() + for_copy_ns)) {
        dumped_tail_ = ring_->channel().client_page().tail.load();
        log_info(
            "session %llu: its client is opened, as criu does, while the device is at work: after %.1f ms its host memory is "
            "copied, %.1f MiB",
            id(), ms, static_cast<double>(memory.bytes()) / 1048576);
    } else {
        log_warn(
            "session %llu: its client is opened, as criu does, while the device is at work, and there is no room for a copy of "
            "%.1f MiB of host "
            "memory: what kernels write there from now on may be lost",
            id(), static_cast<double>(memory.bytes()) / 1048576);
    }
}

// Where nobody tells us of dumps: an image holds all if the device stood still before it was taken, as it did if it does now,
// for criu traces a process before it reads anything of it.
void Worker::note_standstill() {
    HostMemory& memory = session_.host_memory;
    const uint64_t executed = session_.executed;
    if (state_ != SessionState::Running || memory.ranges().empty() || memory.image().known_at(executed)) return;
    if (!stands_still() || session_.client_pid <= 0 || tracer_of(session_.client_pid) != 0) return;
    memory.image().take_all(memory.ranges(), executed);
    log_debug("session %llu: the device stands still after call %llu", id(), static_cast<unsigned long long>(executed));
}

// Of a client that is let go on, nobody needs the copy any more.
void Worker::look_at_copy() {
    HostImage& image = session_.host_memory.image();
    if (image.open() && ring_ && ring_->channel().client_page().tail.load() != dumped_tail_) image.forget();
}

void Worker::opened(uint64_t inode, uint64_t until_ns, std::function<void()> settling, std::function<void()> settled) {
    bool quiesced = false;
    {
        std::lock_guard lock(mutex_);
        quiesced = published_.state == SessionState::Quiesced;
    }
    // A checkpoint is being made: the device stands still, and every millisecond counts.
    if (quiesced) settled();
    post([=, this]() -> OpResult {
        HostImage& image = session_.host_memory.image();
        if (quiesced ? state_ != SessionState::Quiesced : now_ns() + margin_ns > until_ns) {
            if (image.open()) image.forget();  // it is of an earlier moment
        } else {
            if (!quiesced) settling();
            try {
                settle_for_dump(inode);
            } catch (const std::exception& error) {
                log_error("session %llu: %s: the session ends", id(), error.what());
                over_ = true;
                end();
            }
        }
        if (!quiesced) settled();
        return {};
    });
}

}  // namespace cricket::server
