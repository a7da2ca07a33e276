// SPDX-License-Identifier: MIT
// Host functions and callbacks in streams: the driver is given functions of ours (callbacks.h).
#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

void CUDA_CB nothing(void*) {}

// When it is begun, the application knows that the stream's copies before it are over.
void tells_of_copies(Session& session, CUstream stream, void* context) {
    for (CopyToHost& copy : session.copies_to_host)
        if (!copy.callback && copy.stream == stream) copy.callback = session.callbacks.ticket(context);
}

}  // namespace

// The driver makes what it needs for host functions (a thread, memory) when the first one comes. That is repeated by a
// restore at the same place among the module loads, so that these find the address space as it was.
void serve_cricketPrepareCallbacks(Call& call, const cricketPrepareCallbacks_args&, cricketPrepareCallbacks_res& res) {
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    const Captures::OwnWork own(call.session.captures);
    CUstream stream = call.session.waiting_stream();
    res.status = stream ? call.driver.cuLaunchHostFunc(stream, nothing, nullptr) : CUDA_ERROR_UNKNOWN;
}

void serve_cuLaunchHostFunc(Call& call, const cuLaunchHostFunc_args& args, cuLaunchHostFunc_res& res) {
    CUstream stream = nullptr;
    if (!call.stream(args.hStream, &stream)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    // A captured one becomes a node, which runs at each launch of its graph.
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
    if (call.driver.cuStreamIsCapturing && call.driver.cuStreamIsCapturing(stream, &capture) != CUDA_SUCCESS)
        capture = CU_STREAM_CAPTURE_STATUS_NONE;
    res.captured = capture == CU_STREAM_CAPTURE_STATUS_ACTIVE;
    Callbacks& callbacks = call.session.callbacks;
    void* context = callbacks.context(args.id, res.captured ? Callbacks::Use::Repeated : Callbacks::Use::Once);
    if (!res.captured) tells_of_copies(call.session, stream, context);
    res.status = call.driver.cuLaunchHostFunc(stream, Callbacks::host_function, context);
    if (res.status != CUDA_SUCCESS && !res.captured) callbacks.forget(context);  // that of nodes is shared
}

void serve_cuStreamAddCallback(Call& call, const cuStreamAddCallback_args& args, cuStreamAddCallback_res& res) {
    CUstream stream = nullptr;
    if (!call.stream(args.hStream, &stream)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    void* context = call.session.callbacks.context(args.id, Callbacks::Use::Once);
    tells_of_copies(call.session, stream, context);
    res.status = call.driver.cuStreamAddCallback(stream, Callbacks::stream_callback, context, args.flags);
    if (res.status != CUDA_SUCCESS) call.session.callbacks.forget(context);
}

}  // namespace cricket::server
