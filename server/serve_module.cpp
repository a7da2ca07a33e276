// SPDX-License-Identifier: MIT
// Loading images. Each image is kept with the journal: a restore loads it again, and finds its variables by name.

#include "call_image.h"
#include "dispatch.h"
#include "jit_options.h"
#include "record.h"
#include "session.h"

namespace cricket::server {
void serve_cuModuleLoadData(Call& call, const cuModuleLoadData_args& args, cuModuleLoadData_res& res) {
    const Attachment image = take_image(call, args.image);
    if (!image) {
        res.status = no_image(args.image);
        return;
    }
    CUmodule module = nullptr;
    res.status = call.driver.cuModuleLoadData(&module, image->data());
    if (res.status == CUDA_SUCCESS) res.module = call.objects.add(HandleKind::Module, module);
}

void serve_cuModuleLoadDataEx(Call& call, const cuModuleLoadDataEx_args& args, cuModuleLoadDataEx_res& res) {
    const Attachment image = take_image(call, args.image);
    JitOptions options(args.jit_options, args.jit_values, args.numOptions);
    if (!image || !options.ok()) {
        res.status = image ? CUDA_ERROR_INVALID_VALUE : no_image(args.image);
        return;
    }
    CUmodule module = nullptr;
    res.status = call.driver.cuModuleLoadDataEx(&module, image->data(), options.count(), options.codes(), options.values());
    options.give_back(res);
    if (res.status == CUDA_SUCCESS) res.module = call.objects.add(HandleKind::Module, module);
}

void serve_cuModuleUnload(Call& call, const cuModuleUnload_args& args, cuModuleUnload_res& res) {
    CUmodule module = nullptr;
    if (!args.hmod || !driver_handle(call.objects, HandleKind::Module, args.hmod, &module)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    res.status = call.driver.cuModuleUnload(module);
    if (res.status == CUDA_SUCCESS) call.objects.remove(HandleKind::Module, args.hmod);
}

void serve_cuLibraryLoadData(Call& call, const cuLibraryLoadData_args& args, cuLibraryLoadData_res& res) {
    const Attachment image = take_image(call, args.image);
    JitOptions options(args.jit_options, args.jit_values, args.numJitOptions);
    if (!image || !options.ok() || args.numLibraryOptions != 0) {
        res.status = image ? CUDA_ERROR_INVALID_VALUE : no_image(args.image);
        return;
    }
    // The journal keeps the image for as long as it may have to be loaded again: the driver needs no copy of its own.
    CUlibraryOption preserved = CU_LIBRARY_BINARY_IS_PRESERVED;
    void* yes = reinterpret_cast<void*>(1);
    CUlibrary library = nullptr;
    res.status = call.driver.cuLibraryLoadData(&library, image->data(), options.codes(), options.values(), options.count(),
                                               &preserved, &yes, 1);
    options.give_back(res);
    if (res.status == CUDA_SUCCESS) res.library = call.objects.add(HandleKind::Library, library);
}

void serve_cuLibraryUnload(Call& call, const cuLibraryUnload_args& args, cuLibraryUnload_res& res) {
    CUlibrary library = nullptr;
    if (!args.library || !driver_handle(call.objects, HandleKind::Library, args.library, &library)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    res.status = call.driver.cuLibraryUnload(library);
    if (res.status == CUDA_SUCCESS) call.objects.remove(HandleKind::Library, args.library);
}

void serve_cuLibraryGetUnifiedFunction(Call& call, const cuLibraryGetUnifiedFunction_args& args,
                                       cuLibraryGetUnifiedFunction_res& res) {
    CUlibrary library = nullptr;
    if (!args.library || !driver_handle(call.objects, HandleKind::Library, args.library, &library)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    void* function = nullptr;
    res.status = call.driver.cuLibraryGetUnifiedFunction
                     ? call.driver.cuLibraryGetUnifiedFunction(&function, library, static_cast<const char*>(args.symbol.data))
                     : CUDA_ERROR_NOT_SUPPORTED;
    res.found = function != nullptr;
}

// The runtime asks before there is a context.
void serve_cuLibraryGetManaged(Call& call, const cuLibraryGetManaged_args& args, cuLibraryGetManaged_res& res) {
    CUlibrary library = nullptr;
    if (!driver_handle(call.objects, HandleKind::Library, args.library, &library)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    if (!call.driver.cuLibraryGetManaged) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    load_library(call, args.library);
    CUdeviceptr address = 0;
    size_t bytes = 0;
    res.status = call.driver.cuLibraryGetManaged(args.has_dptr ? &address : nullptr, args.has_bytes ? &bytes : nullptr, library,
                                                 static_cast<const char*>(args.name.data));
    if (res.status != CUDA_SUCCESS) return;
    res.dptr = address;
    res.bytes = bytes;
    if (call.session.current() || !call.session.loading.managed_placed(args.library)) return;
    auto again = args;
    record_extra(call, Proc::cuLibraryGetManaged, xdr_routine(xdr_cuLibraryGetManaged_args), &again,
                 {Effect::Kind::Load, args.library, 0, {0, 0}});
}

}  // namespace cricket::server
