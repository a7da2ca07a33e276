// SPDX-License-Identifier: MIT
// Questions about kernels and functions, answered here once the server has answered them. Names are kept for ever, as
// CUDA promises them for the life of their function. Also the enumeration of what an image holds.

#include "client/contexts.h"
#include "client/function_cache.h"
#include "client/parameter_layout.h"
#include "client/reply_guard.h"
#include "custom.h"
#include "stub_support.h"

namespace cricket::client {
namespace {

using function_cache::Key;
using function_cache::What;

constexpr uint64_t name_bytes = 65536;  // longest mangled name expected

// The cached answer of `key`, or what `ask` gets from the server.
template <class Ask>
CUresult cached(const Key& key, uint64_t* value, Ask ask) {
    if (function_cache::find(key, value)) return CUDA_SUCCESS;
    const uint64_t stamp = function_cache::stamp(key);
    ReplyGuard guard;
    const CUresult result = ask(value);
    if (result == CUDA_SUCCESS) function_cache::keep(key, stamp, *value);
    return result;
}

Key function_attribute(CUfunction function, int attribute) {
    return {to_number(function), current_context(), What::FunctionAttribute, static_cast<uint32_t>(attribute)};
}

Key kernel_attribute(CUkernel kernel, CUdevice device, int attribute) {
    return {to_number(kernel), static_cast<uint64_t>(device), What::KernelAttribute,
            static_cast<uint32_t>(attribute)};
}

// Texts that the cache holds by their address.
template <class Args, class Res>
CUresult get_name(const char** name, uint64_t Args::*handle, uint64_t number) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    uint64_t text = 0;
    const CUresult result = cached({number, current_context(), What::Name}, &text, [&](uint64_t* value) {
        Args args{};
        Res res{};
        args.*handle = number;
        CUresult status = call(args, res, {.reply_bytes = name_bytes});
        if (status != CUDA_SUCCESS) return status;
        *value = reinterpret_cast<uint64_t>(keep_text(res.name));
        return *value ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    });
    if (result == CUDA_SUCCESS) *name = reinterpret_cast<const char*>(text);
    return result;
}

CUresult parameter(uint64_t function, size_t index, size_t* offset, size_t* size) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!offset) return CUDA_ERROR_INVALID_VALUE;
    const ParameterLayout* layout = nullptr;
    if (CUresult result = parameter_layout(function, &layout); result != CUDA_SUCCESS) return result;
    if (index >= layout->count) return CUDA_ERROR_INVALID_VALUE;
    *offset = layout->params[index].offset;
    if (size) *size = layout->params[index].size;
    return CUDA_SUCCESS;
}

}  // namespace

CUresult impl_cuFuncGetAttribute(int* pi, CUfunction_attribute attrib, CUfunction hfunc) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!pi) return CUDA_ERROR_INVALID_VALUE;
    uint64_t value = 0;
    const CUresult result = cached(function_attribute(hfunc, attrib), &value, [&](uint64_t* answer) {
        cuFuncGetAttribute_args args{};
        cuFuncGetAttribute_res res{};
        args.attrib = attrib;
        args.hfunc = to_number(hfunc);
        CUresult status = call(args, res);
        *answer = static_cast<uint32_t>(res.pi);
        return status;
    });
    if (result == CUDA_SUCCESS) *pi = static_cast<int>(value);
    return result;
}

// A function of a library is its kernel too: what either says is asked again.
CUresult impl_cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuFuncSetAttribute_args args{};
    cuFuncSetAttribute_res res{};
    args.hfunc = to_number(hfunc);
    args.attrib = attrib;
    args.value = value;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    function_cache::function_settings_changed();
    function_cache::kernel_settings_changed();
    return result;
}

CUresult impl_cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuFuncSetCacheConfig_args args{};
    cuFuncSetCacheConfig_res res{};
    args.hfunc = to_number(hfunc);
    args.config = config;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    function_cache::function_settings_changed();
    function_cache::kernel_settings_changed();
    return result;
}

CUresult impl_cuFuncGetName(const char** name, CUfunction hfunc) {
    return get_name<cuFuncGetName_args, cuFuncGetName_res>(name, &cuFuncGetName_args::hfunc, to_number(hfunc));
}

CUresult impl_cuFuncGetModule(CUmodule* hmod, CUfunction hfunc) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!hmod) return CUDA_ERROR_INVALID_VALUE;
    uint64_t module = 0;
    const CUresult result =
        cached({to_number(hfunc), current_context(), What::Module}, &module, [&](uint64_t* value) {
            cuFuncGetModule_args args{};
            cuFuncGetModule_res res{};
            args.hfunc = to_number(hfunc);
            CUresult status = call(args, res);
            *value = res.hmod;
            return status;
        });
    if (result == CUDA_SUCCESS) *hmod = from_number<CUmodule>(module);
    return result;
}

CUresult impl_cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t* paramOffset, size_t* paramSize) {
    return parameter(to_number(func), paramIndex, paramOffset, paramSize);
}

CUresult impl_cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t* paramOffset, size_t* paramSize) {
    return parameter(to_number(kernel), paramIndex, paramOffset, paramSize);
}

CUresult impl_cuKernelGetAttribute(int* pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
    if (!pi) return CUDA_ERROR_INVALID_VALUE;
    uint64_t value = 0;
    const CUresult result = cached(kernel_attribute(kernel, dev, attrib), &value, [&](uint64_t* answer) {
        cuKernelGetAttribute_args args{};
        cuKernelGetAttribute_res res{};
        args.attrib = attrib;
        args.kernel = to_number(kernel);
        args.dev = dev;
        CUresult status = call(args, res);
        *answer = static_cast<uint32_t>(res.pi);
        return status;
    });
    if (result == CUDA_SUCCESS) *pi = static_cast<int>(value);
    return result;
}

CUresult impl_cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    const Key key = kernel_attribute(kernel, dev, attrib);
    cuKernelSetAttribute_args args{};
    cuKernelSetAttribute_res res{};
    args.attrib = attrib;
    args.val = val;
    args.kernel = key.handle;
    args.dev = dev;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    function_cache::function_settings_changed();
    function_cache::outdate(key);
    // What flash attention and its like do before each launch, and ask back.
    if (result == CUDA_SUCCESS && attrib == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        function_cache::keep(key, function_cache::stamp(key), static_cast<uint32_t>(val));
    return result;
}

CUresult impl_cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuKernelSetCacheConfig_args args{};
    cuKernelSetCacheConfig_res res{};
    args.kernel = to_number(kernel);
    args.config = config;
    args.dev = dev;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    function_cache::function_settings_changed();
    function_cache::kernel_settings_changed();
    return result;
}

CUresult impl_cuKernelGetFunction(CUfunction* pFunc, CUkernel kernel) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!pFunc) return CUDA_ERROR_INVALID_VALUE;
    uint64_t function = 0;
    const CUresult result =
        cached({to_number(kernel), current_context(), What::FunctionOfKernel}, &function, [&](uint64_t* value) {
            cuKernelGetFunction_args args{};
            cuKernelGetFunction_res res{};
            args.kernel = to_number(kernel);
            CUresult status = call(args, res);
            *value = res.pFunc;
            return status;
        });
    if (result == CUDA_SUCCESS) *pFunc = from_number<CUfunction>(function);
    return result;
}

CUresult impl_cuKernelGetLibrary(CUlibrary* pLib, CUkernel kernel) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!pLib) return CUDA_ERROR_INVALID_VALUE;
    uint64_t library = 0;
    const CUresult result = cached({to_number(kernel), 0, What::Library}, &library, [&](uint64_t* value) {
        cuKernelGetLibrary_args args{};
        cuKernelGetLibrary_res res{};
        args.kernel = to_number(kernel);
        CUresult status = call(args, res);
        *value = res.pLib;
        return status;
    });
    if (result == CUDA_SUCCESS) *pLib = from_number<CUlibrary>(library);
    return result;
}

CUresult impl_cuKernelGetName(const char** name, CUkernel hfunc) {
    return get_name<cuKernelGetName_args, cuKernelGetName_res>(name, &cuKernelGetName_args::hfunc,
                                                               to_number(hfunc));
}

}  // namespace cricket::client
