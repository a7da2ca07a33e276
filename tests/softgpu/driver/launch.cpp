// SPDX-License-Identifier: MIT
#include <cstdio>
#include <cstring>

#include "capture.h"
#include "event.h"
#include "green.h"
#include "heap.h"
#include "memory.h"
#include "texture.h"

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

// Blocks of a cooperative launch wait for each other, so all must have a place at once.
void check_cooperative(const KernelStep& step) {
    auto threads = static_cast<int>(step.block.x * step.block.y * step.block.z);
    uint64_t blocks = uint64_t{step.grid.x} * step.grid.y * step.grid.z;
    auto places =
        static_cast<uint64_t>(blocks_per_multiprocessor(*step.function->kernel, threads, step.shared)) *
        static_cast<uint64_t>(multiprocessors());
    require(blocks <= places, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
}

// What is to be recorded when the kernel has ended, or has started; null when nothing.
CUevent check_attributes(const std::map<CUlaunchAttributeID, CUlaunchAttributeValue>& attributes) {
    CUevent record = nullptr;
    for (auto& [id, value] : attributes) {
        switch (id) {
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
            case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
                break;
            case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
            case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
                require(value.clusterDim.x <= 1 && value.clusterDim.y <= 1 && value.clusterDim.z <= 1,
                        CUDA_ERROR_NOT_SUPPORTED);
                break;
            case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
                require(!value.deviceUpdatableKernelNode.deviceUpdatable, CUDA_ERROR_NOT_SUPPORTED);
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
    return record;
}

void launch(CUfunction handle, const CUlaunchConfig& config, void** params, void** extra) {
    auto on = stream(config.hStream);
    auto step = kernel_step(handle, config, params, extra, on->context);
    require(step.function->module->context == on->context, CUDA_ERROR_INVALID_HANDLE);
    auto also_record = check_attributes(step.attributes);
    auto event = also_record ? events().get(also_record) : nullptr;
    if (captured(on, step)) {
        if (event) captured_record(on, *event, also_record, 0);
        return;
    }
    auto done = on->submit(action(step, on->multiprocessors));
    if (!event) return;
    captured_record(on, *event, also_record, 0);
    std::unique_lock lock(event->mutex);
    event->recorded = std::move(done);
}

}  // namespace

bool KernelStep::cooperative() const {
    auto found = attributes.find(CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
    return found != attributes.end() && found->second.cooperative;
}

KernelStep kernel_step(CUfunction handle, const CUlaunchConfig& config, void** params, void** extra,
                       const std::shared_ptr<Context>& context) {
    KernelStep step;
    step.function = function(handle, context);
    step.handle = step.function->handle;
    if (kernels().find(reinterpret_cast<CUkernel>(handle))) step.kernel = reinterpret_cast<CUkernel>(handle);
    check_shape(*step.function, config);
    step.grid = {config.gridDimX, config.gridDimY, config.gridDimZ};
    step.block = {config.blockDimX, config.blockDimY, config.blockDimZ};
    step.shared = config.sharedMemBytes;
    step.values = gather(*step.function->kernel, params, extra);
    for (unsigned i = 0; i < config.numAttrs; ++i)
        step.attributes[config.attrs[i].id] = config.attrs[i].value;
    check_attributes(step.attributes);
    if (step.cooperative()) check_cooperative(step);
    return step;
}

Action action(const KernelStep& step, uint64_t on, std::shared_ptr<const Conditions> conditions) {
    return [step, where = on ? on : all_multiprocessors(), conditions = std::move(conditions)] {
        MemoryInUse in_use;
        auto context = step.function->module->context.get();
        ptx::Launch launch;
        launch.grid = step.grid;
        launch.block = step.block;
        launch.dynamic_shared_bytes = step.shared;
        launch.multiprocessors = where;
        launch.multiprocessor_ids = static_cast<uint32_t>(multiprocessors());
        launch.cooperative = step.cooperative();
        launch.params = step.values;
        launch.heap_allocate = [=](size_t size) { return context->heap().allocate(size); };
        launch.heap_free = [=](void* address) { context->heap().release(address); };
        if (conditions)
            launch.set_conditional = [=](uint64_t handle, unsigned value) {
                set_conditional(*conditions, handle, value);
            };
        launch.texture = texture_of;
        launch.complain = [=](std::string_view text) { context->output.complain(text); };
        launch.cancel = &context->faulted;
        auto may_access = [=](uint64_t address, uint64_t size, bool write) -> ptx::AccessRange {
            auto range = memory_map().find(address);
            if (!range || size > range->end() - address ||
                !range->allows(context->device.ordinal, context->peers, write))
                return {};
            return {range->base, range->end()};
        };
        auto print = [=](std::string_view text) { context->output.print(text); };
        step.function->module->code->run(*step.function->kernel, launch, may_access, print);
    };
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuLaunchKernel(CUfunction f, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared, CUstream on, void** params,
                        void** extra) {
    return api([&] {
        current();
        launch(f, {grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, on, nullptr, 0}, params, extra);
    });
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction f, void** params, void** extra) {
    return api([&] {
        require(config && (config->attrs || config->numAttrs == 0));
        current();
        launch(f, *config, params, extra);
    });
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                                   CUstream on, void** params) {
    return api([&] {
        current();
        CUlaunchAttribute attribute = {};
        attribute.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
        attribute.value.cooperative = 1;
        launch(f, {grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, on, &attribute, 1}, params,
               nullptr);
    });
}
