// SPDX-License-Identifier: MIT
// Loading images. Each image is kept with the journal: a restore loads it again, and finds its variables by name.
#include <cstring>
#include <string>
#include <vector>

#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

// The image of a call, copied out of the channel; null when it is not where the call says.
Attachment take_image(Call& call, const rpc::Bulk& bulk) {
    if (!call.attachment && bulk.where == rpc::Bulk::Where::Offered) {
        call.attachment = call.session.images.take(bulk.offset, bulk.size);
        return call.attachment;
    }
    if (!call.attachment) {
        const auto* data = static_cast<const std::byte*>(call.read(bulk));
        if (!data || bulk.size == 0) return nullptr;
        call.attachment = std::make_shared<const ImageBytes>(std::vector<std::byte>(data, data + bulk.size));
    }
    return call.attachment;
}

CUresult no_image(const rpc::Bulk& bulk) {
    return bulk.where == rpc::Bulk::Where::Offered ? static_cast<CUresult>(wire::offer_missing) : CUDA_ERROR_INVALID_IMAGE;
}

// JIT options as the driver takes them; rpc/spec/module.spec says how they travel.
class JitOptions {
  public:
    JitOptions(const rpc::Blob& codes, const rpc::Blob& values, uint32_t count) {
        if (codes.size != count * sizeof(uint32_t) || values.size != count * sizeof(uint64_t)) return;
        codes_.resize(count);
        values_.resize(count);
        std::vector<uint64_t> numbers(count);
        if (count) {
            std::memcpy(static_cast<void*>(codes_.data()), codes.data, codes.size);
            std::memcpy(numbers.data(), values.data, values.size);
        }
        for (uint32_t i = 0; i < count; ++i) values_[i] = reinterpret_cast<void*>(numbers[i]);
        give_buffer(CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, &info_);
        give_buffer(CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, &error_);
        ok_ = true;
    }
    bool ok() const { return ok_; }
    unsigned count() const { return static_cast<unsigned>(codes_.size()); }
    CUjit_option* codes() { return codes_.data(); }
    void** values() { return values_.data(); }

    template <class Res>
    void give_back(Res& res) {
        std::vector<uint64_t> numbers(values_.size());
        for (size_t i = 0; i < numbers.size(); ++i) {
            const bool buffer = codes_[i] == CU_JIT_INFO_LOG_BUFFER || codes_[i] == CU_JIT_ERROR_LOG_BUFFER;
            numbers[i] = buffer ? 0 : reinterpret_cast<uint64_t>(values_[i]);
        }
        give_bytes(&res.jit_values, numbers.data(), numbers.size() * sizeof(uint64_t));
        if (!info_.empty()) give_bytes(&res.info_log, info_.data(), strnlen(info_.data(), info_.size() - 1) + 1);
        if (!error_.empty()) give_bytes(&res.error_log, error_.data(), strnlen(error_.data(), error_.size() - 1) + 1);
    }

  private:
    void give_buffer(CUjit_option pointer, CUjit_option size, std::vector<char>* buffer) {
        constexpr uint64_t longest = 1u << 20;
        for (size_t i = 0; i < codes_.size(); ++i)
            if (codes_[i] == size) buffer->resize(std::min<uint64_t>(reinterpret_cast<uint64_t>(values_[i]), longest));
        for (size_t i = 0; i < codes_.size(); ++i)
            if (codes_[i] == pointer) values_[i] = buffer->empty() ? nullptr : buffer->data();
    }
    std::vector<CUjit_option> codes_;
    std::vector<void*> values_;
    std::vector<char> info_, error_;
    bool ok_ = false;
};

}  // namespace

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
