// SPDX-License-Identifier: MIT
// Host functions and callbacks in streams.
#include "client/callbacks.h"
#include "client/captures.h"
#include "client/graph_nodes.h"
#include "client/reply_guard.h"
#include "custom.h"

namespace cricket::client {

CUresult impl_cuLaunchHostFunc(uint32_t call_flags, CUstream hStream, CUhostFn fn, void* userData) {
    cuLaunchHostFunc_args args{};
    cuLaunchHostFunc_res res{};
    // One that is captured becomes a node, and shares its callback with all nodes of that function: they come again and again.
    const bool node = captures::capturing(to_number(hStream), call_flags);
    const CUresult added = node ? host_node_id(fn, userData, &args.id)
                                : callbacks::add(callbacks::Kind::HostFunction, callbacks::Use::Once,
                                                 reinterpret_cast<void*>(fn), userData, &args.id);
    if (added != CUDA_SUCCESS) return added;
    args.hStream = to_number(hStream);
    res.status = CUDA_ERROR_UNKNOWN;  // what it stays when no answer comes
    ReplyGuard guard;
    const CUresult result = call(args, res, {call_flags});
    if (node) return result;
    if (res.status != CUDA_SUCCESS)
        callbacks::remove(args.id);
    else if (res.captured)
        callbacks::keep(args.id);
    return result;
}

CUresult impl_cuStreamAddCallback(uint32_t call_flags, CUstream hStream, CUstreamCallback callback, void* userData,
                                  unsigned int flags) {
    cuStreamAddCallback_args args{};
    cuStreamAddCallback_res res{};
    if (flags) return CUDA_ERROR_INVALID_VALUE;
    const CUresult added = callbacks::add(callbacks::Kind::StreamCallback, callbacks::Use::Once,
                                          reinterpret_cast<void*>(callback), userData, &args.id, to_number(hStream));
    if (added != CUDA_SUCCESS) return added;
    args.hStream = to_number(hStream);
    res.status = CUDA_ERROR_UNKNOWN;
    ReplyGuard guard;
    const CUresult result = call(args, res, {call_flags});
    if (res.status != CUDA_SUCCESS) callbacks::remove(args.id);
    return result;
}

}  // namespace cricket::client
