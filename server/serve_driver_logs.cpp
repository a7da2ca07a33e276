// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstring>
#include <vector>

#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr size_t largest_log = 25600;
constexpr size_t largest_setting = 1024;

// Drivers before CUDA 12.9 do not have all of this.
template <class Function, class Res>
bool known(Function* function, Res& res) {
    if (!function) res.status = CUDA_ERROR_NOT_SUPPORTED;
    return function != nullptr;
}

// Called by the driver in the thread whose call failed: nobody waits for the application's function.
void CUDA_CB log_message(void* context, CUlogLevel level, char* message, size_t length) {
    Callbacks::tell(context, static_cast<uint32_t>(level), message, length);
}

void CUDA_CB async_notification(CUasyncNotificationInfo* info, void* context, CUasyncCallbackHandle) {
    Callbacks::tell(context, 0, info, sizeof *info);
}

// The registration is gone: its callback is told to the client to be forgotten.
void unregistered(Call& call, uint64_t number, uint64_t* id) {
    auto found = call.session.callback_ids.find(number);
    if (found == call.session.callback_ids.end()) return;
    *id = found->second;
    call.session.callbacks.forget_repeated(found->second);
    call.session.callback_ids.erase(found);
}

template <class Get, class Args, class Res>
void get_setting(Get* get, const Args& args, Res& res) {
    if (!get) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    std::vector<std::byte> value(std::min<uint64_t>(args.size, largest_setting));
    size_t size = value.size();
    res.status = get(static_cast<CUcoredumpSettings>(args.attrib), args.has_value ? value.data() : nullptr, &size);
    res.size = size;
    if (res.status == CUDA_SUCCESS && args.has_value && !give_bytes(&res.data, value.data(), std::min(size, value.size())))
        res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

template <class Set, class Args, class Res>
void set_setting(Set* set, const Args& args, Res& res) {
    if (!set) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    if (!args.data.present || args.data.size > largest_setting) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    std::vector<std::byte> value(largest_setting + 1);  // texts may be read to their end
    std::memcpy(value.data(), args.data.data, args.data.size);
    size_t size = args.data.size;
    res.status = set(static_cast<CUcoredumpSettings>(args.attrib), value.data(), &size);
    res.size = size;
}

}  // namespace

void serve_cuLogsDumpToMemory(Call& call, const cuLogsDumpToMemory_args& args, cuLogsDumpToMemory_res& res) {
    if (!known(call.driver.cuLogsDumpToMemory, res)) return;
    std::vector<char> text(std::min<uint64_t>(args.size, largest_log));
    size_t size = text.size();
    CUlogIterator iterator = args.iterator;
    res.status = call.driver.cuLogsDumpToMemory(args.has_iterator ? &iterator : nullptr, text.data(), &size, args.flags);
    res.size = size;
    res.iterator = iterator;
    // With its NUL, which the size does not count.
    if (res.status == CUDA_SUCCESS && !give_bytes(&res.text, text.data(), std::min(size + 1, text.size())))
        res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

void serve_cuLogsRegisterCallback(Call& call, const cuLogsRegisterCallback_args& args, cuLogsRegisterCallback_res& res) {
    if (!known(call.driver.cuLogsRegisterCallback, res)) return;
    CUlogsCallbackHandle handle = nullptr;
    void* context = call.session.callbacks.context(args.id, Callbacks::Use::Repeated);
    res.status = call.driver.cuLogsRegisterCallback(log_message, context, &handle);
    if (res.status != CUDA_SUCCESS) return call.session.callbacks.forget(context);
    res.callback_out = call.objects.add(HandleKind::LogsCallback, handle);
    call.session.callback_ids[res.callback_out] = args.id;
}

void serve_cuLogsUnregisterCallback(Call& call, const cuLogsUnregisterCallback_args& args,
                                    cuLogsUnregisterCallback_res& res) {
    if (!known(call.driver.cuLogsUnregisterCallback, res)) return;
    CUlogsCallbackHandle handle = nullptr;
    if (!args.callback || !driver_handle(call.objects, HandleKind::LogsCallback, args.callback, &handle)) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    res.status = call.driver.cuLogsUnregisterCallback(handle);
    if (res.status == CUDA_SUCCESS) unregistered(call, args.callback, &res.id);
}

void serve_cuDeviceRegisterAsyncNotification(Call& call, const cuDeviceRegisterAsyncNotification_args& args,
                                             cuDeviceRegisterAsyncNotification_res& res) {
    if (!known(call.driver.cuDeviceRegisterAsyncNotification, res)) return;
    CUasyncCallbackHandle handle = nullptr;
    void* context = call.session.callbacks.context(args.id, Callbacks::Use::Repeated);
    res.status = call.driver.cuDeviceRegisterAsyncNotification(args.device, async_notification, context, &handle);
    if (res.status != CUDA_SUCCESS) return call.session.callbacks.forget(context);
    res.callback = call.objects.add(HandleKind::AsyncCallback, handle);
    call.session.callback_ids[res.callback] = args.id;
}

void serve_cuDeviceUnregisterAsyncNotification(Call& call, const cuDeviceUnregisterAsyncNotification_args& args,
                                               cuDeviceUnregisterAsyncNotification_res& res) {
    if (!known(call.driver.cuDeviceUnregisterAsyncNotification, res)) return;
    CUasyncCallbackHandle handle = nullptr;
    if (!args.callback || !driver_handle(call.objects, HandleKind::AsyncCallback, args.callback, &handle)) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    res.status = call.driver.cuDeviceUnregisterAsyncNotification(args.device, handle);
    if (res.status == CUDA_SUCCESS) unregistered(call, args.callback, &res.id);
}

void serve_cuCoredumpGetAttribute(Call& call, const cuCoredumpGetAttribute_args& args, cuCoredumpGetAttribute_res& res) {
    get_setting(call.driver.cuCoredumpGetAttribute, args, res);
}
void serve_cuCoredumpGetAttributeGlobal(Call& call, const cuCoredumpGetAttributeGlobal_args& args,
                                        cuCoredumpGetAttributeGlobal_res& res) {
    get_setting(call.driver.cuCoredumpGetAttributeGlobal, args, res);
}
void serve_cuCoredumpSetAttribute(Call& call, const cuCoredumpSetAttribute_args& args, cuCoredumpSetAttribute_res& res) {
    set_setting(call.driver.cuCoredumpSetAttribute, args, res);
}
void serve_cuCoredumpSetAttributeGlobal(Call& call, const cuCoredumpSetAttributeGlobal_args& args,
                                        cuCoredumpSetAttributeGlobal_res& res) {
    set_setting(call.driver.cuCoredumpSetAttributeGlobal, args, res);
}

}  // namespace cricket::server
