// SPDX-License-Identifier: MIT
#include "module.h"

#include <algorithm>
#include <cstring>

#include "memory.h"
#include "stream.h"

namespace softgpu {

Module::Module(std::shared_ptr<Context> context_, std::unique_ptr<ptx::Module> code_)
    : context(std::move(context_)), code(std::move(code_)) {
    auto& list = code->variables();
    std::vector<uint64_t> offsets;
    for (auto& variable : list) {
        uint64_t align = std::max<uint64_t>(variable.align, variable.size >= 16 ? 16u : 1u);
        size_ = (size_ + align - 1) / align * align;
        offsets.push_back(size_);
        size_ += std::max<uint64_t>(variable.size, 1);
    }
    if (size_) {
        const uint64_t granule = std::max<uint64_t>(block_bytes(), 4096);
        size_ = (size_ + granule - 1) / granule * granule;
        auto base = module_addresses().allocate(size_, granule);
        require(base.has_value(), CUDA_ERROR_OUT_OF_MEMORY);
        base_ = *base;
        commit(base_, size_);
    }
    for (size_t i = 0; i < list.size(); ++i) {
        uint64_t address = base_ + offsets[i];
        code->place(i, reinterpret_cast<void*>(address));
        variables.push_back({list[i].name, address, list[i].size, list[i].managed});
        Range range;
        range.base = address;
        range.size = std::max<uint64_t>(list[i].size, 1);
        range.kind = list[i].managed ? MemoryKind::Managed : MemoryKind::Variable;
        range.device = context->device.ordinal;
        range.owner = context->handle;
        memory_map().add(range);
    }
    code->initialize();
}

void Module::unload() {
    MemoryNotInUse not_in_use;
    for (auto& variable : variables) memory_map().remove(variable.address);
    variables.clear();
    if (!size_) return;
    decommit(base_, size_);
    module_addresses().release(base_, size_);
    size_ = 0;
}

const Module::Variable& Module::variable(const char* name) const {
    auto found = std::find_if(variables.begin(), variables.end(), [&](auto& v) { return v.name == name; });
    require(found != variables.end(), CUDA_ERROR_NOT_FOUND);
    return *found;
}

std::shared_ptr<Module> enter_module(std::shared_ptr<Context> context, std::unique_ptr<ptx::Module> code,
                                     uint64_t library, std::span<const std::shared_ptr<Settings>> settings) {
    auto module = std::make_shared<Module>(std::move(context), std::move(code));
    module->library = library;
    for (size_t i = 0; auto& kernel : module->code->kernels()) {
        auto function = std::make_shared<Function>();
        function->module = module;
        function->kernel = &kernel;
        function->settings = i < settings.size() ? settings[i] : std::make_shared<Settings>();
        function->handle = functions().reserve();
        functions().set(function->handle, function);
        module->functions.push_back(function->handle);
        ++i;
    }
    module->handle = modules().add(module);
    return module;
}

void unload_module(const std::shared_ptr<Module>& module) {
    module->context->drain();  // what was launched before still runs
    module->context->output.flush();
    for (auto handle : module->functions) functions().remove(handle);
    module->unload();
}

void unload_modules_of(Context& context) {
    for (auto& module : modules().remove_if([&](auto& module) { return module.context.get() == &context; }))
        unload_module(module);
}

}  // namespace softgpu

using namespace softgpu;

namespace {

CUresult load(CUmodule* out, const void* image, const JitOptions& options) {
    return api([&] {
        require(out);
        auto context = current();
        *out = enter_module(context, compile(ptx_of(image), options))->handle;
    });
}

}  // namespace

CUresult cuModuleLoadData(CUmodule* out, const void* image) {
    return load(out, image, JitOptions(0, nullptr, nullptr));
}
CUresult cuModuleLoadFatBinary(CUmodule* out, const void* image) {
    return cuModuleLoadData(out, image);
}

CUresult cuModuleLoadDataEx(CUmodule* out, const void* image, unsigned count, CUjit_option* options,
                            void** values) {
    if (count && (!options || !values)) return CUDA_ERROR_INVALID_VALUE;
    return load(out, image, JitOptions(count, options, values));
}

CUresult cuModuleLoad(CUmodule* out, const char* path) {
    return api([&] {
        require(out);
        auto context = current();
        auto bytes = read_file(path);
        *out = enter_module(context, compile(ptx_of(bytes.data()), JitOptions(0, nullptr, nullptr)))->handle;
    });
}

CUresult cuModuleUnload(CUmodule handle) {
    return api([&] {
        current();
        require(modules().get(handle)->library == 0, CUDA_ERROR_NOT_PERMITTED);  // cuLibraryUnload does that
        unload_module(modules().remove(handle));
    });
}

CUresult cuModuleGetFunction(CUfunction* out, CUmodule handle, const char* name) {
    return api([&] {
        require(out && name && *name);
        auto module = modules().get(handle);
        auto& list = module->code->kernels();
        auto found =
            std::find_if(list.begin(), list.end(), [&](auto& kernel) { return kernel.name == name; });
        require(found != list.end(), CUDA_ERROR_NOT_FOUND);
        *out = module->functions[static_cast<size_t>(found - list.begin())];
    });
}

CUresult cuModuleGetFunctionCount(unsigned* count, CUmodule handle) {
    return api([&] {
        require(count);
        *count = static_cast<unsigned>(modules().get(handle)->functions.size());
    });
}

CUresult cuModuleEnumerateFunctions(CUfunction* out, unsigned count, CUmodule handle) {
    return api([&] {
        require(out && count);
        auto module = modules().get(handle);
        std::copy_n(module->functions.begin(), std::min<size_t>(count, module->functions.size()), out);
    });
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* address, size_t* size, CUmodule handle, const char* name) {
    return api([&] {
        require(name && (address || size));
        auto module = modules().get(handle);
        auto& variable = module->variable(name);
        if (address) *address = variable.address;
        if (size) *size = variable.size;
    });
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
    return api([&] {
        require(mode);
        const char* wish = getenv("CUDA_MODULE_LOADING");
        *mode = wish && strcmp(wish, "EAGER") == 0 ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
    });
}
