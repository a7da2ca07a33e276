// SPDX-License-Identifier: MIT
// Loading images. Each image is kept with the journal: a restore loads it again, and finds its variables by name.
#include <cstring>
#include <string>
#include <vector>

#include "call_image.h"
#include "dispatch.h"
#include "jit_options.h"
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

void serve_cuModuleEnumerateFunctions(Call& call, const cuModuleEnumerateFunctions_args& args,
                                      cuModuleEnumerateFunctions_res& res) {
    CUmodule module = nullptr;
    if (!args.mod || !driver_handle(call.objects, HandleKind::Module, args.mod, &module)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    unsigned count = 0;
    res.status = call.driver.cuModuleGetFunctionCount(&count, module);
    if (res.status != CUDA_SUCCESS) return;
    std::vector<CUfunction> functions(std::min(count, args.numFunctions));
    res.status = call.driver.cuModuleEnumerateFunctions(functions.data(), static_cast<unsigned>(functions.size()), module);
    std::string names;
    for (CUfunction function : functions) {
        const char* name = nullptr;
        if (res.status == CUDA_SUCCESS) res.status = call.driver.cuFuncGetName(&name, function);
        if (res.status == CUDA_SUCCESS) names.append(name).push_back('\0');
    }
    if (res.status == CUDA_SUCCESS && !give_bytes(&res.names, names.data(), names.size())) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

void serve_cuLibraryLoadData(Call& call, const cuLibraryLoadData_args& args, cuLibraryLoadData_res& res) {
    const Attachment image = take_image(call, args.image);
    JitOptions options(args.jit_options, args.jit_values, args.numJitOptions);
    if (!image || !options.ok() || args.numLibraryOptions != 0) {
        res.status = image ? CUDA_ERROR_INVALID_VALUE : no_image(args.image);
        return;
    }
    CUlibrary library = nullptr;
    res.status = call.driver.cuLibraryLoadData(&library, image->data(), options.codes(), options.values(), options.count(),
                                               nullptr, nullptr, 0);
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

void serve_cuLibraryEnumerateKernels(Call& call, const cuLibraryEnumerateKernels_args& args,
                                     cuLibraryEnumerateKernels_res& res) {
    CUlibrary library = nullptr;
    if (!args.lib || !driver_handle(call.objects, HandleKind::Library, args.lib, &library)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    unsigned count = 0;
    res.status = call.driver.cuLibraryGetKernelCount(&count, library);
    if (res.status != CUDA_SUCCESS) return;
    std::vector<CUkernel> kernels(std::min(count, args.numKernels));
    res.status = call.driver.cuLibraryEnumerateKernels(kernels.data(), static_cast<unsigned>(kernels.size()), library);
    std::string names;
    for (CUkernel kernel : kernels) {
        const char* name = nullptr;
        if (res.status == CUDA_SUCCESS) res.status = call.driver.cuKernelGetName(&name, kernel);
        if (res.status == CUDA_SUCCESS) names.append(name).push_back('\0');
    }
    if (res.status == CUDA_SUCCESS && !give_bytes(&res.names, names.data(), names.size())) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace cricket::server
