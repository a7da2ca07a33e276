// SPDX-License-Identifier: MIT
#include <algorithm>

#include "module.h"
#include "stream.h"

namespace softgpu {

std::shared_ptr<Function> function(CUfunction handle, const std::shared_ptr<Context>& context) {
    if (auto found = functions().find(handle)) return found;
    auto kernel = kernels().get(reinterpret_cast<CUkernel>(handle));
    return functions().get(module_of_library(kernel->library_handle, context)->functions[kernel->index]);
}

int function_attribute(const ptx::Kernel& kernel, const Settings& settings, CUfunction_attribute which) {
    switch (which) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
            return static_cast<int>(kernel.max_threads);
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
            return static_cast<int>(kernel.static_shared_bytes);
        case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
            return 0;
        case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
            return static_cast<int>(kernel.local_bytes);
        case CU_FUNC_ATTRIBUTE_NUM_REGS:
            return std::max(static_cast<int>(kernel.registers), 1);
        case CU_FUNC_ATTRIBUTE_PTX_VERSION:
        case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
            return compute_capability();
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
            return settings.max_dynamic_shared >= 0
                       ? settings.max_dynamic_shared.load()
                       : std::max(0, static_cast<int>(kSharedPerBlock) -
                                         static_cast<int>(kernel.static_shared_bytes));
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            return settings.carveout;
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
            return settings.non_portable_cluster;
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
            return settings.cluster_policy;
        case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
        case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
            return 0;
        default:
            fail(CUDA_ERROR_INVALID_VALUE);
    }
}

void set_function_attribute(const ptx::Kernel& kernel, Settings& settings, CUfunction_attribute which,
                            int value) {
    switch (which) {
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
            require(value >= 0 && value + kernel.static_shared_bytes <= kSharedPerBlockOptin);
            settings.max_dynamic_shared = value;
            break;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            require(value >= -1 && value <= 100);
            settings.carveout = value;
            break;
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
            settings.non_portable_cluster = value != 0;
            break;
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
            settings.cluster_policy = value;
            break;
        default:
            fail(CUDA_ERROR_INVALID_VALUE);
    }
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute which, CUfunction handle) {
    return api([&] {
        require(value);
        auto f = function(handle, current());
        *value = function_attribute(*f->kernel, *f->settings, which);
    });
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute which, int value) {
    return api([&] {
        auto f = function(handle, current());
        set_function_attribute(*f->kernel, *f->settings, which, value);
    });
}

CUresult cuFuncGetName(const char** name, CUfunction handle) {
    return api([&] {
        require(name);
        // Either kind of handle, without making a module of a library for it.
        if (auto kernel = kernels().find(reinterpret_cast<CUkernel>(handle)))
            *name = kernel->info.name.c_str();
        else
            *name = functions().get(handle)->kernel->name.c_str();
    });
}

CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t* offset, size_t* size) {
    return api([&] {
        require(offset);
        auto f = function(handle, current());
        require(index < f->kernel->params.size());
        *offset = f->kernel->params[index].offset;
        if (size) *size = f->kernel->params[index].size;
    });
}

CUresult cuFuncGetModule(CUmodule* out, CUfunction handle) {
    return api([&] {
        require(out);
        *out = function(handle, current())->module->handle;
    });
}

CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config) {
    return api([&] {
        require(config >= CU_FUNC_CACHE_PREFER_NONE && config <= CU_FUNC_CACHE_PREFER_EQUAL);
        function(handle, current());
    });
}

CUresult cuFuncSetSharedMemConfig(CUfunction handle, CUsharedconfig) {
    return api([&] { function(handle, current()); });
}

CUresult cuFuncLoad(CUfunction handle) {
    return api([&] { function(handle, current()); });
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState* state, CUfunction handle) {
    return api([&] {
        require(state);
        function(handle, current());
        *state = CU_FUNCTION_LOADING_STATE_LOADED;
    });
}
