// SPDX-License-Identifier: MIT
// Green contexts: what of them becomes a CUcontext is a context like others for this thread's stack and the registry, and
// ends with its green context.
#include "client/contexts.h"
#include "client/function_cache.h"
#include "client/reply_guard.h"
#include "custom.h"

namespace cricket::client {

CUresult impl_cuCtxFromGreenCtx(CUcontext* pContext, CUgreenCtx hCtx) {
    if (!pContext) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuCtxFromGreenCtx_args args{};
    cuCtxFromGreenCtx_res res{};
    args.hCtx = handle_number(hCtx);
    ReplyGuard guard;
    if (CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
    if (!contexts::add(res.pContext, res.device, false)) return CUDA_ERROR_OUT_OF_MEMORY;
    *pContext = handle_pointer<CUcontext>(res.pContext);
    return CUDA_SUCCESS;
}

CUresult impl_cuGreenCtxDestroy(CUgreenCtx hCtx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuGreenCtxDestroy_args args{};
    cuGreenCtxDestroy_res res{};
    args.hCtx = handle_number(hCtx);
    ReplyGuard guard;
    if (CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
    if (res.context) {
        contexts::destroy_values(res.context);
        contexts::remove(res.context);
        function_cache::forget_all();
    }
    return CUDA_SUCCESS;
}

}  // namespace cricket::client
