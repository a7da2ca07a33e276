// SPDX-License-Identifier: MIT
#include "session.h"

#include <algorithm>

#include "cricket/primary_contexts.h"

namespace cricket::server {

Session::Session(const DriverTable& table)
    : driver(table),
      device_memory(table),
      virtual_memory(table, objects, device_memory),
      pools(*this),
      host_memory(table),
      managed(table),
      captures(table),
      graph_history(*this),
      completions_(table) {}

void Session::share_through(Exchange* exchange) { device_memory.exchange = virtual_memory.exchange = exchange; }

void Session::reclaim(CUdeviceptr address) {
    if (address == unused_memory)
        pools.synchronized();
    else if (managed.find(address)) {
        managed.remove(address);
        host_memory.remove(address);
    } else if (!pools.reclaim(address) && device_memory.close(address) != CUDA_SUCCESS)
        device_memory.reclaim(address);
}

std::string Session::shared_refusal() const {
    if (std::string why = virtual_memory.refusal(); !why.empty()) return why;
    if (std::string why = device_memory.refusal(); !why.empty()) return why;
    if (!shared_events.empty()) return "the session shares an event with another (cuIpcGetEventHandle, cuIpcOpenEventHandle)";
    return {};
}

std::string Session::open() {
    driver_result = driver.cuInit(0);
    if (const CUresult status = driver_result; status != CUDA_SUCCESS)
        return "the driver's cuInit answers error " + std::to_string(status);
    captures.begin_thread();
    if (!host_memory.reserve()) return "the address range of host memory is taken";
    if (const CUresult status = device_memory.reserve(); status != CUDA_SUCCESS)
        return "the address range of device memory cannot be reserved: driver error " +
               std::to_string(status);
    return {};
}

CUresult Session::make_current(uint64_t number) {
    if (current_known_ && number == current_) return CUDA_SUCCESS;
    CUcontext context = nullptr;
    if (number) {
        context = static_cast<CUcontext>(objects.get(HandleKind::Context, number));
        if (!context) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        for (const CUdevice device : lost_devices)
            if (number == primary_context_number(device)) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    const CUresult status = driver.cuCtxSetCurrent(context);
    current_known_ = status == CUDA_SUCCESS;
    current_ = number;
    return status;
}

bool Session::any_context() {
    if (current_known_ && current_ && context_devices.count(current_)) return true;
    for (const auto& [number, device] : context_devices)
        if (make_current(number) == CUDA_SUCCESS) return true;
    return false;
}

CUdevice Session::current_device() {
    auto found = context_devices.find(current_);
    return found == context_devices.end() ? 0 : found->second;
}

void Session::note_created(const Effect& effect) {
    if (effect.kind != Effect::Kind::Create || Objects::kind_of(effect.object) != HandleKind::Stream) return;
    unsigned flags = 0;
    auto* stream = static_cast<CUstream>(objects.get(HandleKind::Stream, effect.object));
    if (driver.cuStreamGetFlags(stream, &flags) == CUDA_SUCCESS && flags & CU_STREAM_NON_BLOCKING)
        non_blocking_[effect.owner].insert(effect.object);
}

void Session::forget_object(uint64_t number) {
    JournalEntry gone;
    gone.effect.kind = Effect::Kind::Destroy;
    gone.effect.object = number;
    forget_objects(journal.record(std::move(gone)));
    objects.remove(Objects::kind_of(number), number);
}

void Session::forget_destroyed() {
    for (CUuserObject object : user_objects.take_gone())
        if (const uint64_t number = objects.find(HandleKind::UserObject, object)) forget_object(number);
}

void Session::forget_objects(const std::vector<uint64_t>& gone) {
    for (uint64_t number : gone) {
        if (Objects::kind_of(number) == HandleKind::Context) forget_context(number);
        event_times.erase(number);
        shared_events.erase(number);
        captures.forget(number);
        for (auto& [context, streams] : non_blocking_) streams.erase(number);
        loading.object_gone(number);
        device_heaps.object_gone(*this, number);
        links.erase(number);
        objects.remove(Objects::kind_of(number), number);
    }
}

void Session::context_ends(uint64_t context) {
    if (snapshot_hooks) snapshot_hooks->context_ends(context);
    completions_.context_ends(context);
    if (slots_context_ != context || slots_awaited_) return;
    const uint64_t before = current_;
    let_go_of_slots();
    make_current(before);
}

void Session::forget_context(uint64_t number) {
    loading.context_gone(number);
    device_heaps.context_gone(number);
    completions_.context_gone(number);
    if (slots_context_ == number) slots_context_ = 0, slots_shown_ = false;
    objects.unload(number);
    context_devices.erase(number);
    device_memory.free_all_of(number);
    pools.forget_context(number);
    std::erase_if(thread_streams_, [&](auto& entry) { return entry.first.first == number; });
    // Its events went with it, also those that are awaited: the number may be that of the context's next life.
    idle_events_.erase(number);
    std::erase_if(event_contexts_, [&](const auto& entry) { return entry.second == number; });
    for (CopyToHost& copy : copies_to_host)
        if (!event_exists(copy.event)) copy.event = nullptr;
    std::erase_if(up_uses_, [&](const UpUse& use) { return !event_exists(use.event); });
    for (Freed& freed : freed_later_)
        if (freed.context == number) reclaim(freed.address);
    std::erase_if(freed_later_, [&](const Freed& freed) { return freed.context == number; });
    non_blocking_.erase(number);
    joins_.erase(number);
    busy_markers_.erase(number);
    waiters_.erase(number);
    if (number == current_) current_known_ = false;
}

void Session::note_posted(CUresult result, uint64_t seq) {
    if (posted_.result == CUDA_SUCCESS) posted_ = {result, seq};
}

CUresult Session::copied_to_host(std::vector<HostRange> ranges, CUstream stream, bool in_parts) {
    constexpr size_t looked_at = 16;
    CUevent event = record(stream);
    if (!event) return driver.cuStreamSynchronize(stream);
    // The same buffers again and again: the latest copy stands for those before it, up to the latest callback, after
    // which the application may have written there itself.
    const auto same = [&](const CopyToHost& copy) {
        return copy.stream == stream && !copy.told_by && !copy.callback && std::ranges::equal(copy.ranges, ranges);
    };
    const size_t count = std::min(copies_to_host.size(), looked_at);
    const auto found = std::find_if(copies_to_host.end() - static_cast<std::ptrdiff_t>(count), copies_to_host.end(), same);
    if (found != copies_to_host.end()) {
        if (found->event) give_event(found->event);
        copies_to_host.erase(found);
        in_parts = true;
    }
    copies_to_host.push_back({std::move(ranges), stream, event, 0, nullptr, in_parts});
    return CUDA_SUCCESS;
}

std::vector<HostRange> Session::untold_copies(uint64_t callback_begun) {
    std::vector<HostRange> all;
    for (const CopyToHost& copy : copies_to_host) {
        if (copy.told_by_callback(callback_begun)) continue;
        // What has not been copied yet must not hide what the application, or a callback of it, wrote there meanwhile.
        if (copy.event && !copy.in_parts && driver.cuEventQuery(copy.event) == CUDA_ERROR_NOT_READY) continue;
        all.insert(all.end(), copy.ranges.begin(), copy.ranges.end());
    }
    return all;
}

}  // namespace cricket::server
