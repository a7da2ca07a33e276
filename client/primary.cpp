// SPDX-License-Identifier: MIT
#include "client/primary.h"

#include <pthread.h>

#include <atomic>

#include "client/contexts.h"
#include "client/devices.h"
#include "client/function_cache.h"
#include "client/locked.h"
#include "client/log.h"
#include "client/reply_guard.h"
#include "cricket/primary_contexts.h"
#include "custom.h"

namespace cricket::client {
namespace primary {
namespace {

// The state of a device as last heard: flags in the low half, then two bits, then a version that grows with
// each change so that an answer which crossed one is not kept.
constexpr uint64_t active_bit = uint64_t(1) << 32;
constexpr uint64_t valid_bit = uint64_t(1) << 33;
constexpr uint64_t one_version = uint64_t(1) << 34;
std::atomic<uint64_t> states[devices::max_cached];

// One retain, release or reset at a time, so that the counts below follow the server's. Held over the call to
// the server, never while destructors run. A device beyond the table is unknown to the server too, or
// refused.
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
unsigned retains[devices::max_cached], greens[devices::max_cached];

CUresult usable(CUdevice device) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (CUresult result = devices::check(device); result != CUDA_SUCCESS) return result;
    return device < devices::max_cached ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

// The device's primary context is no more, and all that was in it.
void gone(CUdevice device) {
    contexts::deactivate(primary_context_number(device));
    function_cache::forget_all();
}

}  // namespace

void state_changed(CUdevice device) {
    if (device < 0 || device >= devices::max_cached) return;
    std::atomic<uint64_t>& state = states[device];
    uint64_t old = state.load(std::memory_order_relaxed);
    while (!state.compare_exchange_weak(old, (old & ~valid_bit) + one_version, std::memory_order_release)) {
    }
}

CUresult retain(CUcontext* context, CUdevice device) {
    if (CUresult result = usable(device); result != CUDA_SUCCESS) return result;
    Locked locked(lock);
    cuDevicePrimaryCtxRetain_args args{};
    cuDevicePrimaryCtxRetain_res res{};
    args.dev = device;
    ReplyGuard guard;
    CUresult result = call(args, res);
    state_changed(device);
    if (result != CUDA_SUCCESS) return result;
    const uint64_t number = primary_context_number(device);
    if (res.pctx != number) {
        log(LogLevel::Error, "the server gave device %d's primary context the number %#llx, not %#llx",
            device, static_cast<unsigned long long>(res.pctx), static_cast<unsigned long long>(number));
        return CUDA_ERROR_UNKNOWN;
    }
    if (!contexts::add(number, device, true)) return CUDA_ERROR_OUT_OF_MEMORY;
    ++retains[device];
    *context = from_number<CUcontext>(number);
    return CUDA_SUCCESS;
}

bool green_made(CUdevice device) {
    Locked locked(lock);
    state_changed(device);
    if (device < 0 || device >= devices::max_cached) return true;
    ++greens[device];
    return contexts::add(primary_context_number(device), device, true);
}

bool green_is_last(CUdevice device) {
    if (device < 0 || device >= devices::max_cached) return false;
    Locked locked(lock);
    return greens[device] == 1 && !retains[device];
}

void green_gone(CUdevice device) {
    Locked locked(lock);
    state_changed(device);
    if (device < 0 || device >= devices::max_cached) return;
    if (greens[device] && --greens[device] == 0 && !retains[device]) gone(device);
}

CUresult handle(CUcontext* context, CUdevice device) {
    if (CUresult result = usable(device); result != CUDA_SUCCESS) return result;
    const uint64_t number = primary_context_number(device);
    if (!contexts::add_inactive_primary(number, device)) return CUDA_ERROR_OUT_OF_MEMORY;
    *context = from_number<CUcontext>(number);
    return CUDA_SUCCESS;
}

}  // namespace primary

using namespace primary;

CUresult impl_cuDevicePrimaryCtxRetain(CUcontext* pctx, CUdevice dev) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    return pctx ? retain(pctx, dev) : CUDA_ERROR_INVALID_VALUE;
}

CUresult impl_cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
    if (CUresult result = usable(dev); result != CUDA_SUCCESS) return result;
    bool last;
    {
        Locked locked(lock);
        last = retains[dev] == 1 && !greens[dev];
    }
    if (last) contexts::destroy_values(primary_context_number(dev));
    Locked locked(lock);
    cuDevicePrimaryCtxRelease_v2_args args{};
    cuDevicePrimaryCtxRelease_v2_res res{};
    args.dev = dev;
    ReplyGuard guard;
    CUresult result = call(args, res);
    state_changed(dev);
    // The last one after a reset counts too, but says that there is no context.
    if (result != CUDA_SUCCESS && !(result == CUDA_ERROR_INVALID_CONTEXT && retains[dev] == 1)) return result;
    if (retains[dev] && --retains[dev] == 0 && !greens[dev]) gone(dev);
    return result;
}

// As it was before CUDA 11: to release what was never retained is no error, flags of an active context do not
// change.
CUresult impl_cuDevicePrimaryCtxRelease(CUdevice dev) {
    const CUresult result = impl_cuDevicePrimaryCtxRelease_v2(dev);
    return result == CUDA_ERROR_INVALID_CONTEXT ? CUDA_SUCCESS : result;
}

CUresult impl_cuDevicePrimaryCtxReset_v2(CUdevice dev) {
    if (CUresult result = usable(dev); result != CUDA_SUCCESS) return result;
    bool green;
    {
        Locked locked(lock);
        green = greens[dev] != 0;
    }
    if (!green) contexts::destroy_values(primary_context_number(dev));  // else there is none
    Locked locked(lock);
    cuDevicePrimaryCtxReset_v2_args args{};
    cuDevicePrimaryCtxReset_v2_res res{};
    args.dev = dev;
    ReplyGuard guard;
    CUresult result = call(args, res);
    state_changed(dev);
    if (result == CUDA_SUCCESS || result == CUDA_ERROR_INVALID_DEVICE) devices::forget();
    // A reset does not change the count: whoever retained still has to release.
    if (result == CUDA_SUCCESS) gone(dev);
    return result;
}

CUresult impl_cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags) {
    if (CUresult result = usable(dev); result != CUDA_SUCCESS) return result;
    cuDevicePrimaryCtxSetFlags_v2_args args{};
    cuDevicePrimaryCtxSetFlags_v2_res res{};
    args.dev = dev;
    args.flags = flags;
    ReplyGuard guard;
    CUresult result = call(args, res);
    state_changed(dev);
    return result;
}

CUresult impl_cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int* flags, int* active) {
    if (!flags || !active) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult result = usable(dev); result != CUDA_SUCCESS) return result;
    uint64_t state = states[dev].load(std::memory_order_acquire);
    if (!(state & valid_bit)) {
        cuDevicePrimaryCtxGetState_args args{};
        cuDevicePrimaryCtxGetState_res res{};
        args.dev = dev;
        ReplyGuard guard;
        CUresult result = call(args, res);
        if (result != CUDA_SUCCESS) return result;
        uint64_t heard = (state & ~(one_version - 1)) | valid_bit | (res.active ? active_bit : 0) |
                         static_cast<uint32_t>(res.flags);
        states[dev].compare_exchange_strong(state, heard, std::memory_order_release);
        state = heard;
    }
    *flags = static_cast<uint32_t>(state);
    *active = (state & active_bit) != 0;
    return CUDA_SUCCESS;
}

CUresult impl_cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags) {
    unsigned int current = 0;
    int active = 0;
    if (CUresult result = impl_cuDevicePrimaryCtxGetState(dev, &current, &active); result != CUDA_SUCCESS)
        return result;
    return active ? CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE : impl_cuDevicePrimaryCtxSetFlags_v2(dev, flags);
}

}  // namespace cricket::client
