// SPDX-License-Identifier: MIT
// Green contexts. The CUcontext of one is known as a context of the session from when it is asked for.
#include "dispatch.h"
#include "session.h"

namespace cricket::server {

void serve_cuGreenCtxCreate(Call& call, const cuGreenCtxCreate_args& args, cuGreenCtxCreate_res& res) {
    CUdevResourceDesc desc = nullptr;
    if (!driver_handle(call.objects, HandleKind::DevResourceDesc, args.desc, &desc)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    CUgreenCtx green = nullptr;
    res.status = call.driver.cuGreenCtxCreate ? call.driver.cuGreenCtxCreate(&green, desc, args.dev, args.flags)
                                              : CUDA_ERROR_NOT_SUPPORTED;
    if (res.status != CUDA_SUCCESS) return;
    res.phCtx = call.objects.add(HandleKind::GreenCtx, green);
    call.session.green_contexts[res.phCtx] = {args.dev, 0};
}

void serve_cuCtxFromGreenCtx(Call& call, const cuCtxFromGreenCtx_args& args, cuCtxFromGreenCtx_res& res) {
    auto* green = static_cast<CUgreenCtx>(call.objects.get(HandleKind::GreenCtx, args.hCtx));
    auto known = call.session.green_contexts.find(args.hCtx);
    if (!green || known == call.session.green_contexts.end()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    CUcontext context = nullptr;
    res.status = call.driver.cuCtxFromGreenCtx(&context, green);
    if (res.status != CUDA_SUCCESS) return;
    res.pContext = call.objects.add(HandleKind::Context, context);
    res.device = known->second.device;
    known->second.context = res.pContext;
    call.session.context_devices[res.pContext] = known->second.device;
}

void serve_cuGreenCtxDestroy(Call& call, const cuGreenCtxDestroy_args& args, cuGreenCtxDestroy_res& res) {
    auto* green = static_cast<CUgreenCtx>(call.objects.get(HandleKind::GreenCtx, args.hCtx));
    auto known = call.session.green_contexts.find(args.hCtx);
    if (!green || known == call.session.green_contexts.end()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    const uint64_t context = known->second.context;
    if (context && call.session.current() == context) call.session.make_current(0);
    if (context) call.session.context_ends(context);
    res.status = call.driver.cuGreenCtxDestroy(green);
    if (res.status != CUDA_SUCCESS) return;
    res.context = context;
    call.session.green_contexts.erase(known);
    if (context) call.session.forget_context(context);
    call.objects.remove(HandleKind::GreenCtx, args.hCtx);
}

}  // namespace cricket::server
