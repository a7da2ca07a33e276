// SPDX-License-Identifier: MIT
// The driver's log of errors, settings of its core dumps, and registered callbacks. The texts are those of the worker's
// driver; a file that the application names is written here. Core dumps are written by the worker, on its machine.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "client/callbacks.h"
#include "client/contexts.h"
#include "client/descriptors.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "custom.h"

namespace cricket::client {
namespace {

constexpr size_t largest_log = 25600;  // the driver keeps no more
constexpr size_t largest_setting = 1024;

bool write_file(const char* path, const char* text, size_t bytes) {
    const int fd = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return false;
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = ::write(fd, text + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            ::close(fd);
            return false;
        }
        done += static_cast<size_t>(n);
    }
    return ::close(fd) == 0;
}

template <class Args, class Res>
CUresult get_setting(CUcoredumpSettings attrib, void* value, size_t* size) {
    if (!size) return CUDA_ERROR_INVALID_VALUE;
    Args args{};
    Res res{};
    args.attrib = static_cast<decltype(args.attrib)>(attrib);
    args.size = *size;
    args.has_value = value != nullptr;
    res.status = CUDA_ERROR_UNKNOWN;
    ReplyGuard guard;
    const CUresult result = call(args, res, {0, largest_setting + 64});
    if (res.status != CUDA_SUCCESS) return result;
    if (value && res.size > *size) return CUDA_ERROR_INVALID_VALUE;
    if (value && res.data.size <= *size) std::memcpy(value, res.data.data, res.data.size);
    *size = res.size;
    return result;
}

template <class Args, class Res>
CUresult set_setting(CUcoredumpSettings attrib, void* value, size_t* size) {
    if (!value || !size || *size > largest_setting) return CUDA_ERROR_INVALID_VALUE;
    Args args{};
    Res res{};
    args.attrib = static_cast<decltype(args.attrib)>(attrib);
    args.size = *size;
    args.data = {value, static_cast<uint32_t>(*size), true, false};
    ReplyGuard guard;
    return call(args, res);
}

}  // namespace

// Before cuInit there is no log, which is no error.
CUresult impl_cuLogsCurrent(CUlogIterator* iterator_out, unsigned int flags) {
    if (!iterator_out) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) {
        *iterator_out = 0;
        return CUDA_SUCCESS;
    }
    cuLogsCurrent_args args{};
    cuLogsCurrent_res res{};
    args.flags = flags;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) *iterator_out = res.iterator_out;
    return result;
}

CUresult impl_cuLogsDumpToMemory(CUlogIterator* iterator, char* buffer, size_t* size, unsigned int flags) {
    if (!buffer || !size || *size == 0) return CUDA_ERROR_INVALID_VALUE;
    cuLogsDumpToMemory_args args{};
    cuLogsDumpToMemory_res res{};
    args.has_iterator = iterator != nullptr;
    if (iterator) args.iterator = *iterator;
    args.size = *size;
    args.flags = flags;
    res.status = CUDA_ERROR_UNKNOWN;
    ReplyGuard guard;
    const CUresult result = call(args, res, {0, largest_log + 64});
    if (res.status != CUDA_SUCCESS) {
        *size = 0;
        return result;
    }
    if (res.text.size && res.text.size <= *size) std::memcpy(buffer, res.text.data, res.text.size);
    *size = res.size;
    if (iterator) *iterator = res.iterator;
    return result;
}

CUresult impl_cuLogsDumpToFile(CUlogIterator* iterator, const char* pathToFile, unsigned int flags) {
    if (!pathToFile || !*pathToFile) return CUDA_ERROR_INVALID_VALUE;
    char text[largest_log];
    size_t size = sizeof text;
    const CUresult result = impl_cuLogsDumpToMemory(iterator, text, &size, flags);
    if (result != CUDA_SUCCESS) return result;
    return write_file(pathToFile, text, size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult impl_cuLogsRegisterCallback(CUlogsCallback callbackFunc, void* userData, CUlogsCallbackHandle* callback_out) {
    cuLogsRegisterCallback_args args{};
    cuLogsRegisterCallback_res res{};
    const CUresult added = callbacks::add(callbacks::Kind::Log, callbacks::Use::Repeated,
                                          reinterpret_cast<void*>(callbackFunc), userData, &args.id);
    if (added != CUDA_SUCCESS) return added;
    res.status = CUDA_ERROR_UNKNOWN;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (res.status != CUDA_SUCCESS)
        callbacks::remove(args.id);
    else if (callback_out)
        *callback_out = from_number<CUlogsCallbackHandle>(res.callback_out);
    return result;
}

CUresult impl_cuLogsUnregisterCallback(CUlogsCallbackHandle callback) {
    cuLogsUnregisterCallback_args args{};
    cuLogsUnregisterCallback_res res{};
    args.callback = to_number(callback);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (res.id) callbacks::remove(res.id);
    return result;
}

CUresult impl_cuDeviceRegisterAsyncNotification(CUdevice device, CUasyncCallback callbackFunc, void* userData,
                                                CUasyncCallbackHandle* callback) {
    if (!initialized()) return Session::absent();
    if (!callback) return CUDA_ERROR_INVALID_VALUE;
    cuDeviceRegisterAsyncNotification_args args{};
    cuDeviceRegisterAsyncNotification_res res{};
    const CUresult added = callbacks::add(callbacks::Kind::AsyncNotification, callbacks::Use::Repeated,
                                          reinterpret_cast<void*>(callbackFunc), userData, &args.id);
    if (added != CUDA_SUCCESS) return added;
    args.device = device;
    res.status = CUDA_ERROR_UNKNOWN;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (res.status != CUDA_SUCCESS) {
        callbacks::remove(args.id);
        return result;
    }
    callbacks::set_handle(args.id, res.callback);
    *callback = from_number<CUasyncCallbackHandle>(res.callback);
    return result;
}

CUresult impl_cuDeviceUnregisterAsyncNotification(CUdevice device, CUasyncCallbackHandle callback) {
    cuDeviceUnregisterAsyncNotification_args args{};
    cuDeviceUnregisterAsyncNotification_res res{};
    args.device = device;
    args.callback = to_number(callback);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (res.id) callbacks::remove(res.id);
    return result;
}

CUresult impl_cuCoredumpGetAttribute(CUcoredumpSettings attrib, void* value, size_t* size) {
    return get_setting<cuCoredumpGetAttribute_args, cuCoredumpGetAttribute_res>(attrib, value, size);
}
CUresult impl_cuCoredumpGetAttributeGlobal(CUcoredumpSettings attrib, void* value, size_t* size) {
    if (!size || (value && !*size)) return CUDA_ERROR_INVALID_VALUE;
    return get_setting<cuCoredumpGetAttributeGlobal_args, cuCoredumpGetAttributeGlobal_res>(attrib, value, size);
}
CUresult impl_cuCoredumpSetAttribute(CUcoredumpSettings attrib, void* value, size_t* size) {
    return set_setting<cuCoredumpSetAttribute_args, cuCoredumpSetAttribute_res>(attrib, value, size);
}
CUresult impl_cuCoredumpSetAttributeGlobal(CUcoredumpSettings attrib, void* value, size_t* size) {
    if (!value || !size || !*size) return CUDA_ERROR_INVALID_VALUE;
    return set_setting<cuCoredumpSetAttributeGlobal_args, cuCoredumpSetAttributeGlobal_res>(attrib, value, size);
}

// The driver itself has not supported it since CUDA 11.
CUresult impl_cuProfilerInitialize(const char*, const char*, CUoutput_mode) { return CUDA_ERROR_NOT_SUPPORTED; }

}  // namespace cricket::client
