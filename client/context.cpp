// SPDX-License-Identifier: MIT
// Contexts that the application creates, and the calling thread's stack of them. Which one is current is
// never sent by itself: each call carries it (wire.h, credential).
#include "client/contexts.h"
#include "client/devices.h"
#include "client/function_cache.h"
#include "client/primary.h"
#include "client/reply_guard.h"
#include "custom.h"

namespace cricket::client {
namespace {

CUresult create(CUcontext* pctx, unsigned flags, CUdevice device) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    cuCtxCreate_v2_args args{};
    cuCtxCreate_v2_res res{};
    args.flags = flags;
    args.dev = device;
    {
        ReplyGuard guard;
        if (CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
    }
    if (!contexts::add(res.pctx, device, false) || !contexts::push(res.pctx)) return CUDA_ERROR_OUT_OF_MEMORY;
    *pctx = handle_pointer<CUcontext>(res.pctx);
    return CUDA_SUCCESS;
}

CUresult destroy(CUcontext ctx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    uint64_t number = handle_number(ctx);
    if (!contexts::known(number)) return CUDA_ERROR_INVALID_CONTEXT;
    // The driver refuses to destroy a primary context: its values must survive the attempt.
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
    uint64_t number = handle_number(ctx);
    if (!contexts::known(number)) return CUDA_ERROR_INVALID_CONTEXT;
    return contexts::push(number) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult pop(CUcontext* pctx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    uint64_t number;
    if (!contexts::pop(&number)) return CUDA_ERROR_INVALID_CONTEXT;
    if (pctx) *pctx = handle_pointer<CUcontext>(number);
    return CUDA_SUCCESS;
}

}  // namespace

CUresult impl_cuCtxCreate_v2(CUcontext* pctx, unsigned int flags, CUdevice dev) {
    return create(pctx, flags, dev);
}

CUresult impl_cuCtxCreate_v3(CUcontext* pctx, CUexecAffinityParam* paramsArray, int numParams,
                             unsigned int flags, CUdevice dev) {
    if (paramsArray || numParams) return unsupported("cuCtxCreate_v3", "execution affinity");
    return create(pctx, flags, dev);
}

CUresult impl_cuCtxCreate_v4(CUcontext* pctx, CUctxCreateParams* ctxCreateParams, unsigned int flags,
                             CUdevice dev) {
    if (ctxCreateParams && (ctxCreateParams->execAffinityParams || ctxCreateParams->numExecAffinityParams))
        return unsupported("cuCtxCreate_v4", "execution affinity");
    if (ctxCreateParams && ctxCreateParams->cigParams)
        return unsupported("cuCtxCreate_v4", "CUDA in graphics");
    return create(pctx, flags, dev);
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
    uint64_t number = handle_number(ctx);
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
    *pctx = handle_pointer<CUcontext>(contexts::top());
    return CUDA_SUCCESS;
}

CUresult impl_cuCtxGetDevice(CUdevice* device) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    return device ? contexts::current_device(device) : CUDA_ERROR_INVALID_VALUE;
}

CUresult impl_cuCtxGetDevice_v2(CUdevice* device, CUcontext ctx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    return ctx ? contexts::device_of(handle_number(ctx), device) : contexts::current_device(device);
}

CUresult impl_cuCtxGetId(CUcontext ctx, unsigned long long* ctxId) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!ctxId) return CUDA_ERROR_INVALID_VALUE;
    uint64_t number = ctx ? handle_number(ctx) : contexts::top();
    if (!contexts::known(number))
        return number ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_ERROR_INVALID_CONTEXT;
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
