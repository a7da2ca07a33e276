// SPDX-License-Identifier: MIT
// The channel's bulk buffers as the device and the handlers of calls reach them.
#include <sys/mman.h>

#include "places.h"
#include "session.h"

namespace cricket::server {

void Session::channel_arrived() {
    pinned_parts_.clear();
    const auto& geometry = ring->channel().geometry();
    void* alias = ::mmap(reinterpret_cast<void*>(places::pageable_up.address), geometry.up_bytes, PROT_READ,
                         MAP_SHARED | MAP_FIXED_NOREPLACE, ring->channel().fd(),
                         static_cast<off_t>(geometry.up_offset));
    pageable_up_ = alias == MAP_FAILED ? nullptr : static_cast<std::byte*>(alias);
}

void Session::channel_leaves() {
    drain_up(true);
    const auto& geometry = ring->channel().geometry();
    for (const PinnedPart& part : pinned_parts_)
        if (part.pinned && any_context()) driver.cuMemHostUnregister(ring->channel().base() + part.offset);
    pinned_parts_.clear();
    let_go_of_slots();
    if (pageable_up_) ::munmap(pageable_up_, geometry.up_bytes);
    pageable_up_ = nullptr;
    ring = nullptr;
}

// On the first use with a context: pinned buffers make copies truly asynchronous.
void Session::pin_part(uint64_t area, uint64_t area_bytes, uint64_t offset) {
    if (!current_known_ || !context_devices.count(current_)) return;
    wire::BulkPart part{0, area_bytes};
    if (ring->channel().keeps_cuts())
        part = area == ring->channel().geometry().up_offset ? wire::bulk_part(wire::up_cuts, area_bytes, offset - area)
                                                             : wire::bulk_part(wire::down_cuts, area_bytes, offset - area);
    const uint64_t begin = area + part.begin;
    for (const PinnedPart& known : pinned_parts_)
        if (known.offset == begin) return;
    const Captures::OwnWork own(captures);
    pinned_parts_.push_back({begin, driver.cuMemHostRegister(ring->channel().base() + begin, part.end - part.begin,
                                                             CU_MEMHOSTREGISTER_PORTABLE) == CUDA_SUCCESS});
}

// Registered in one context at a time, the one that used it first: with it, or with the channel, that ends.
bool Session::device_sees_slots() {
    if (slots_context_) return slots_shown_ && slots_context_ == current_;
    if (!ring || !current_known_ || !context_devices.count(current_)) return false;
    const auto& geometry = ring->channel().geometry();
    slots_context_ = current_;
    slots_shown_ = driver.cuStreamWriteValue64 && Completions::show_device(driver, ring->channel().base() + geometry.slots_offset,
                                                                           geometry.slots * geometry.slot_bytes);
    return slots_shown_;
}

void Session::let_go_of_slots() {
    if (slots_shown_ && ring && make_current(slots_context_) == CUDA_SUCCESS) driver.cuMemHostUnregister(&ring->channel().slot(0));
    slots_context_ = 0;
    slots_shown_ = false;
}

// Whether [offset, offset + bytes) of the memfd lies in the area.
static bool inside(uint64_t offset, uint64_t bytes, uint64_t area_offset, uint64_t area_bytes) {
    return offset >= area_offset && bytes <= area_bytes && offset - area_offset <= area_bytes - bytes;
}

void* Session::up_data(uint64_t offset, uint64_t bytes) {
    if (!ring) return nullptr;
    const auto& geometry = ring->channel().geometry();
    if (!inside(offset, bytes, geometry.up_offset, geometry.up_bytes)) return nullptr;
    pin_part(geometry.up_offset, geometry.up_bytes, offset);
    return ring->channel().base() + offset;
}

const void* Session::up_pageable(uint64_t offset, uint64_t bytes) {
    if (!ring || !pageable_up_) return nullptr;
    const auto& geometry = ring->channel().geometry();
    if (!inside(offset, bytes, geometry.up_offset, geometry.up_bytes)) return nullptr;
    return pageable_up_ + (offset - geometry.up_offset);
}

void* Session::down_data(uint64_t offset, uint64_t bytes) {
    if (!ring) return nullptr;
    const auto& geometry = ring->channel().geometry();
    if (!inside(offset, bytes, geometry.down_offset, geometry.down_bytes)) return nullptr;
    pin_part(geometry.down_offset, geometry.down_bytes, offset);
    return ring->channel().base() + offset;
}

// The position behind the data is not known before the call's record is advanced over: drain_up() takes it
// from the executor, which sets up_end first.
void Session::up_in_use(CUevent event) {
    up_uses_.push_back({up_end, event});
}

bool Session::drain_up(bool wait) {
    bool any = std::erase_if(freed_later_, [&](Freed& freed) {
        if (!freed.event || driver.cuEventQuery(freed.event) == CUDA_ERROR_NOT_READY) return false;
        give_event(freed.event);
        reclaim(freed.address);
        return true;
    });
    if (!ring) return false;
    while (!up_uses_.empty()) {
        CUevent event = up_uses_.front().event;
        if (wait)
            driver.cuEventSynchronize(event);
        else if (driver.cuEventQuery(event) == CUDA_ERROR_NOT_READY)
            break;
        give_event(event);
        up_uses_.pop_front();
        any = true;
    }
    // Free up to the start of the oldest data still in use: what was before it has been executed and drained.
    const uint64_t free_to = up_uses_.empty() ? up_end : up_uses_.front().end;
    auto& head = ring->channel().server_page().up_head;
    if (head.load(std::memory_order_relaxed) < free_to) ring->drained(free_to);
    return any;
}

}  // namespace cricket::server
