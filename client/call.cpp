// SPDX-License-Identifier: MIT
// Calls of all kinds over whichever transport the session has.
#include "client/call.h"

#include <errno.h>
#include <stdlib.h>

#include <cstring>

#include "client/captures.h"
#include "client/contexts.h"
#include "client/image_offer.h"
#include "client/keep_errno.h"
#include "client/device_text.h"
#include "client/log.h"
#include "client/managed_variables.h"
#include "client/pointer_cache.h"
#include "client/session.h"
#include "client/thread_number.h"

namespace cricket::client {

namespace {

// Calls that leave their stream, context or event done when they succeed.
bool waits_for_device(Proc proc) {
    return proc == Proc::cuStreamSynchronize || proc == Proc::cuCtxSynchronize || proc == Proc::cuCtxSynchronize_v2 ||
           proc == Proc::cuEventSynchronize || proc == Proc::cuStreamQuery || proc == Proc::cuEventQuery;
}

constexpr uint32_t small_reply = 1024;

// The last reply of this thread, copied out of shared memory; blobs of results point into it.
struct ReplyBuffer {
    std::byte small[small_reply];
    std::byte* large;
    xdrproc_t xdr_res;  // plain transport: results to be freed
    void* res;
};
constinit thread_local ReplyBuffer reply_buffer __attribute__((tls_model("initial-exec"))) = {};

rpc::Credential credential_for(const CallOptions& options, bool reply) {
    rpc::Credential credential;
    credential.context = current_context();
    credential.thread = thread_number();
    credential.flags = options.flags | captures::mode_flags() | (reply ? uint32_t(wire::wants_reply) : 0u);
    return credential;
}

CUresult lost(const char* what) {
    static std::atomic<bool> said{false};
    log_once(said, LogLevel::Error, "the session is lost (%s): every CUDA call now answers error %d", what,
             static_cast<int>(session_lost));
    return session_lost;
}

// Errors after which a context is of no use: every call in it answers them until it is destroyed or reset.
bool is_sticky(int32_t status) {
    switch (status) {
        case CUDA_ERROR_ECC_UNCORRECTABLE:
        case CUDA_ERROR_NVLINK_UNCORRECTABLE:
        case CUDA_ERROR_ILLEGAL_ADDRESS:
        case CUDA_ERROR_LAUNCH_TIMEOUT:
        case CUDA_ERROR_ASSERT:
        case CUDA_ERROR_HARDWARE_STACK_ERROR:
        case CUDA_ERROR_ILLEGAL_INSTRUCTION:
        case CUDA_ERROR_MISALIGNED_ADDRESS:
        case CUDA_ERROR_INVALID_ADDRESS_SPACE:
        case CUDA_ERROR_INVALID_PC:
        case CUDA_ERROR_LAUNCH_FAILED:
            return true;
    }
    return false;
}

// The last context that answered a sticky error, and which: posted calls in it answer it at once, as the driver's do.
std::atomic<uint64_t> broken_context{0};
std::atomic<int32_t> broken_by{0};

// Ends contexts: what earlier posted calls had to complain about is over with them.
bool ends_context(Proc proc) {
    return proc == Proc::cuDevicePrimaryCtxReset_v2 || proc == Proc::cuDevicePrimaryCtxRelease_v2 ||
           proc == Proc::cuCtxDestroy_v2;
}

// What the driver answers in a broken context too: questions about devices and itself, and the end of contexts. The rest
// answers the error that broke it, also where our server would know an answer without the driver.
bool needs_whole_context(Proc proc) {
    constexpr const char* others[] = {"cuDevice", "cuCtxDestroy", "cuCtxCreate", "cuCtxGetDevice", "cuDriver",
                                      "cuLogs",   "cuCoredump",   "cuProfiler",  "cricket"};
    const char* name = proc_name(proc);
    for (const char* other : others)
        if (std::strncmp(name, other, std::strlen(other)) == 0) return false;
    return true;
}

// CUDA_SUCCESS, or the error that has broken the current context, for calls that need it whole.
CUresult broken(Proc proc) {
    const int32_t by = broken_by.load(std::memory_order_relaxed);
    if (by == 0) [[likely]] return CUDA_SUCCESS;
    return broken_context.load() == current_context() && needs_whole_context(proc) ? static_cast<CUresult>(by) : CUDA_SUCCESS;
}

bool succeeded(const void* res) {
    int32_t status;
    std::memcpy(&status, res, sizeof status);
    return status == CUDA_SUCCESS;
}

// A driver's answer, or what an earlier posted call has to say instead.
CUresult result_of(Session& session, Proc proc, const rpc::PostedError& posted, void* res) {
    if (posted.result)
        session.note_posted_error(posted.result);
    else if (posted.seq)
        device_text::note(posted.seq);
    int32_t status;
    std::memcpy(&status, res, sizeof status);
    if (ends_context(proc)) {
        take_posted_error();
        broken_by.store(0);
    } else if (is_sticky(status)) {
        take_posted_error();  // the same accident, or one that it has made meaningless
        broken_context.store(current_context());
        broken_by.store(status);
        pointer_cache::forget();
    }
    if (status != CUDA_SUCCESS) {
        // The server is told of no context; only here is it known that there was one, which is gone.
        const bool gone = status == CUDA_ERROR_INVALID_CONTEXT && needs_whole_context(proc) && contexts::top() && !current_context();
        return gone ? CUDA_ERROR_CONTEXT_IS_DESTROYED : static_cast<CUresult>(status);
    }
    const int32_t earlier = take_posted_error();
    if (is_sticky(earlier)) {
        broken_context.store(current_context());
        broken_by.store(earlier);
        pointer_cache::forget();
    }
    return static_cast<CUresult>(earlier);
}

CUresult of_rpc(clnt_stat status, Proc proc) {
    if (status == RPC_PROCUNAVAIL) return unsupported(proc_name(proc), "the server does not know it");
    if (status == RPC_CANTDECODEARGS || status == RPC_CANTENCODEARGS) return CUDA_ERROR_INVALID_VALUE;
    log(LogLevel::Error, "%s: RPC status %d", proc_name(proc), static_cast<int>(status));
    return lost("a message could not be read");
}

CUresult call_plain(Session& session, Proc proc, xdrproc_t xdr_args, void* args, xdrproc_t xdr_res, void* res,
                    const CallOptions& options) {
    rpc::PostedError posted;
    const clnt_stat status = session.plain()->call(static_cast<uint32_t>(proc), credential_for(options, true),
                                                   xdr_args, args, xdr_res, res, &posted);
    if (status != RPC_SUCCESS) return of_rpc(status, proc);
    reply_buffer.xdr_res = xdr_res;
    reply_buffer.res = res;
    return result_of(session, proc, posted, res);
}

}  // namespace

CUresult of_status(ring::Status status) {
    if (status == ring::Status::TooLarge) return CUDA_ERROR_INVALID_VALUE;
    return lost("no server has it");
}

ring::Request request_for(Proc proc, xdrproc_t xdr_args, void* args, uint32_t flags, bool reply) {
    return {static_cast<uint32_t>(proc), credential_for({flags, 0}, reply), xdr_args, args, 0};
}

CUresult finish_call(Session& session, ring::Pending& pending, Proc proc, xdrproc_t xdr_res, void* res,
                     void (*copy_out)(void* user), void* user, bool order_held) {
    ring::RingClient& ring = *session.ring();
    const auto xid = static_cast<uint32_t>(pending.seq);
    const std::byte* copy = nullptr;
    uint32_t bytes = 0;
    rpc::PostedError posted;
    clnt_stat status = RPC_SUCCESS;
    for (;;) {
        if (const auto status = ring.wait(&pending, order_held); status != ring::Status::Ok) {
            ring.release(&pending, order_held);
            return of_status(status);
        }
        if (!pending.message) {
            // The device has told it: all went well, and nothing that was posted before has anything to say.
            constexpr int32_t success = CUDA_SUCCESS;
            std::memcpy(res, &success, sizeof success);
            if (copy_out) copy_out(user);
            if (!ring.confirm(&pending, order_held)) continue;
            ring.release(&pending, order_held);
            return result_of(session, proc, {}, res);
        }
        bytes = pending.message_bytes;
        std::byte* place = reply_buffer.small;
        if (bytes > small_reply) {
            ::free(reply_buffer.large);
            place = reply_buffer.large = static_cast<std::byte*>(::malloc(bytes));
        }
        if (place) std::memcpy(place, pending.message, bytes);
        if (place && copy_out) {
            // What the driver refused to copy must not reach the application, whose buffer may end before that.
            status = rpc::decode_reply(place, bytes, xid, &posted, xdr_res, res);
            if (status == RPC_SUCCESS && succeeded(res)) copy_out(user);
        }
        copy = place;
        if (ring.confirm(&pending, order_held)) break;
    }
    ring.release(&pending, order_held);
    if (!copy) return CUDA_ERROR_OUT_OF_MEMORY;
    if (!copy_out) status = rpc::decode_reply(copy, bytes, xid, &posted, xdr_res, res);
    if (status != RPC_SUCCESS) return of_rpc(status, proc);
    return result_of(session, proc, posted, res);
}

static CUresult call_ring_or_plain(Session& session, Proc proc, xdrproc_t xdr_args, void* args, xdrproc_t xdr_res,
                                   void* res, const CallOptions& options) {
    if (!session.ring()) return call_plain(session, proc, xdr_args, args, xdr_res, res, options);
    ring::Request request{static_cast<uint32_t>(proc), credential_for(options, true), xdr_args, args,
                          options.reply_bytes ? options.reply_bytes + 256 : 0};
    ring::Pending pending;
    if (const auto status = session.ring()->begin(request, &pending); status != ring::Status::Ok)
        return of_status(status);
    return finish_call(session, pending, proc, xdr_res, res, nullptr, nullptr);
}

CUresult call(Proc proc, xdrproc_t xdr_args, void* args, xdrproc_t xdr_res, void* res, const CallOptions& options) {
    KeepErrno keep;
    Session* session = Session::get();
    if (!session) return Session::absent();
    if (const CUresult status = broken(proc); status != CUDA_SUCCESS) return status;
    const pointer_cache::Crossing crossing(proc);
    if (managed::any()) [[unlikely]] {
        managed::flush();
        const CUresult result = call_ring_or_plain(*session, proc, xdr_args, args, xdr_res, res, options);
        if (result == CUDA_SUCCESS && (waits_for_device(proc) || Session::launch_blocking())) managed::fetch();
        return result;
    }
    return call_ring_or_plain(*session, proc, xdr_args, args, xdr_res, res, options);
}

void release_reply(bool may_call) {
    KeepErrno keep;
    if (reply_buffer.large) {
        ::free(reply_buffer.large);
        reply_buffer.large = nullptr;
    }
    if (reply_buffer.xdr_res) {
        ::xdr_free(reply_buffer.xdr_res, static_cast<char*>(reply_buffer.res));
        reply_buffer.xdr_res = nullptr;
    }
    if (may_call) device_text::deliver();
}

CUresult post(Proc proc, xdrproc_t xdr_args, void* args, const CallOptions& options) {
    KeepErrno keep;
    Session* session = Session::get();
    if (!session) return Session::absent();
    if (current_context() == 0) [[unlikely]] return need_context();
    if (const CUresult status = broken(proc); status != CUDA_SUCCESS) return status;
    const pointer_cache::Crossing crossing(proc);
    if (managed::any()) [[unlikely]]
        managed::flush();
    if (session->ring() && Session::launch_blocking()) {
        int32_t status = 0;
        const CUresult result = call(proc, xdr_args, args, reinterpret_cast<xdrproc_t>(rpc::xdr_i32), &status,
                                     {options.flags | wire::launch_blocking, 0});
        release_reply();
        return result;
    }
    if (!session->ring()) {
        int32_t status = 0;
        const CUresult result = call_plain(*session, proc, xdr_args, args,
                                           reinterpret_cast<xdrproc_t>(rpc::xdr_i32), &status, options);
        reply_buffer.xdr_res = nullptr;
        return result;
    }
    if (captures::active()) [[unlikely]] {
        // What a capture does not allow is said by the call that did it.
        int32_t status = 0;
        const ring::Request request{static_cast<uint32_t>(proc),
                                    credential_for({options.flags | wire::answer_at_once, 0}, true), xdr_args, args, 0};
        ring::Pending pending;
        if (const auto sent = session->ring()->begin(request, &pending); sent != ring::Status::Ok) return of_status(sent);
        return finish_call(*session, pending, proc, reinterpret_cast<xdrproc_t>(rpc::xdr_i32), &status, nullptr, nullptr);
    }
    const ring::Request request{static_cast<uint32_t>(proc), credential_for(options, false), xdr_args, args, 0};
    const auto status = session->ring()->post(request);
    return status == ring::Status::Ok ? CUDA_SUCCESS : of_status(status);
}

CUresult call_with_data(Proc proc, xdrproc_t xdr_args, void* args, rpc::Bulk* bulk, const void* data, uint64_t size,
                        xdrproc_t xdr_res, void* res, const CallOptions& options) {
    KeepErrno keep;
    Session* session = Session::get();
    if (!session) return Session::absent();
    if (const CUresult status = broken(proc); status != CUDA_SUCCESS) return status;
    const pointer_cache::Crossing crossing(proc);
    *bulk = {};
    bulk->size = size;
    if (!session->ring()) {
        if (size > rpc::max_blob_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
        bulk->where = rpc::Bulk::Where::Inline;
        bulk->bytes = {data, static_cast<uint32_t>(size), true, false};
        return call_plain(*session, proc, xdr_args, args, xdr_res, res, options);
    }
    ring::RingClient& ring = *session->ring();
    ring::Request request{static_cast<uint32_t>(proc), credential_for(options, true), xdr_args, args,
                          options.reply_bytes ? options.reply_bytes + 256 : 0};
    ring::Pending pending;
    if (uint64_t offer; offer_image(*session, data, size, &offer)) {
        bulk->where = rpc::Bulk::Where::Offered;
        bulk->offset = offer;
        auto status = ring.begin(request, &pending);
        if (status != ring::Status::Ok) return of_status(status);
        const CUresult result = finish_call(*session, pending, proc, xdr_res, res, nullptr, nullptr);
        // The server that executed it may be another than the one that got the offer.
        if (result != static_cast<CUresult>(wire::offer_missing)) return result;
        pending = {};
        *bulk = {};
        bulk->size = size;
    }
    if (size > ring.up_limit()) {
        // Too much for the circular buffer: by way of host memory, which is as long as it needs to be.
        void* copy = session->host_memory().allocate(size);
        if (!copy) return CUDA_ERROR_OUT_OF_MEMORY;
        std::memcpy(copy, data, size);
        bulk->where = rpc::Bulk::Where::Host;
        bulk->offset = reinterpret_cast<uint64_t>(copy);
        const auto status = ring.begin(request, &pending);
        const CUresult result = status == ring::Status::Ok
                                    ? finish_call(*session, pending, proc, xdr_res, res, nullptr, nullptr)
                                    : of_status(status);
        session->host_memory().free(copy);
        return result;
    }
    {
        auto order = ring.hold_order();
        if (const auto status = ring.prepare_locked(request, &pending); status != ring::Status::Ok) return of_status(status);
        std::byte* place = ring.up_space_locked(size, &bulk->offset);
        if (!place) return of_status(ring::Status::Lost);
        std::memcpy(place, data, size);
        bulk->where = rpc::Bulk::Where::Shared;
        if (const auto status = ring.begin_locked(request, &pending); status != ring::Status::Ok)
            return of_status(status);
    }
    return finish_call(*session, pending, proc, xdr_res, res, nullptr, nullptr);
}

}  // namespace cricket::client
