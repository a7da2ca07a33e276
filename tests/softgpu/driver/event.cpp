// SPDX-License-Identifier: MIT
#include "event.h"

using namespace softgpu;

namespace {

std::shared_ptr<Event> healthy(CUevent handle) {
    auto event = events().get(handle);
    require(event->context->sticky() == CUDA_SUCCESS, event->context->sticky());
    return event;
}

}  // namespace

CUresult cuEventCreate(CUevent* out, unsigned flags) {
    return api([&] {
        constexpr unsigned kKnown = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
        require(out && (flags & ~kKnown) == 0);
        require(!(flags & CU_EVENT_INTERPROCESS) || (flags & CU_EVENT_DISABLE_TIMING));
        require(!(flags & CU_EVENT_INTERPROCESS), CUDA_ERROR_NOT_SUPPORTED);
        auto event = std::make_shared<Event>();
        event->context = current();
        event->flags = flags;
        *out = events().add(std::move(event));
    });
}

CUresult cuEventDestroy_v2(CUevent handle) {
    return api([&] { events().remove(handle); });
}

CUresult cuEventDestroy(CUevent handle) {
    return cuEventDestroy_v2(handle);
}

CUresult cuEventRecordWithFlags(CUevent handle, CUstream on, unsigned flags) {
    return api([&] {
        require((flags & ~unsigned{CU_EVENT_RECORD_EXTERNAL}) == 0);
        auto event = healthy(handle);
        auto s = stream(on);
        require(s->context == event->context, CUDA_ERROR_INVALID_HANDLE);
        if (captured_record(s, *event, handle, flags)) return;
        auto mark = s->mark();
        std::unique_lock lock(event->mutex);
        event->recorded = std::move(mark);
    });
}

CUresult cuEventRecord(CUevent handle, CUstream on) {
    return cuEventRecordWithFlags(handle, on, 0);
}

CUresult cuEventQuery(CUevent handle) {
    return api([&] {
        auto event = healthy(handle);
        refuse_if_captured(*event);
        potentially_unsafe();
        auto mark = event->latest();
        require(!mark || mark->done(), CUDA_ERROR_NOT_READY);
    });
}

CUresult cuEventSynchronize(CUevent handle) {
    return api([&] {
        auto event = healthy(handle);
        refuse_if_captured(*event);
        potentially_unsafe();
        if (auto mark = event->latest()) mark->wait();
        event->context->output.flush();
        require(event->context->sticky() == CUDA_SUCCESS, event->context->sticky());
    });
}

CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    return api([&] {
        require(milliseconds);
        auto first = healthy(start), last = healthy(end);
        require(!((first->flags | last->flags) & CU_EVENT_DISABLE_TIMING), CUDA_ERROR_INVALID_HANDLE);
        refuse_if_captured(*first);
        refuse_if_captured(*last);
        auto from = first->latest(), to = last->latest();
        require(from && to, CUDA_ERROR_INVALID_HANDLE);
        require(from->done() && to->done(), CUDA_ERROR_NOT_READY);
        *milliseconds =
            static_cast<float>(static_cast<double>(to->nanoseconds() - from->nanoseconds()) / 1e6);
    });
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

CUresult cuStreamWaitEvent(CUstream on, CUevent handle, unsigned flags) {
    return api([&] {
        require((flags & ~unsigned{CU_EVENT_WAIT_EXTERNAL}) == 0);
        auto event = events().get(handle);
        auto s = stream(on);
        if (captured_wait(s, *event, handle, flags)) return;
        auto mark = event->latest();
        if (mark && !mark->done()) s->submit(nullptr, {std::move(mark)});
    });
}
