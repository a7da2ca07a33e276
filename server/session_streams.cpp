// SPDX-License-Identifier: MIT
// The session's own streams and events, beside the application's: what is done when, and waiting until it is.
#include "session.h"

#include <algorithm>

namespace cricket::server {

bool Session::busy(bool* all_told) {
    for (const auto& [number, device] : context_devices) {
        if (make_current(number) != CUDA_SUCCESS) continue;
        CUevent& marker = busy_markers_[number];
        if (!marker) marker = all_work();
        if (!marker && all_told) *all_told = false;
        if (!marker) continue;  // a sticky error, which synchronize_all() will tell
        if (driver.cuEventQuery(marker) == CUDA_ERROR_NOT_READY) return true;
        give_event(marker);
        marker = nullptr;
    }
    return false;
}

bool Session::can_tell_idle() const { return !captures.any() && green_contexts.empty(); }

bool Session::idle() {
    bool all_told = can_tell_idle();
    return !busy(&all_told) && all_told;
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
    return behind_all_work(false, {}).event;
}

Awaited Session::await_all_work(const Completions::Done& done) {
    return behind_all_work(true, done);
}

Awaited Session::behind_all_work(bool with_word, const Completions::Done& done) {
    // A primary context's work is that of its green contexts too: the driver knows it all.
    if (captures.any() || !green_contexts.empty()) return nullptr;
    CUevent event = take_event();
    if (!event) return nullptr;
    CUstream last = CU_STREAM_LEGACY;
    CUresult status = driver.cuEventRecord(event, CU_STREAM_LEGACY);
    auto& others = non_blocking_[current_];
    if (status == CUDA_SUCCESS && !others.empty()) {
        CUstream& join = joins_[current_];
        if (!join) status = driver.cuStreamCreate(&join, CU_STREAM_NON_BLOCKING);
        if (status == CUDA_SUCCESS) status = driver.cuStreamWaitEvent(join, event, 0);
        for (uint64_t number : others) {
            auto* stream = static_cast<CUstream>(objects.get(HandleKind::Stream, number));
            if (status == CUDA_SUCCESS) status = driver.cuEventRecord(event, stream);
            if (status == CUDA_SUCCESS) status = driver.cuStreamWaitEvent(join, event, 0);
        }
        if (status == CUDA_SUCCESS) status = driver.cuEventRecord(event, join);
        last = join;
    }
    if (status == CUDA_SUCCESS) return {event, with_word ? word_behind(last, done, true) : Completions::Word{}};
    give_event(event);
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

bool Session::tells_of_copies(CUstream stream, bool all) const {
    if (all && context_devices.size() == 1) return true;
    return std::ranges::all_of(copies_to_host, [&](const CopyToHost& copy) { return copy.told_by || (!all && copy.stream == stream); });
}

// Text of kernels is looked for by asking about events, and a word in a stream would become a node of its capture.
Completions::Word Session::word_behind(CUstream stream, const Completions::Done& done, bool all) {
    if (device_text.possible() || captures.any() || current_home() != current_) return {};
    if (!done.place || !device_sees_slots() || !tells_of_copies(stream, all) ||
        driver.cuStreamWriteValue64(stream, reinterpret_cast<CUdeviceptr>(done.place), done.seq, CU_STREAM_WRITE_VALUE_DEFAULT) != CUDA_SUCCESS)
        return completions_.behind(current_, stream);
    ++slots_awaited_;
    // It may know of them before anybody looks here again.
    for (CopyToHost& copy : copies_to_host)
        if (!copy.told_by) copy.told_by = done.seq;
    return {nullptr, 0, done};
}

Awaited Session::await(CUstream stream, CUresult* status, const Completions::Done& done) {
    // Only streams of the current context may write its words: where there are others, the event tells whose stream it is.
    const bool alone = context_devices.size() == 1;
    Awaited awaited{nullptr, alone ? word_behind(stream, done) : Completions::Word{}};
    awaited.event = record(stream, status);
    if (!awaited.event)
        give(std::exchange(awaited, {}));
    else if (!alone && event_contexts_.at(awaited.event) == current_)
        awaited.word = word_behind(stream, done);
    return awaited;
}

void Session::give(Awaited awaited) {
    if (awaited.event) give_event(awaited.event);
    if (awaited.word.done.place)
        slots_awaited_ -= awaited.word.written();  // else its event was seen first, or it has failed: still to be written perhaps
    else
        completions_.give(awaited.word);
}

void Session::give_event(CUevent event) {
    auto context = event_contexts_.find(event);
    if (context != event_contexts_.end()) idle_events_[context->second].push_back(event);
}

}  // namespace cricket::server
