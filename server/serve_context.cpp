// SPDX-License-Identifier: MIT
// Contexts. The application's contexts are the driver's; which one is current travels with each call.
#include <cstring>
#include <vector>

#include "cricket/primary_contexts.h"
#include "dispatch.h"
#include "record.h"
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

void serve_cuCtxSynchronize(Call& call, const cuCtxSynchronize_args&, cuCtxSynchronize_res& res) {
    call.reclaim = Session::unused_memory;
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    call.wait_for = call.session.await_all_work();
    if (!call.wait_for) res.status = call.driver.cuCtxSynchronize();  // says why
}

void serve_cuCtxSynchronize_v2(Call& call, const cuCtxSynchronize_v2_args& args, cuCtxSynchronize_v2_res& res) {
    call.reclaim = Session::unused_memory;
    const uint64_t number = args.ctx ? args.ctx : call.credential.context;
    res.status = number ? call.session.make_current(number) : CUDA_ERROR_INVALID_CONTEXT;
    if (res.status != CUDA_SUCCESS) return;
    call.wait_for = call.session.await_all_work();
    if (!call.wait_for) res.status = call.driver.cuCtxSynchronize();
}

void serve_cuDevicePrimaryCtxRetain(Call& call, const cuDevicePrimaryCtxRetain_args& args,
                                    cuDevicePrimaryCtxRetain_res& res) {
    CUcontext context = nullptr;
    if (call.session.lost.contains(args.dev)) {
        res.status = CUDA_ERROR_CONTEXT_IS_DESTROYED;
        return;
    }
    res.status = call.driver.cuDevicePrimaryCtxRetain(&context, args.dev);
    if (res.status != CUDA_SUCCESS) return;
    res.pctx = call.objects.add(HandleKind::Context, context, primary_context_number(args.dev));
    call.session.context_devices[res.pctx] = args.dev;
    call.session.primary_numbers[args.dev] = res.pctx;
    ++call.session.primary_retained[args.dev];
    if (call.session.empty_primaries.erase(args.dev)) {
        auto again = args;
        record_extra(call, Proc::cuDevicePrimaryCtxRetain, xdr_routine(xdr_cuDevicePrimaryCtxRetain_args), &again,
                     {Effect::Kind::Load, res.pctx, 0, {0, 0}});
    }
}

// The context's number stays: the driver gives the same primary context again when it is retained anew. Both stay in the
// journal, as they move where the driver places what is loaded.
template <class Args>
static void primary_is_empty(Call& call, Proc procedure, bool_t (*xdr_args)(XDR*, Args*), Args args) {
    Session& session = call.session;
    auto primary = session.primary_numbers.find(args.dev);
    if (primary == session.primary_numbers.end()) return;
    session.forget_objects(session.journal.forget_owned(primary->second));
    session.forget_context(primary->second);
    if (session.empty_primaries.insert(args.dev).second)
        record_extra(call, procedure, xdr_routine(xdr_args), &args, {Effect::Kind::Load, primary->second, 0, {0, 0}});
}

static void primary_ends(Session& session, CUdevice device) {
    if (auto primary = session.primary_numbers.find(device); primary != session.primary_numbers.end())
        session.context_ends(primary->second);
}

void serve_cuDevicePrimaryCtxRelease_v2(Call& call, const cuDevicePrimaryCtxRelease_v2_args& args,
                                        cuDevicePrimaryCtxRelease_v2_res& res) {
    auto held = call.session.primary_retained.find(args.dev);
    if (held == call.session.primary_retained.end() || held->second == 0) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    // A release in the journal is the one that emptied the context, however often it had been retained by then.
    for (; call.replaying && held->second > 1; --held->second) call.driver.cuDevicePrimaryCtxRelease(args.dev);
    if (held->second == 1) primary_ends(call.session, args.dev);
    res.status = call.driver.cuDevicePrimaryCtxRelease(args.dev);
    // The last one after a reset counts, but there is nothing for it to end: the driver calls that an invalid context.
    if (res.status != CUDA_SUCCESS && (held->second != 1 || res.status != CUDA_ERROR_INVALID_CONTEXT)) return;
    if (held->second == 1) call.session.lost.erase(args.dev);
    if (--held->second == 0)
        primary_is_empty(call, Proc::cuDevicePrimaryCtxRelease_v2, xdr_cuDevicePrimaryCtxRelease_v2_args, args);
}

void serve_cuDevicePrimaryCtxReset_v2(Call& call, const cuDevicePrimaryCtxReset_v2_args& args,
                                      cuDevicePrimaryCtxReset_v2_res& res) {
    primary_ends(call.session, args.dev);
    res.status = call.driver.cuDevicePrimaryCtxReset(args.dev);
    if (res.status == CUDA_SUCCESS) call.session.lost.erase(args.dev);
    if (res.status == CUDA_SUCCESS)
        primary_is_empty(call, Proc::cuDevicePrimaryCtxReset_v2, xdr_cuDevicePrimaryCtxReset_v2_args, args);
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
