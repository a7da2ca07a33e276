// SPDX-License-Identifier: MIT
// Contexts. The application's contexts are the driver's; which one is current travels with each call.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cricket/primary_contexts.h"
#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

// A context just made by the driver, which made it current behind our back.
uint64_t adopt(Call& call, CUcontext context, CUdevice device) {
    const uint64_t number = call.objects.add(HandleKind::Context, context);
    call.session.context_devices[number] = device;
    call.session.make_current(0);
    call.session.make_current(number);
    return number;
}

bool affinity_of(const rpc::Blob& bytes, int64_t count, std::vector<CUexecAffinityParam>* params) {
    if (count < 0 || bytes.size != static_cast<uint64_t>(count) * sizeof(CUexecAffinityParam)) return false;
    params->resize(static_cast<size_t>(count));
    if (bytes.size) std::memcpy(static_cast<void*>(params->data()), bytes.data, bytes.size);
    return true;
}

}  // namespace

void serve_cuCtxCreate_v2(Call& call, const cuCtxCreate_v2_args& args, cuCtxCreate_v2_res& res) {
    CUcontext context = nullptr;
    res.status = call.driver.cuCtxCreate_v2(&context, args.flags, args.dev);
    if (res.status == CUDA_SUCCESS) res.pctx = adopt(call, context, args.dev);
}

void serve_cuCtxCreate_v3(Call& call, const cuCtxCreate_v3_args& args, cuCtxCreate_v3_res& res) {
    std::vector<CUexecAffinityParam> params;
    CUcontext context = nullptr;
    res.status = affinity_of(args.paramsArray, args.numParams, &params)
                     ? call.driver.cuCtxCreate_v3(&context, params.data(), args.numParams, args.flags, args.dev)
                     : CUDA_ERROR_INVALID_VALUE;
    if (res.status == CUDA_SUCCESS) res.pctx = adopt(call, context, args.dev);
}

void serve_cuCtxCreate_v4(Call& call, const cuCtxCreate_v4_args& args, cuCtxCreate_v4_res& res) {
    std::vector<CUexecAffinityParam> params;
    if (!affinity_of(args.paramsArray, static_cast<int64_t>(args.numParams), &params)) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    CUctxCreateParams create{};
    create.execAffinityParams = params.data();
    create.numExecAffinityParams = static_cast<int>(params.size());
    CUcontext context = nullptr;
    res.status = call.driver.cuCtxCreate_v4(&context, args.paramsArray.present ? &create : nullptr, args.flags, args.dev);
    if (res.status == CUDA_SUCCESS) res.pctx = adopt(call, context, args.dev);
}

void serve_cuCtxDestroy_v2(Call& call, const cuCtxDestroy_v2_args& args, cuCtxDestroy_v2_res& res) {
    CUcontext context = nullptr;
    if (!args.ctx || !driver_handle(call.objects, HandleKind::Context, args.ctx, &context)) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    call.session.context_ends(args.ctx);
    res.status = call.driver.cuCtxDestroy(context);
    if (res.status == CUDA_SUCCESS) call.session.forget_context(args.ctx);
}

// Without it cudaDeviceReset() does nothing. The primary context of a device that is not here any more has no handle to ask.
void serve_cuCtxGetApiVersion(Call& call, const cuCtxGetApiVersion_args& args, cuCtxGetApiVersion_res& res) {
    constexpr unsigned of_every_context = 3020;  // that has been made since CUDA 3.2
    if (!call.driver.cuCtxGetApiVersion) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    CUcontext context = nullptr;
    if (driver_handle(call.objects, HandleKind::Context, args.ctx, &context)) {
        res.status = call.driver.cuCtxGetApiVersion(context, &res.version);
        return;
    }
    const auto lost = [&](CUdevice device) { return args.ctx == primary_context_number(device); };
    if (std::ranges::any_of(call.session.lost_devices, lost))
        res.version = of_every_context;
    else
        res.status = CUDA_ERROR_INVALID_CONTEXT;
}

void serve_cuCtxSynchronize(Call& call, const cuCtxSynchronize_args&, cuCtxSynchronize_res& res) {
    call.reclaim = Session::unused_memory;
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    call.wait_for = call.session.await_all_work(call.done);
    if (!call.wait_for) res.status = call.driver.cuCtxSynchronize();  // says why
}

void serve_cuCtxSynchronize_v2(Call& call, const cuCtxSynchronize_v2_args& args, cuCtxSynchronize_v2_res& res) {
    call.reclaim = Session::unused_memory;
    const uint64_t number = args.ctx ? args.ctx : call.credential.context;
    res.status = number ? call.session.make_current(number) : CUDA_ERROR_INVALID_CONTEXT;
    if (res.status != CUDA_SUCCESS) return;
    call.wait_for = call.session.await_all_work(call.done);
    if (!call.wait_for) res.status = call.driver.cuCtxSynchronize();
}

// Peer access is the contexts', memory is the devices': our chunks are opened for the other device as the driver's own
// allocations would be.
static bool peer_of(Call& call, uint64_t number, CUcontext* peer, CUdevice* owner, int32_t* status) {
    if (!call.session.current()) {
        *status = CUDA_ERROR_INVALID_CONTEXT;
        return false;
    }
    if (!number || !driver_handle(call.objects, HandleKind::Context, number, peer)) {
        *status = CUDA_ERROR_INVALID_CONTEXT;
        return false;
    }
    *owner = call.session.context_devices.at(number);
    return true;
}

void serve_cuCtxEnablePeerAccess(Call& call, const cuCtxEnablePeerAccess_args& args, cuCtxEnablePeerAccess_res& res) {
    CUcontext peer = nullptr;
    CUdevice owner = 0;
    if (!peer_of(call, args.peerContext, &peer, &owner, &res.status)) return;
    res.status = call.driver.cuCtxEnablePeerAccess(peer, args.Flags);
    if (res.status != CUDA_SUCCESS) return;
    res.status = call.session.device_memory.allow_peer(owner, call.session.current_device());
    if (res.status != CUDA_SUCCESS) call.driver.cuCtxDisablePeerAccess(peer);
}

void serve_cuCtxDisablePeerAccess(Call& call, const cuCtxDisablePeerAccess_args& args, cuCtxDisablePeerAccess_res& res) {
    CUcontext peer = nullptr;
    CUdevice owner = 0;
    if (!peer_of(call, args.peerContext, &peer, &owner, &res.status)) return;
    res.status = call.driver.cuCtxDisablePeerAccess(peer);
    // A journal keeps the last of each: disabling may come first, before the enabling that followed it.
    if (call.replaying && res.status == CUDA_ERROR_PEER_ACCESS_NOT_ENABLED)
        res.status = CUDA_SUCCESS;
    else if (res.status == CUDA_SUCCESS)
        call.session.device_memory.forbid_peer(owner, call.session.current_device());
}

}  // namespace cricket::server
