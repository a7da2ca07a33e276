// SPDX-License-Identifier: MIT
// Contexts that the application creates, and the calling thread's stack of them. Which one is current is
// never sent by itself: each call carries it (wire.h, credential).
#include "client/contexts.h"
#include "client/devices.h"
#include "client/function_cache.h"
#include "client/primary.h"
#include "client/reply_guard.h"
#include "custom.h"
#include "handle_kinds.h"

namespace cricket::client {
namespace {

// A new context, made by `args`; current from now on.
template <class Args, class Res>
CUresult create(CUcontext* pctx, Args& args, Res& res) {
    {
        ReplyGuard guard;
        if (CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
    }
    if (!contexts::add(res.pctx, args.dev, false) || !contexts::push(res.pctx)) return CUDA_ERROR_OUT_OF_MEMORY;
    *pctx = from_number<CUcontext>(res.pctx);
    return CUDA_SUCCESS;
}

// What stands for no context of ours: one that was, or what never was one.
CUresult no_context(uint64_t number) {
    constexpr uint64_t context_kind = static_cast<uint64_t>(HandleKind::Context);
    return number >> 36 == context_kind ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_INVALID_VALUE;
}

CUresult destroy(CUcontext ctx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    uint64_t number = to_number(ctx);
    if (!contexts::known(number)) return no_context(number);
    // The driver refuses to destroy a primary context, and a green one this way: values must survive the attempt.
    if (contexts::is_green(number)) return CUDA_ERROR_INVALID_CONTEXT;
    bool primary = contexts::is_primary(number);
    if (!primary) contexts::destroy_values(number);
    cuCtxDestroy_v2_args args{};
    cuCtxDestroy_v2_res res{};
    args.ctx = number;
    ReplyGuard guard;
    CUresult result = call(args, res);
    if (result != CUDA_SUCCESS) return result;
    contexts::remove(number);
    function_cache::forget_all();
    uint64_t popped;
    if (contexts::top() == number) contexts::pop(&popped);
    return CUDA_SUCCESS;
}

CUresult push(CUcontext ctx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    uint64_t number = to_number(ctx);
    if (!contexts::known(number)) return no_context(number);
    return contexts::push(number) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult pop(CUcontext* pctx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    uint64_t number;
    if (!contexts::pop(&number)) return CUDA_ERROR_INVALID_CONTEXT;
    if (pctx) *pctx = from_number<CUcontext>(number);
    return CUDA_SUCCESS;
}

}  // namespace

CUresult impl_cuCtxCreate_v2(CUcontext* pctx, unsigned int flags, CUdevice dev) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    cuCtxCreate_v2_args args{};
    cuCtxCreate_v2_res res{};
    args.flags = flags;
    args.dev = dev;
    return create(pctx, args, res);
}

CUresult impl_cuCtxCreate_v3(CUcontext* pctx, CUexecAffinityParam* paramsArray, int numParams,
                             unsigned int flags, CUdevice dev) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!pctx || numParams < 0 || numParams > 1024 || (numParams && !paramsArray)) return CUDA_ERROR_INVALID_VALUE;
    cuCtxCreate_v3_args args{};
    cuCtxCreate_v3_res res{};
    args.numParams = numParams;
    args.paramsArray = {paramsArray, static_cast<uint32_t>(static_cast<unsigned>(numParams) * sizeof *paramsArray),
                        paramsArray != nullptr, false};
    args.flags = flags;
    args.dev = dev;
    return create(pctx, args, res);
}

CUresult impl_cuCtxCreate_v4(CUcontext* pctx, CUctxCreateParams* ctxCreateParams, unsigned int flags,
                             CUdevice dev) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    cuCtxCreate_v4_args args{};
    cuCtxCreate_v4_res res{};
    if (ctxCreateParams) {
        if (ctxCreateParams->cigParams) return unsupported("cuCtxCreate_v4", "CUDA in graphics");
        const int count = ctxCreateParams->numExecAffinityParams;
        const CUexecAffinityParam* params = ctxCreateParams->execAffinityParams;
        if (count < 0 || count > 1024 || (count && !params)) return CUDA_ERROR_INVALID_VALUE;
        args.numParams = static_cast<uint32_t>(count);
        args.paramsArray = {params, static_cast<uint32_t>(static_cast<unsigned>(count) * sizeof *params), true, false};
    }
    args.flags = flags;
    args.dev = dev;
    return create(pctx, args, res);
}

// Reference counts of CUDA before version 4: cuCtxDetach() ends a context that was not attached since it was created.
CUresult impl_cuCtxAttach(CUcontext* pctx, unsigned int flags) {
    if (const CUresult context = need_context(); context != CUDA_SUCCESS) return context;
    if (!pctx || flags) return CUDA_ERROR_INVALID_VALUE;
    const uint64_t number = current_context();
    if (!number || !contexts::attach(number)) return CUDA_ERROR_INVALID_CONTEXT;
    *pctx = from_number<CUcontext>(number);
    return CUDA_SUCCESS;
}

CUresult impl_cuCtxDetach(CUcontext ctx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    const uint64_t number = to_number(ctx);
    if (!number || number != current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (contexts::detach(number)) return CUDA_SUCCESS;
    return contexts::is_primary(number) ? CUDA_ERROR_INVALID_CONTEXT : destroy(ctx);
}

CUresult impl_cuCtxDestroy_v2(CUcontext ctx) {
    return destroy(ctx);
}

CUresult impl_cuCtxPushCurrent_v2(CUcontext ctx) {
    return push(ctx);
}

CUresult impl_cuCtxPopCurrent_v2(CUcontext* pctx) {
    return pop(pctx);
}

CUresult impl_cuCtxSetCurrent(CUcontext ctx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    uint64_t number = to_number(ctx);
    if (!number) {  // removes the top; nothing to remove is no error
        contexts::pop(&number);
        return CUDA_SUCCESS;
    }
    if (!contexts::known(number)) return CUDA_ERROR_INVALID_CONTEXT;
    return contexts::replace_top(number) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult impl_cuCtxGetCurrent(CUcontext* pctx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    *pctx = from_number<CUcontext>(contexts::top());
    return CUDA_SUCCESS;
}

CUresult impl_cuCtxGetDevice(CUdevice* device) {
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    const CUresult result = contexts::current_device(device);
    if (result != CUDA_ERROR_CONTEXT_IS_DESTROYED || !contexts::is_green(contexts::top())) return result;
    contexts::device_of(contexts::top(), device);  // of a green context that is gone it is told
    return CUDA_SUCCESS;
}

CUresult impl_cuCtxGetDevice_v2(CUdevice* device, CUcontext ctx) {
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!ctx) return impl_cuCtxGetDevice(device);
    const CUresult result = contexts::device_of(to_number(ctx), device);
    return contexts::is_green(to_number(ctx)) ? CUDA_SUCCESS : result;
}

CUresult impl_cuCtxGetId(CUcontext ctx, unsigned long long* ctxId) {
    if (!ctxId) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    uint64_t number = ctx ? to_number(ctx) : contexts::top();
    CUdevice device = 0;
    if (!contexts::known(number))
        return number ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_ERROR_INVALID_CONTEXT;
    if (contexts::is_green(number) && contexts::device_of(number, &device) != CUDA_SUCCESS) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    uint64_t id = contexts::driver_id(number);
    if (!id) {
        cuCtxGetId_args args{};
        cuCtxGetId_res res{};
        args.ctx = number;
        ReplyGuard guard;
        if (CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
        id = res.ctxId;
        contexts::set_driver_id(number, id);
    }
    *ctxId = id;
    return CUDA_SUCCESS;
}

CUresult impl_cuCtxSetFlags(unsigned int flags) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuCtxSetFlags_args args{};
    cuCtxSetFlags_res res{};
    args.flags = flags;
    ReplyGuard guard;
    CUresult result = call(args, res);
    CUdevice device;
    if (contexts::current_device(&device) == CUDA_SUCCESS) primary::state_changed(device);
    return result;
}

}  // namespace cricket::client
