// SPDX-License-Identifier: MIT
#include <algorithm>

#include "module.h"
#include "stream.h"

namespace softgpu {

std::shared_ptr<Module> module_of_library(CUlibrary handle, const std::shared_ptr<Context>& context) {
    auto library = libraries().get(handle);
    std::unique_lock lock(context->module_mutex);
    if (auto found = context->library_modules.find(library->id); found != context->library_modules.end())
        return modules().get(found->second);
    std::unique_ptr<ptx::Module> code;
    {
        std::unique_lock library_lock(library->mutex);
        code = std::move(library->parsed);
    }
    if (!code) code = compile(library->ptx, JitOptions(0, nullptr, nullptr));
    std::vector<std::shared_ptr<Settings>> settings;
    for (auto kernel : library->kernels)
        settings.push_back(kernels().get(kernel)->settings[static_cast<size_t>(context->device.ordinal)]);
    auto module = enter_module(context, std::move(code), library->id, settings);
    context->library_modules.emplace(library->id, module->handle);
    return module;
}

}  // namespace softgpu

using namespace softgpu;

namespace {

void load(CUlibrary* out, const void* image, unsigned jit_count, CUjit_option* jit_options,
          void** jit_values) {
    require(out);
    JitOptions options(jit_count, jit_options, jit_values);
    auto library = std::make_shared<Library>();
    static std::atomic<uint64_t> last_id = 0;
    library->id = ++last_id;
    library->ptx = ptx_of(image);
    library->parsed = compile(library->ptx, options);
    library->variables = library->parsed->variables();
    library->handle = libraries().reserve();
    for (size_t index = 0; auto& info : library->parsed->kernels()) {
        auto kernel = std::make_shared<Kernel>();
        kernel->library = library->id;
        kernel->library_handle = library->handle;
        kernel->index = index++;
        kernel->info = info;
        for (int i = 0; i < device_count(); ++i) kernel->settings.push_back(std::make_shared<Settings>());
        library->kernels.push_back(kernels().add(std::move(kernel)));
    }
    libraries().set(library->handle, library);
    *out = library->handle;
}

}  // namespace

CUresult cuLibraryLoadData(CUlibrary* out, const void* image, CUjit_option* jit_options, void** jit_values,
                           unsigned jit_count, CUlibraryOption*, void**, unsigned) {
    return api([&] { load(out, image, jit_count, jit_options, jit_values); });
}

CUresult cuLibraryLoadFromFile(CUlibrary* out, const char* path, CUjit_option* jit_options, void** jit_values,
                               unsigned jit_count, CUlibraryOption*, void**, unsigned) {
    return api([&] { load(out, read_file(path).data(), jit_count, jit_options, jit_values); });
}

CUresult cuLibraryUnload(CUlibrary handle) {
    return api([&] {
        auto library = libraries().remove(handle);
        for (auto& module :
             modules().remove_if([&](auto& module) { return module.library == library->id; })) {
            {
                std::unique_lock lock(module->context->module_mutex);
                module->context->library_modules.erase(library->id);
            }
            unload_module(module);
        }
        for (auto kernel : library->kernels) kernels().remove(kernel);
    });
}

CUresult cuLibraryGetKernel(CUkernel* out, CUlibrary handle, const char* name) {
    return api([&] {
        require(out && name);
        auto library = libraries().get(handle);
        for (auto kernel : library->kernels)
            if (kernels().get(kernel)->info.name == name) return void(*out = kernel);
        fail(CUDA_ERROR_NOT_FOUND);
    });
}

CUresult cuLibraryGetKernelCount(unsigned* count, CUlibrary handle) {
    return api([&] {
        require(count);
        *count = static_cast<unsigned>(libraries().get(handle)->kernels.size());
    });
}

CUresult cuLibraryEnumerateKernels(CUkernel* out, unsigned count, CUlibrary handle) {
    return api([&] {
        require(out && count);
        auto library = libraries().get(handle);
        std::copy_n(library->kernels.begin(), std::min<size_t>(count, library->kernels.size()), out);
    });
}

CUresult cuLibraryGetModule(CUmodule* out, CUlibrary handle) {
    return api([&] {
        require(out);
        *out = module_of_library(handle, current())->handle;
    });
}

namespace {

CUresult variable_of(CUdeviceptr* address, size_t* size, CUlibrary handle, const char* name, bool managed) {
    return api([&] {
        require(name && (address || size));
        // The runtime asks for managed variables before it has made a context.
        std::shared_ptr<Context> context;
        if (managed && !current_handle()) {
            auto& d = device(0);
            std::unique_lock lock(d.primary.mutex);
            context = contexts().find(d.primary.handle);
            if (!context) {
                context = Context::make(d, d.primary.handle, d.primary.flags, true);
                ++d.primary.retained;  // for the variables' sake
            }
        } else {
            context = current();
        }
        auto module = module_of_library(handle, context);
        auto& variable = module->variable(name);
        require(variable.managed == managed || !managed, CUDA_ERROR_NOT_FOUND);
        if (address) *address = variable.address;
        if (size) *size = variable.size;
    });
}

}  // namespace

CUresult cuLibraryGetGlobal(CUdeviceptr* address, size_t* size, CUlibrary library, const char* name) {
    return variable_of(address, size, library, name, false);
}

CUresult cuLibraryGetManaged(CUdeviceptr* address, size_t* size, CUlibrary library, const char* name) {
    return variable_of(address, size, library, name, true);
}

CUresult cuKernelGetLibrary(CUlibrary* out, CUkernel handle) {
    return api([&] {
        require(out);
        *out = kernels().get(handle)->library_handle;
    });
}

CUresult cuKernelGetFunction(CUfunction* out, CUkernel handle) {
    return api([&] {
        require(out);
        auto kernel = kernels().get(handle);
        *out = module_of_library(kernel->library_handle, current())->functions[kernel->index];
    });
}

CUresult cuKernelGetName(const char** name, CUkernel handle) {
    return api([&] {
        require(name);
        *name = kernels().get(handle)->info.name.c_str();
    });
}

CUresult cuKernelGetParamInfo(CUkernel handle, size_t index, size_t* offset, size_t* size) {
    return api([&] {
        require(offset);
        auto kernel = kernels().get(handle);
        require(index < kernel->info.params.size());
        *offset = kernel->info.params[index].offset;
        if (size) *size = kernel->info.params[index].size;
    });
}

CUresult cuKernelGetAttribute(int* value, CUfunction_attribute which, CUkernel handle, CUdevice dev) {
    return api([&] {
        require(value);
        auto kernel = kernels().get(handle);
        *value = function_attribute(kernel->info, *kernel->settings[static_cast<size_t>(device(dev).ordinal)],
                                    which);
    });
}

CUresult cuKernelSetAttribute(CUfunction_attribute which, int value, CUkernel handle, CUdevice dev) {
    return api([&] {
        auto kernel = kernels().get(handle);
        set_function_attribute(kernel->info, *kernel->settings[static_cast<size_t>(device(dev).ordinal)],
                               which, value);
    });
}

CUresult cuKernelSetCacheConfig(CUkernel handle, CUfunc_cache config, CUdevice dev) {
    return api([&] {
        require(config >= CU_FUNC_CACHE_PREFER_NONE && config <= CU_FUNC_CACHE_PREFER_EQUAL);
        kernels().get(handle);
        device(dev);
    });
}
