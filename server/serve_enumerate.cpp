// SPDX-License-Identifier: MIT
// What an image holds, one after the other. Asking for each by name would load it (lazy loading), so what is found here is
// journalled by its place in the enumeration.
#include <algorithm>
#include <vector>

#include "dispatch.h"
#include "record.h"
#include "session.h"

namespace cricket::server {
namespace {

CUresult functions_of(Call& call, uint64_t number, std::vector<CUfunction>* functions) {
    auto* module = static_cast<CUmodule>(call.objects.get(HandleKind::Module, number));
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    if (!call.driver.cuModuleEnumerateFunctions) return CUDA_ERROR_NOT_SUPPORTED;
    unsigned count = 0;
    CUresult status = call.driver.cuModuleGetFunctionCount(&count, module);
    functions->resize(count);
    if (status == CUDA_SUCCESS && count) status = call.driver.cuModuleEnumerateFunctions(functions->data(), count, module);
    return status;
}

CUresult kernels_of(Call& call, uint64_t number, std::vector<CUkernel>* kernels) {
    auto* library = static_cast<CUlibrary>(call.objects.get(HandleKind::Library, number));
    if (!library) return CUDA_ERROR_INVALID_HANDLE;
    if (!call.driver.cuLibraryEnumerateKernels) return CUDA_ERROR_NOT_SUPPORTED;
    unsigned count = 0;
    CUresult status = call.driver.cuLibraryGetKernelCount(&count, library);
    kernels->resize(count);
    if (status == CUDA_SUCCESS && count) status = call.driver.cuLibraryEnumerateKernels(kernels->data(), count, library);
    return status;
}

// The numbers of the first `wanted` handles; `note` journals the one at an index.
template <class Handle, class Note>
CUresult give_numbers(Call& call, HandleKind kind, const std::vector<Handle>& handles, unsigned wanted, rpc::Blob* out,
                      Note note) {
    std::vector<uint64_t> numbers(std::min<size_t>(handles.size(), wanted));
    for (size_t i = 0; i < numbers.size(); ++i) {
        const bool known = call.objects.find(kind, handles[i]) != 0;
        numbers[i] = call.objects.add(kind, handles[i]);
        if (!known) note(static_cast<uint32_t>(i), numbers[i]);
    }
    return give_bytes(out, numbers.data(), numbers.size() * sizeof(uint64_t)) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace

void serve_cuModuleEnumerateFunctions(Call& call, const cuModuleEnumerateFunctions_args& args,
                                      cuModuleEnumerateFunctions_res& res) {
    std::vector<CUfunction> functions;
    res.status = args.numFunctions ? functions_of(call, args.mod, &functions) : CUDA_ERROR_INVALID_VALUE;
    if (res.status != CUDA_SUCCESS) return;
    const auto note = [&](uint32_t index, uint64_t number) {
        cricketModuleFunction_args one{args.mod, index};
        record_extra(call, Proc::cricketModuleFunction, xdr_routine(xdr_cricketModuleFunction_args), &one,
                     {Effect::Kind::Create, number, args.mod, {0, 0}});
    };
    res.status = give_numbers(call, HandleKind::Function, functions, args.numFunctions, &res.functions, note);
}

void serve_cricketModuleFunction(Call& call, const cricketModuleFunction_args& args, cricketModuleFunction_res& res) {
    std::vector<CUfunction> functions;
    res.status = functions_of(call, args.module, &functions);
    if (res.status == CUDA_SUCCESS && args.index >= functions.size()) res.status = CUDA_ERROR_NOT_FOUND;
    if (res.status == CUDA_SUCCESS) res.function = call.objects.add(HandleKind::Function, functions[args.index]);
}

void serve_cuLibraryEnumerateKernels(Call& call, const cuLibraryEnumerateKernels_args& args,
                                     cuLibraryEnumerateKernels_res& res) {
    std::vector<CUkernel> kernels;
    res.status = args.numKernels ? kernels_of(call, args.lib, &kernels) : CUDA_ERROR_INVALID_VALUE;
    if (res.status != CUDA_SUCCESS) return;
    const auto note = [&](uint32_t index, uint64_t number) {
        cricketLibraryKernel_args one{args.lib, index};
        record_extra(call, Proc::cricketLibraryKernel, xdr_routine(xdr_cricketLibraryKernel_args), &one,
                     {Effect::Kind::Create, number, args.lib, {0, 0}});
    };
    res.status = give_numbers(call, HandleKind::Kernel, kernels, args.numKernels, &res.kernels, note);
}

void serve_cricketLibraryKernel(Call& call, const cricketLibraryKernel_args& args, cricketLibraryKernel_res& res) {
    std::vector<CUkernel> kernels;
    res.status = kernels_of(call, args.library, &kernels);
    if (res.status == CUDA_SUCCESS && args.index >= kernels.size()) res.status = CUDA_ERROR_NOT_FOUND;
    if (res.status == CUDA_SUCCESS) res.kernel = call.objects.add(HandleKind::Kernel, kernels[args.index]);
}

}  // namespace cricket::server
