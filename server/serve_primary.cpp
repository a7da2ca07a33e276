// SPDX-License-Identifier: MIT
#include <algorithm>

#include "cricket/primary_contexts.h"
#include "dispatch.h"
#include "primaries.h"
#include "record.h"
#include "session.h"

namespace cricket::server {
namespace {

void adopt(Session& session, CUcontext context, CUdevice device) {
    const uint64_t number = session.objects.add(HandleKind::Context, context, primary_context_number(device));
    session.context_devices[number] = device;
    session.primary_numbers[device] = number;
    ++session.primary_retained[device];
}

void record_retain(Call& call, CUdevice device, Effect::Kind kind) {
    cuDevicePrimaryCtxRetain_args args{};
    args.dev = device;
    record_extra(call, Proc::cuDevicePrimaryCtxRetain, xdr_routine(xdr_cuDevicePrimaryCtxRetain_args), &args,
                 {kind, primary_context_number(device), 0, {0, 0}});
}

// The context's number stays: the driver gives the same primary context again when it is retained anew. Both
// stay in the journal, as they move where the driver places what is loaded.
template <class Args>
void is_empty(Call& call, Proc procedure, bool_t (*xdr_args)(XDR*, Args*), Args args) {
    Session& session = call.session;
    auto primary = session.primary_numbers.find(args.dev);
    if (primary == session.primary_numbers.end()) return;
    session.forget_objects(session.journal.forget_owned(primary->second));
    session.forget_context(primary->second);
    if (session.empty_primaries.insert(args.dev).second)
        record_extra(call, procedure, xdr_routine(xdr_args), &args,
                     {Effect::Kind::Load, primary->second, 0, {0, 0}});
}

}  // namespace

bool has_green_contexts(const Session& session, CUdevice device) {
    return std::ranges::any_of(session.green_contexts,
                               [&](const auto& green) { return green.second.device == device; });
}

bool primary_held(const Session& session, CUdevice device) {
    const auto held = session.primary_retained.find(device);
    return (held != session.primary_retained.end() && held->second) || has_green_contexts(session, device);
}

CUresult note_primary(Call& call, CUdevice device) {
    Session& session = call.session;
    CUcontext context = nullptr;
    if (const CUresult status = call.driver.cuDevicePrimaryCtxRetain(&context, device);
        status != CUDA_SUCCESS)
        return status;
    adopt(session, context, device);
    --session.primary_retained[device];
    call.driver.cuDevicePrimaryCtxRelease(device);
    if (session.empty_primaries.erase(device))
        record_retain(call, device, Effect::Kind::Load);
    else if (!session.journal.creation(primary_context_number(device)))
        record_retain(call, device, Effect::Kind::Create);
    return CUDA_SUCCESS;
}

void primary_ends(Session& session, CUdevice device) {
    if (auto primary = session.primary_numbers.find(device); primary != session.primary_numbers.end())
        session.context_ends(primary->second);
}

void primary_ended(Call& call, CUdevice device) {
    cuDevicePrimaryCtxRelease_v2_args args{};
    args.dev = device;
    is_empty(call, Proc::cuDevicePrimaryCtxRelease_v2, xdr_cuDevicePrimaryCtxRelease_v2_args, args);
}

void serve_cuDevicePrimaryCtxRetain(Call& call, const cuDevicePrimaryCtxRetain_args& args,
                                    cuDevicePrimaryCtxRetain_res& res) {
    CUcontext context = nullptr;
    if (call.session.lost_devices.contains(args.dev)) {
        res.status = CUDA_ERROR_CONTEXT_IS_DESTROYED;
        return;
    }
    res.status = call.driver.cuDevicePrimaryCtxRetain(&context, args.dev);
    if (res.status != CUDA_SUCCESS) return;
    adopt(call.session, context, args.dev);
    res.pctx = primary_context_number(args.dev);
    if (call.session.empty_primaries.erase(args.dev)) record_retain(call, args.dev, Effect::Kind::Load);
}

void serve_cuDevicePrimaryCtxRelease_v2(Call& call, const cuDevicePrimaryCtxRelease_v2_args& args,
                                        cuDevicePrimaryCtxRelease_v2_res& res) {
    auto held = call.session.primary_retained.find(args.dev);
    const bool green = has_green_contexts(call.session, args.dev);
    if (held == call.session.primary_retained.end() || held->second == 0) {
        res.status = green ? CUDA_ERROR_NOT_PERMITTED : CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    // A release in the journal is the one that emptied the context, however often it had been retained by
    // then.
    for (; call.replaying && held->second > 1; --held->second)
        call.driver.cuDevicePrimaryCtxRelease(args.dev);
    const bool last = held->second == 1 && !green;
    if (last) primary_ends(call.session, args.dev);
    res.status = call.driver.cuDevicePrimaryCtxRelease(args.dev);
    // The last one after a reset counts, but there is nothing for it to end: the driver calls that an invalid
    // context.
    if (res.status != CUDA_SUCCESS && !(last && res.status == CUDA_ERROR_INVALID_CONTEXT)) return;
    --held->second;
    if (!last) return;
    call.session.lost_devices.erase(args.dev);
    primary_ended(call, args.dev);
}

// The driver permits none while there are green contexts.
void serve_cuDevicePrimaryCtxReset_v2(Call& call, const cuDevicePrimaryCtxReset_v2_args& args,
                                      cuDevicePrimaryCtxReset_v2_res& res) {
    if (!has_green_contexts(call.session, args.dev)) primary_ends(call.session, args.dev);
    res.status = call.driver.cuDevicePrimaryCtxReset(args.dev);
    // Restored without the GPU where there are fewer: that it is not here is what calls say from now on.
    if (res.status == CUDA_ERROR_INVALID_DEVICE && call.session.lost_devices.erase(args.dev)) call.session.primary_retained.erase(args.dev);
    if (res.status != CUDA_SUCCESS) return;
    call.session.lost_devices.erase(args.dev);
    is_empty(call, Proc::cuDevicePrimaryCtxReset_v2, xdr_cuDevicePrimaryCtxReset_v2_args, args);
}

}  // namespace cricket::server
