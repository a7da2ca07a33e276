// SPDX-License-Identifier: MIT
// Waiting for the device, and events. An event's time survives a restore: it is kept relative to a base event that
// the session records when the first event is recorded in each of its lives.
#include "dispatch.h"
#include "record.h"
#include "session.h"

namespace cricket::server {
namespace {

CUevent event_of(Call& call, uint64_t number) {
    return number ? static_cast<CUevent>(call.objects.get(HandleKind::Event, number)) : nullptr;
}

void remember_record(Call& call, uint64_t number, CUstream stream) {
    Session& session = call.session;
    if (session.captures.capturing(stream)) return;  // becomes part of the capture, no time
    Session::EventTime& time = session.event_times[number];
    time.recorded = true;
    time.old = false;
    if (session.time_base || call.driver.cuEventCreate(&session.time_base, CU_EVENT_DEFAULT) != CUDA_SUCCESS) return;
    const Captures::OwnWork own(session.captures);
    // The legacy stream is out of bounds while other streams are captured.
    call.driver.cuEventRecord(session.time_base, session.captures.any() ? session.waiting_stream() : CU_STREAM_LEGACY);
}

CUresult record(Call& call, uint64_t event_number, uint64_t stream_number, unsigned flags) {
    CUevent event = event_of(call, event_number);
    CUstream stream = nullptr;
    if (!event || !call.stream(stream_number, &stream)) return CUDA_ERROR_INVALID_HANDLE;
    remember_record(call, event_number, stream);
    return flags ? call.driver.cuEventRecordWithFlags(event, stream, flags) : call.driver.cuEventRecord(event, stream);
}

// Milliseconds since the session began; false when the driver cannot tell.
CUresult time_of(Call& call, uint64_t number, double* ms) {
    const auto found = call.session.event_times.find(number);
    if (found == call.session.event_times.end() || !found->second.recorded) return CUDA_ERROR_INVALID_HANDLE;
    if (found->second.old) {
        *ms = found->second.ms;
        return CUDA_SUCCESS;
    }
    float since = 0;
    const CUresult status = call.driver.cuEventElapsedTime(&since, call.session.time_base, event_of(call, number));
    *ms = call.session.time_base_ms + since;
    return status;
}

CUresult elapsed(Call& call, uint64_t start, uint64_t end, float* ms) {
    CUevent first = event_of(call, start), last = event_of(call, end);
    if (!first || !last) return CUDA_ERROR_INVALID_HANDLE;
    const auto& times = call.session.event_times;
    const auto old = [&](uint64_t number) {
        const auto found = times.find(number);
        return found != times.end() && found->second.old;
    };
    if (!old(start) && !old(end)) return call.driver.cuEventElapsedTime(ms, first, last);
    double from = 0, to = 0;
    CUresult status = time_of(call, start, &from);
    if (status == CUDA_SUCCESS) status = time_of(call, end, &to);
    *ms = static_cast<float>(to - from);
    return status;
}

}  // namespace

void serve_cuEventRecord(Call& call, const cuEventRecord_args& args, cuEventRecord_res& res) {
    res.status = record(call, args.hEvent, args.hStream, 0);
}

void serve_cuEventRecordWithFlags(Call& call, const cuEventRecordWithFlags_args& args, cuEventRecordWithFlags_res& res) {
    res.status = record(call, args.hEvent, args.hStream, args.flags);
}

void serve_cuEventElapsedTime(Call& call, const cuEventElapsedTime_args& args, cuEventElapsedTime_res& res) {
    res.status = elapsed(call, args.hStart, args.hEnd, &res.pMilliseconds);
}

void serve_cuEventElapsedTime_v2(Call& call, const cuEventElapsedTime_v2_args& args, cuEventElapsedTime_v2_res& res) {
    res.status = elapsed(call, args.hStart, args.hEnd, &res.pMilliseconds);
}

void serve_cuStreamSynchronize(Call& call, const cuStreamSynchronize_args& args, cuStreamSynchronize_res& res) {
    call.reclaim = Session::unused_memory;
    CUstream stream = nullptr;
    if (!call.stream(args.hStream, &stream)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    if (call.session.current()) {
        const CUresult status = call.driver.cuStreamQuery(stream);
        if (status != CUDA_ERROR_NOT_READY) {
            call.session.flush_text(nullptr, stream, status);
            res.status = status;
            return;
        }
        call.wait_for = call.session.await(stream, nullptr, call.done);
        if (call.wait_for) return;
    }
    res.status = call.driver.cuStreamSynchronize(stream);  // says why
}

void serve_cuEventSynchronize(Call& call, const cuEventSynchronize_args& args, cuEventSynchronize_res& res) {
    call.reclaim = Session::unused_memory;
    CUevent event = event_of(call, args.hEvent);
    if (!event) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    // The event may be recorded again before it completes: what is awaited is what it stands for now. The streams'
    // order makes a later event on a stream of ours stand for the same.
    CUresult status = call.driver.cuEventQuery(event);
    if (status != CUDA_ERROR_NOT_READY) {
        res.status = status;
        call.session.flush_text(event, nullptr, status);
        return;
    }
    const Captures::OwnWork own(call.session.captures);
    CUstream waiter = call.session.waiting_stream();
    if (waiter && call.driver.cuStreamWaitEvent(waiter, event, 0) == CUDA_SUCCESS) call.wait_for = call.session.await(waiter, nullptr, call.done);
    if (call.wait_for) return;
    res.status = call.driver.cuEventSynchronize(event);
}

// The source may be gone when this is repeated: journalled as what the other has now.
void serve_cuStreamCopyAttributes(Call& call, const cuStreamCopyAttributes_args& args, cuStreamCopyAttributes_res& res) {
    CUstream to = nullptr, from = nullptr;
    if (!call.stream(args.dstStream, &to) || !call.stream(args.srcStream, &from)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    res.status = call.driver.cuStreamCopyAttributes(to, from);
    if (res.status != CUDA_SUCCESS || args.dstStream < 16) return;  // default streams are no objects of the journal
    for (const CUstreamAttrID attribute :
         {CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY,
          CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP, CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN}) {
        cuStreamSetAttribute_args set{};
        if (call.driver.cuStreamGetAttribute(to, attribute, &set.param) != CUDA_SUCCESS) continue;
        set.hStream = args.dstStream;
        set.attr = attribute;
        record_extra(call, Proc::cuStreamSetAttribute, xdr_routine(xdr_cuStreamSetAttribute_args), &set,
                     {Effect::Kind::State, args.dstStream, 0, {static_cast<uint64_t>(attribute), 0}});
    }
}

}  // namespace cricket::server
