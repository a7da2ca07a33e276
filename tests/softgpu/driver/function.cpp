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
            return 10 * kMajor + kMinor;
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

namespace {

int round_up(int value, int to) {
    return (value + to - 1) / to * to;
}

int blocks_per_multiprocessor(const ptx::Kernel& kernel, int threads, size_t dynamic_shared) {
    if (threads > static_cast<int>(kernel.max_threads) || threads > kMaxThreadsPerBlock) return 0;
    int in_warps = round_up(threads, kWarp);
    int blocks = std::min(kMaxThreadsPerMultiprocessor / in_warps, kMaxBlocksPerMultiprocessor);
    int registers = round_up(std::max(static_cast<int>(kernel.registers), 1), 8);
    blocks = std::min(blocks, kRegisters / (registers * in_warps));
    size_t shared = kernel.static_shared_bytes + dynamic_shared;
    if (shared)
        blocks = static_cast<int>(
            std::min<size_t>(static_cast<size_t>(blocks), kSharedPerMultiprocessor / shared));
    return shared > kSharedPerBlockOptin ? 0 : blocks;
}

}  // namespace

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction handle, int threads,
                                                              size_t shared, unsigned flags) {
    return api([&] {
        require(blocks && threads > 0 && (flags & ~unsigned{CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE}) == 0);
        *blocks = blocks_per_multiprocessor(*function(handle, current())->kernel, threads, shared);
    });
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction f, int threads, size_t shared) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, f, threads, shared, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* grid, int* block, CUfunction handle,
                                                   CUoccupancyB2DSize shared_of, size_t shared, int limit,
                                                   unsigned flags) {
    return api([&] {
        require(grid && block && limit >= 0 &&
                (flags & ~unsigned{CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE}) == 0);
        auto f = function(handle, current());
        int most = std::min(kMaxThreadsPerBlock, static_cast<int>(f->kernel->max_threads));
        if (limit) most = std::min(most, limit);
        int best = 0, best_threads = 0, best_blocks = 0;
        for (int threads = round_up(most, kWarp); threads > 0; threads -= kWarp) {
            int used = std::min(threads, most);
            int blocks = blocks_per_multiprocessor(*f->kernel, used, shared_of ? shared_of(used) : shared);
            if (blocks * used > best) best = blocks * used, best_threads = used, best_blocks = blocks;
        }
        *block = best_threads;
        *grid = best_blocks * kMultiprocessors;
    });
}

CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction f, CUoccupancyB2DSize shared_of,
                                          size_t shared, int limit) {
    return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, f, shared_of, shared, limit, 0);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* size, CUfunction handle, int blocks, int threads) {
    return api([&] {
        require(size && blocks > 0 && threads > 0 && threads <= kMaxThreadsPerBlock);
        auto f = function(handle, current());
        require(blocks * round_up(threads, kWarp) <= kMaxThreadsPerMultiprocessor &&
                blocks <= kMaxBlocksPerMultiprocessor);
        size_t each = std::min(kSharedPerMultiprocessor / static_cast<size_t>(blocks), kSharedPerBlockOptin);
        *size = each > f->kernel->static_shared_bytes ? each - f->kernel->static_shared_bytes : 0;
    });
}
