// SPDX-License-Identifier: MIT
#include <cstdio>
#include <cstring>

#include "event.h"
#include "heap.h"
#include "memory.h"
#include "module.h"
#include "stream.h"

namespace softgpu {
namespace {

// A copy of the parameters, so that the caller may change them at once.
std::vector<std::byte> gather(const ptx::Kernel& kernel, void** params, void** extra) {
    require(!(params && extra));
    std::vector<std::byte> buffer(kernel.param_bytes);
    if (params) {
        for (size_t i = 0; i < kernel.params.size(); ++i) {
            require(params[i]);
            memcpy(buffer.data() + kernel.params[i].offset, params[i], kernel.params[i].size);
        }
    } else if (extra) {
        const void* data = nullptr;
        size_t size = 0;
        for (void** item = extra; *item != CU_LAUNCH_PARAM_END; item += 2) {
            if (*item == CU_LAUNCH_PARAM_BUFFER_POINTER)
                data = item[1];
            else if (*item == CU_LAUNCH_PARAM_BUFFER_SIZE)
                size = *static_cast<size_t*>(item[1]);
            else
                fail(CUDA_ERROR_INVALID_VALUE);
        }
        require((data || size == 0) && size >= buffer.size());
        if (!buffer.empty()) memcpy(buffer.data(), data, buffer.size());
    } else {
        require(buffer.empty());
    }
    return buffer;
}

void check_shape(const Function& f, const CUlaunchConfig& c) {
    require(c.gridDimX && c.gridDimY && c.gridDimZ && c.blockDimX && c.blockDimY && c.blockDimZ);
    require(c.gridDimX <= 0x7fffffff && c.gridDimY <= 65535 && c.gridDimZ <= 65535);
    require(c.blockDimX <= 1024 && c.blockDimY <= 1024 && c.blockDimZ <= 64);
    uint64_t threads = uint64_t{c.blockDimX} * c.blockDimY * c.blockDimZ;
    require(threads <= kMaxThreadsPerBlock);
    require(threads <= f.kernel->max_threads, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    auto most = function_attribute(*f.kernel, *f.settings, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
    auto usual =
        std::max<size_t>(kSharedPerBlock, f.kernel->static_shared_bytes) - f.kernel->static_shared_bytes;
    require(c.sharedMemBytes <= std::max<size_t>(static_cast<size_t>(most), usual));
}

void print(std::string_view text) {
    fwrite(text.data(), 1, text.size(), stdout);
}

void launch(CUfunction handle, const CUlaunchConfig& config, void** params, void** extra,
            CUevent also_record) {
    auto on = stream(config.hStream);
    auto f = function(handle, on->context);
    require(f->module->context == on->context, CUDA_ERROR_INVALID_HANDLE);
    check_shape(*f, config);

    auto run = [f, config, context = on->context.get(), values = gather(*f->kernel, params, extra)] {
        MemoryInUse in_use;
        ptx::Launch launch;
        launch.grid = {config.gridDimX, config.gridDimY, config.gridDimZ};
        launch.block = {config.blockDimX, config.blockDimY, config.blockDimZ};
        launch.dynamic_shared_bytes = config.sharedMemBytes;
        launch.params = values;
        launch.heap_allocate = [=](size_t size) { return context->heap().allocate(size); };
        launch.heap_free = [=](void* address) { context->heap().release(address); };
        launch.cancel = &context->faulted;
        auto may_access = [=](uint64_t address, uint64_t size, bool write) -> ptx::AccessRange {
            auto range = memory_map().find(address);
            if (!range || size > range->end() - address ||
                !range->allows(context->device.ordinal, context->peers, write))
                return {};
            return {range->base, range->end()};
        };
        f->module->code->run(*f->kernel, launch, may_access, print);
        fflush(stdout);
    };
    auto done = on->submit(std::move(run));
    if (!also_record) return;
    auto event = events().get(also_record);
    std::unique_lock lock(event->mutex);
    event->recorded = std::move(done);
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuLaunchKernel(CUfunction f, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared, CUstream on, void** params,
                        void** extra) {
    return api([&] {
        current();
        launch(f, {grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, on, nullptr, 0}, params, extra,
               nullptr);
    });
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction f, void** params, void** extra) {
    return api([&] {
        require(config && (config->attrs || config->numAttrs == 0));
        current();
        CUevent record = nullptr;
        for (unsigned i = 0; i < config->numAttrs; ++i) {
            auto& value = config->attrs[i].value;
            switch (config->attrs[i].id) {
                // Hints, and orders that running one kernel after the other keeps anyway.
                case CU_LAUNCH_ATTRIBUTE_IGNORE:
                case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
                case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
                case CU_LAUNCH_ATTRIBUTE_PRIORITY:
                case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
                case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
                case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
                case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
                case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
                    break;
                case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
                    require(!value.cooperative, CUDA_ERROR_NOT_SUPPORTED);
                    break;
                case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
                    require(value.clusterDim.x <= 1 && value.clusterDim.y <= 1 && value.clusterDim.z <= 1,
                            CUDA_ERROR_NOT_SUPPORTED);
                    break;
                case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
                    record = value.programmaticEvent.event;
                    break;
                case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
                    record = value.launchCompletionEvent.event;
                    break;
                default:
                    fail(CUDA_ERROR_NOT_SUPPORTED);
            }
        }
        if (record) events().get(record);
        launch(f, *config, params, extra, record);
    });
}
