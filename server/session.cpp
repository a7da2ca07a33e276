// SPDX-License-Identifier: MIT
#include "session.h"

#include <sys/mman.h>

#include <algorithm>

#include "call.h"
#include "cricket/primary_contexts.h"

namespace cricket::server {

Session::Session(const DriverTable& table)
    : driver(table), device_memory(table), virtual_memory(table, objects, device_memory), pools(*this), host_memory(table), managed(table), captures(table), graph_history(*this), completions_(table) {}

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
    if (captured_memory) return "the session allocated memory in a graph";
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
        for (const CUdevice device : lost)
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

bool Session::busy() {
    for (const auto& [number, device] : context_devices) {
        if (make_current(number) != CUDA_SUCCESS) continue;
        CUevent& marker = busy_markers_[number];
        if (!marker) marker = all_work();
        if (!marker) continue;  // a sticky error, which synchronize_all() will tell
        if (driver.cuEventQuery(marker) == CUDA_ERROR_NOT_READY) return true;
        give_event(marker);
        marker = nullptr;
    }
    return false;
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

// The driver looks for text in its own synchronizing calls; these return at once, since nothing is left to wait for.
void Session::flush_text(CUevent done, CUstream idle, CUresult status) {
    if (!device_text.possible()) return;
    if (status != CUDA_SUCCESS) {
        if (auto context = event_contexts_.find(done); context != event_contexts_.end()) make_current(context->second);
        driver.cuCtxSynchronize();
    } else if (done) {
        driver.cuEventSynchronize(done);
    } else {
        driver.cuStreamSynchronize(idle);
    }
    device_text.look();
}

CUresult Session::synchronize_all() {
    CUresult first = CUDA_SUCCESS;
    for (const auto& [number, device] : context_devices) {
        CUresult status = make_current(number);
        if (status == CUDA_SUCCESS) status = captures.any() ? synchronize_streams(number) : driver.cuCtxSynchronize();
        if (first == CUDA_SUCCESS) first = status;
    }
    if (device_text.possible()) device_text.look();
    return first;
}

// The context's streams one by one, without those that are captured: a context with a capture cannot be waited for.
CUresult Session::synchronize_streams(uint64_t context) {
    std::vector<CUstream> streams{CU_STREAM_LEGACY};
    for (const auto& [key, stream] : thread_streams_)
        if (key.first == context) streams.push_back(stream);
    for (const auto& [seq, entry] : journal.entries()) {
        const uint64_t object = entry.effect.object;
        if (entry.effect.kind == Effect::Kind::Create && entry.effect.owner == context &&
            Objects::kind_of(object) == HandleKind::Stream)
            if (void* stream = objects.get(HandleKind::Stream, object)) streams.push_back(static_cast<CUstream>(stream));
    }
    CUresult first = CUDA_SUCCESS;
    for (CUstream stream : streams) {
        if (captures.capturing(stream)) continue;
        const CUresult status = driver.cuStreamSynchronize(stream);
        if (first == CUDA_SUCCESS) first = status;
    }
    return first;
}

CUstream Session::thread_stream(uint32_t thread) {
    auto [place, is_new] = thread_streams_.try_emplace({current_, thread}, nullptr);
    const Captures::OwnWork own(captures);
    if (is_new && driver.cuStreamCreate(&place->second, CU_STREAM_DEFAULT) != CUDA_SUCCESS) {
        thread_streams_.erase(place);
        return CU_STREAM_LEGACY;
    }
    return place->second;
}

void Session::note_created(const Effect& effect) {
    if (effect.kind != Effect::Kind::Create || Objects::kind_of(effect.object) != HandleKind::Stream) return;
    unsigned flags = 0;
    auto* stream = static_cast<CUstream>(objects.get(HandleKind::Stream, effect.object));
    if (driver.cuStreamGetFlags(stream, &flags) == CUDA_SUCCESS && flags & CU_STREAM_NON_BLOCKING)
        non_blocking_[effect.owner].insert(effect.object);
}

CUstream Session::waiting_stream() {
    if (!current_) return nullptr;
    const Captures::OwnWork own(captures);
    Waiters& waiters = waiters_[current_];
    // One that has nothing to wait for, else the longest used.
    for (unsigned i = 0; i < waiters_per_context; ++i) {
        CUstream& stream = waiters.streams[(waiters.next + i) % waiters_per_context];
        if (stream && driver.cuStreamQuery(stream) == CUDA_ERROR_NOT_READY) continue;
        if (!stream && driver.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS) return nullptr;
        return stream;
    }
    return waiters.streams[waiters.next++ % waiters_per_context];
}

CUevent Session::all_work() {
    return behind_all_work(false).event;
}

Awaited Session::await_all_work() {
    return behind_all_work(true);
}

Awaited Session::behind_all_work(bool with_word) {
    // A primary context's work is that of its green contexts too: the driver knows it all.
    if (captures.any() || !green_contexts.empty()) return nullptr;
    CUevent done = take_event();
    if (!done) return nullptr;
    CUstream last = CU_STREAM_LEGACY;
    CUresult status = driver.cuEventRecord(done, CU_STREAM_LEGACY);
    auto& others = non_blocking_[current_];
    if (status == CUDA_SUCCESS && !others.empty()) {
        CUstream& join = joins_[current_];
        if (!join) status = driver.cuStreamCreate(&join, CU_STREAM_NON_BLOCKING);
        if (status == CUDA_SUCCESS) status = driver.cuStreamWaitEvent(join, done, 0);
        for (uint64_t number : others) {
            auto* stream = static_cast<CUstream>(objects.get(HandleKind::Stream, number));
            if (status == CUDA_SUCCESS) status = driver.cuEventRecord(done, stream);
            if (status == CUDA_SUCCESS) status = driver.cuStreamWaitEvent(join, done, 0);
        }
        if (status == CUDA_SUCCESS) status = driver.cuEventRecord(done, join);
        last = join;
    }
    if (status == CUDA_SUCCESS) return {done, with_word ? word_behind(last) : Completions::Word{}};
    give_event(done);
    return nullptr;
}

CUresult Session::synchronize_home() {
    const uint64_t before = current_;
    if (const CUresult status = make_current(current_home()); status != CUDA_SUCCESS) return status;
    const CUresult status = driver.cuCtxSynchronize();
    make_current(before);
    return status;
}

void Session::settle_all_work() {
    if (CUevent done = all_work()) {
        driver.cuEventSynchronize(done);
        give_event(done);
    } else if (!captures.any()) {
        synchronize_home();
    }
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

CUresult Session::refused_by_capture() {
    CUevent event = take_event();
    const CUresult status = event ? driver.cuEventQuery(event) : CUDA_SUCCESS;
    if (event) give_event(event);
    return status == CUDA_SUCCESS ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : status;
}

void Session::captures_ended() {
    if (captures.any()) return;
    const uint64_t before = current_;
    for (Freed& freed : freed_later_)
        if (!freed.event && make_current(freed.context) == CUDA_SUCCESS) freed.event = all_work();
    make_current(before);
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
}

void Session::forget_context(uint64_t number) {
    loading.context_gone(number);
    device_heaps.context_gone(number);
    completions_.context_gone(number);
    objects.unload(number);
    context_devices.erase(number);
    device_memory.free_all_of(number);
    pools.forget_context(number);
    std::erase_if(thread_streams_, [&](auto& entry) { return entry.first.first == number; });
    // Its events went with it, also those that are awaited: the number may be that of the context's next life.
    idle_events_.erase(number);
    std::erase_if(event_contexts_, [&](const auto& entry) { return entry.second == number; });
    for (CopyToHost& copy : copies_to_host)
        if (!there(copy.event)) copy.event = nullptr;
    std::erase_if(up_uses_, [&](const UpUse& use) { return !there(use.event); });
    for (Freed& freed : freed_later_)
        if (freed.context == number) reclaim(freed.address);
    std::erase_if(freed_later_, [&](const Freed& freed) { return freed.context == number; });
    non_blocking_.erase(number);
    joins_.erase(number);
    busy_markers_.erase(number);
    waiters_.erase(number);
    if (number == current_) current_known_ = false;
}

void Session::end_own_streams(uint64_t context) {
    const auto end = [&](CUstream stream) {
        if (stream) driver.cuStreamDestroy(stream);
    };
    if (auto waiters = waiters_.find(context); waiters != waiters_.end()) {
        for (CUstream stream : waiters->second.streams) end(stream);
        waiters_.erase(waiters);
    }
    if (auto join = joins_.find(context); join != joins_.end()) {
        end(join->second);
        joins_.erase(join);
    }
    std::erase_if(thread_streams_, [&](auto& entry) {
        if (entry.first.first != context) return false;
        end(entry.second);
        return true;
    });
}

void Session::note_posted(CUresult result, uint64_t seq) {
    if (posted_.result == CUDA_SUCCESS) posted_ = {result, seq};
}

CUevent Session::take_event() {
    const Captures::OwnWork own(captures);
    const uint64_t context = current_home();
    auto& idle = idle_events_[context];
    CUevent event = nullptr;
    if (!idle.empty()) {
        event = idle.back();
        idle.pop_back();
    } else if (driver.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING) == CUDA_SUCCESS) {
        event_contexts_[event] = context;
    } else {
        event = nullptr;
    }
    return event;
}

CUevent Session::record(CUstream stream, CUresult* status) {
    CUevent event = take_event();
    CUresult recorded = event ? driver.cuEventRecord(event, stream) : CUDA_ERROR_INVALID_CONTEXT;
    CUcontext context = nullptr;
    if (event && recorded == CUDA_ERROR_INVALID_HANDLE && driver.cuStreamGetCtx && driver.cuStreamGetCtx(stream, &context) == CUDA_SUCCESS) {
        // An event and the stream that it is recorded in are of one context.
        give_event(event);
        const uint64_t before = current_, number = objects.find(HandleKind::Context, context);
        event = number && make_current(number) == CUDA_SUCCESS ? take_event() : nullptr;
        if (event) recorded = driver.cuEventRecord(event, stream);
        make_current(before);
    }
    if (status) *status = recorded;
    if (recorded == CUDA_SUCCESS) return event;
    if (event) give_event(event);
    return nullptr;
}

// Text of kernels is looked for by asking about events, and a word in a stream would become a node of its capture.
Completions::Word Session::word_behind(CUstream stream) {
    if (device_text.possible() || captures.any() || current_home() != current_) return {};
    return completions_.behind(current_, stream);
}

Awaited Session::await(CUstream stream, CUresult* status) {
    // Only streams of the current context may write its words: where there are others, the event tells whose stream it is.
    const bool alone = context_devices.size() == 1;
    Awaited awaited{nullptr, alone ? word_behind(stream) : Completions::Word{}};
    awaited.event = record(stream, status);
    if (!awaited.event)
        completions_.give(std::exchange(awaited.word, {}));
    else if (!alone && event_contexts_.at(awaited.event) == current_)
        awaited.word = word_behind(stream);
    return awaited;
}

void Session::give(Awaited awaited) {
    if (awaited.event) give_event(awaited.event);
    completions_.give(awaited.word);
}

void Session::give_event(CUevent event) {
    auto context = event_contexts_.find(event);
    if (context != event_contexts_.end()) idle_events_[context->second].push_back(event);
}

void Session::channel_arrived() {
    pinned_parts_.clear();
    const auto& geometry = ring->channel().geometry();
    void* alias = ::mmap(reinterpret_cast<void*>(pageable_up_place), geometry.up_bytes, PROT_READ,
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
    if (pageable_up_) ::munmap(pageable_up_, geometry.up_bytes);
    pageable_up_ = nullptr;
    ring = nullptr;
}

// On the first use with a context: pinned buffers make copies truly asynchronous.
void Session::pin_part(uint64_t area, uint64_t area_bytes, uint64_t offset) {
    if (!current_known_ || !context_devices.count(current_)) return;
    wire::BulkPart part{0, area_bytes};
    if (ring->channel().client_page().keeps_cuts)
        part = area == ring->channel().geometry().up_offset ? wire::bulk_part(wire::up_cuts, area_bytes, offset - area)
                                                             : wire::bulk_part(wire::down_cuts, area_bytes, offset - area);
    const uint64_t begin = area + part.begin;
    for (const PinnedPart& known : pinned_parts_)
        if (known.offset == begin) return;
    const Captures::OwnWork own(captures);
    pinned_parts_.push_back({begin, driver.cuMemHostRegister(ring->channel().base() + begin, part.end - part.begin,
                                                             CU_MEMHOSTREGISTER_PORTABLE) == CUDA_SUCCESS});
}

// Whether [offset, offset + bytes) of the memfd lies in the area.
static bool inside(uint64_t offset, uint64_t bytes, uint64_t area_offset, uint64_t area_bytes) {
    return offset >= area_offset && bytes <= area_bytes && offset - area_offset <= area_bytes - bytes;
}

const void* Session::up_data(uint64_t offset, uint64_t bytes) {
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

uint64_t Call::home() const { return session.home(credential.context); }

CUstream Call::default_stream() {
    return credential.flags & wire::per_thread_default_stream ? session.thread_stream(credential.thread)
                                                              : CU_STREAM_LEGACY;
}

bool Call::stream(uint64_t number, CUstream* out) {
    if (number == 0) {
        *out = default_stream();
    } else if (number == 1) {
        *out = CU_STREAM_LEGACY;
    } else if (number == 2) {
        if (session.current_home() != session.current()) return false;  // a green context has no such streams
        *out = session.thread_stream(credential.thread);
    } else {
        *out = static_cast<CUstream>(objects.get(HandleKind::Stream, number));
        return *out != nullptr;
    }
    return true;
}

const void* Call::read(const rpc::Bulk& bulk) {
    if (attachment && replaying) return attachment->size() == bulk.size ? attachment->data() : nullptr;
    switch (bulk.where) {
        case rpc::Bulk::Where::Inline:
            return bulk.bytes.present && bulk.bytes.size == bulk.size ? bulk.bytes.data : nullptr;
        case rpc::Bulk::Where::Shared:
            return session.up_data(bulk.offset, bulk.size);
        case rpc::Bulk::Where::Host:
            return session.host_memory.valid(bulk.offset, bulk.size) ? reinterpret_cast<void*>(bulk.offset)
                                                                     : nullptr;
        case rpc::Bulk::Where::Fetched: {
            auto* place = static_cast<std::byte*>(const_cast<void*>(session.up_data(bulk.offset, bulk.size)));
            if (!place || !session.fetcher) return nullptr;
            const auto result = session.fetcher->fetch(place, bulk.address, bulk.size);
            client_gone = result == Fetcher::Result::Gone;
            // Memory of devices cannot be read from here, which its own process can; nobody's memory it will find out itself.
            if (result != Fetcher::Result::Ok) read_error = static_cast<CUresult>(wire::fetch_refused);
            if (result == Fetcher::Result::Refused) session.ring->channel().server_page().can_fetch = 0;
            return result == Fetcher::Result::Ok ? place : nullptr;
        }
        default:
            return nullptr;
    }
}

void* Call::write(const rpc::Bulk& bulk) {
    switch (bulk.where) {
        case rpc::Bulk::Where::Shared:
            down_offset = bulk.offset;
            down_bytes = bulk.size;
            return session.down_data(bulk.offset, bulk.size);
        case rpc::Bulk::Where::Host:
            return session.host_memory.valid(bulk.offset, bulk.size) ? reinterpret_cast<void*>(bulk.offset)
                                                                     : nullptr;
        default:
            return nullptr;
    }
}

bool Call::wants_reply() const {
    return credential.flags & wire::wants_reply && !(credential.flags & wire::answer_at_once);
}

}  // namespace cricket::server
