// SPDX-License-Identifier: MIT
// Green contexts, which hold their device's primary context. What of one becomes a CUcontext is for this
// thread's stack a context like others, but it has no values of its own and stays known when it is gone.
#include <pthread.h>

#include <cstdlib>

#include "client/contexts.h"
#include "client/function_cache.h"
#include "client/locked.h"
#include "client/primary.h"
#include "client/reply_guard.h"
#include "cricket/primary_contexts.h"
#include "custom.h"

namespace cricket::client {
namespace {

struct Green {
    Green* next;
    uint64_t number;
    CUdevice device;
};

// Not taken before cuInit, so a forked child cannot meet it locked; not held over a call.
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
Green* greens = nullptr;

bool device_of(uint64_t number, CUdevice* device) {
    Locked locked(lock);
    for (const Green* green = greens; green; green = green->next)
        if (green->number == number) {
            *device = green->device;
            return true;
        }
    return false;
}

void forget(uint64_t number) {
    Locked locked(lock);
    for (Green** at = &greens; *at; at = &(*at)->next)
        if ((*at)->number == number) {
            Green* gone = *at;
            *at = gone->next;
            std::free(gone);
            return;
        }
}

}  // namespace

CUresult impl_cuGreenCtxCreate(CUgreenCtx* phCtx, CUdevResourceDesc desc, CUdevice dev, unsigned int flags) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!phCtx) return CUDA_ERROR_INVALID_VALUE;
    auto fresh = static_cast<Green*>(std::malloc(sizeof(Green)));
    if (!fresh) return CUDA_ERROR_OUT_OF_MEMORY;
    cuGreenCtxCreate_args args{};
    cuGreenCtxCreate_res res{};
    args.desc = to_number(desc);
    args.dev = dev;
    args.flags = flags;
    ReplyGuard guard;
    if (CUresult result = call(args, res); result != CUDA_SUCCESS) {
        std::free(fresh);
        return result;
    }
    {
        Locked locked(lock);
        *fresh = {greens, res.phCtx, dev};
        greens = fresh;
    }
    *phCtx = from_number<CUgreenCtx>(res.phCtx);
    return primary::green_made(dev) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult impl_cuCtxFromGreenCtx(CUcontext* pContext, CUgreenCtx hCtx) {
    if (!pContext) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuCtxFromGreenCtx_args args{};
    cuCtxFromGreenCtx_res res{};
    args.hCtx = to_number(hCtx);
    ReplyGuard guard;
    if (CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
    if (!contexts::add_green(res.pContext, res.device, primary_context_number(res.device)))
        return CUDA_ERROR_OUT_OF_MEMORY;
    *pContext = from_number<CUcontext>(res.pContext);
    return CUDA_SUCCESS;
}

CUresult impl_cuGreenCtxDestroy(CUgreenCtx hCtx) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    const uint64_t number = to_number(hCtx);
    CUdevice device = 0;
    const bool known = device_of(number, &device);
    if (known && primary::green_is_last(device)) contexts::destroy_values(primary_context_number(device));
    cuGreenCtxDestroy_args args{};
    cuGreenCtxDestroy_res res{};
    args.hCtx = number;
    ReplyGuard guard;
    if (CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
    if (res.context) contexts::deactivate(res.context);
    function_cache::forget_all();
    if (known) {
        forget(number);
        primary::green_gone(device);
    }
    return CUDA_SUCCESS;
}

}  // namespace cricket::client
