// SPDX-License-Identifier: MIT
// From the API's structures to steps and back, and which changes of a step are allowed.
#include "context.h"
#include "copy.h"
#include "event.h"
#include "graph.h"

namespace softgpu {
namespace {

CUcontext context_handle(CUcontext handle) {
    return context_or_current(handle)->handle;
}

CUDA_KERNEL_NODE_PARAMS plain(const CUDA_KERNEL_NODE_PARAMS_v3& p) {
    return {p.func,      p.gridDimX,       p.gridDimY,     p.gridDimZ, p.blockDimX, p.blockDimY,
            p.blockDimZ, p.sharedMemBytes, p.kernelParams, p.extra,    p.kern,      p.ctx};
}

}  // namespace

KernelStep kernel_step(const CUDA_KERNEL_NODE_PARAMS& p) {
    require(p.func || p.kern);
    CUlaunchConfig config = {p.gridDimX,  p.gridDimY,       p.gridDimZ, p.blockDimX, p.blockDimY,
                             p.blockDimZ, p.sharedMemBytes, nullptr,    nullptr,     0};
    auto context = context_or_current(p.func ? nullptr : p.ctx);
    return kernel_step(p.func ? p.func : reinterpret_cast<CUfunction>(p.kern), config, p.kernelParams,
                       p.extra, context);
}

MemcpyStep memcpy_step(const CUDA_MEMCPY3D* params, CUcontext context) {
    require(params);
    MemcpyStep step{*params, context_handle(context)};
    check_copy(step.params);
    return step;
}

MemsetStep memset_step(const CUDA_MEMSET_NODE_PARAMS* p, CUcontext context) {
    require(p);
    MemsetStep step{
        {p->dst, p->pitch, p->value, p->elementSize, p->width, p->height, context_handle(context)}};
    check_fill(step.params);
    return step;
}

EventRecordStep record_step(CUevent event) {
    return {event, events().get(event, CUDA_ERROR_INVALID_VALUE)};
}

EventWaitStep wait_step(CUevent event) {
    return {event, events().get(event, CUDA_ERROR_INVALID_VALUE)};
}

MemOpsStep mem_ops_step(const CUDA_BATCH_MEM_OP_NODE_PARAMS* p) {
    require(p && p->paramArray && p->count && p->count <= 256 && p->flags == 0);
    MemOpsStep step{context_handle(p->ctx), {p->paramArray, p->paramArray + p->count}, p->flags};
    action(step);  // for what it refuses
    return step;
}

CUDA_KERNEL_NODE_PARAMS shown(Node& node) {
    auto& step = step_of<KernelStep>(node);
    auto& kernel = *step.function->kernel;
    node.shown_params.clear();
    for (auto& param : kernel.params) node.shown_params.push_back(step.values.data() + param.offset);
    CUDA_KERNEL_NODE_PARAMS p = {};
    p.func = step.handle;
    p.gridDimX = step.grid.x, p.gridDimY = step.grid.y, p.gridDimZ = step.grid.z;
    p.blockDimX = step.block.x, p.blockDimY = step.block.y, p.blockDimZ = step.block.z;
    p.sharedMemBytes = step.shared;
    p.kernelParams = node.shown_params.empty() ? nullptr : node.shown_params.data();
    p.kern = step.kernel;
    p.ctx = step.function->module->context->handle;
    return p;
}

Step step_of_params(CUgraphNodeParams& p) {
    switch (p.type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            return kernel_step(plain(p.kernel));
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            require(p.memcpy.flags == 0 && p.memcpy.reserved == 0);
            return memcpy_step(&p.memcpy.copyParams, p.memcpy.copyCtx);
        case CU_GRAPH_NODE_TYPE_MEMSET: {
            CUDA_MEMSET_NODE_PARAMS plain = {p.memset.dst,         p.memset.pitch, p.memset.value,
                                             p.memset.elementSize, p.memset.width, p.memset.height};
            return memset_step(&plain, p.memset.ctx);
        }
        case CU_GRAPH_NODE_TYPE_HOST:
            require(p.host.fn);
            return HostStep{p.host.fn, p.host.userData};
        case CU_GRAPH_NODE_TYPE_EMPTY:
            return EmptyStep{};
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            return wait_step(p.eventWait.event);
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            return record_step(p.eventRecord.event);
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
            return FreeStep{p.free.dptr, graph_allocation(p.free.dptr)};
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP: {
            CUDA_BATCH_MEM_OP_NODE_PARAMS plain = {p.memOp.ctx, p.memOp.count, p.memOp.paramArray,
                                                   p.memOp.flags};
            return mem_ops_step(&plain);
        }
        case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
        case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
            fail(CUDA_ERROR_NOT_SUPPORTED);
        default:  // child graphs, allocations and conditionals need the graph they come into
            fail(CUDA_ERROR_INVALID_VALUE);
    }
}

CUgraphExecUpdateResult may_change(const Step& now, const Step& next) {
    if (now.index() != next.index()) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
    if (auto kernel = std::get_if<KernelStep>(&now)) {
        auto& other = std::get<KernelStep>(next);
        if (kernel->function->module->context != other.function->module->context)
            return CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE;
        if (kernel->cooperative() != other.cooperative())
            return CU_GRAPH_EXEC_UPDATE_ERROR_ATTRIBUTES_CHANGED;
    } else if (auto copy = std::get_if<MemcpyStep>(&now)) {
        auto &before = copy->params, &after = std::get<MemcpyStep>(next).params;
        if (before.srcMemoryType != after.srcMemoryType || before.dstMemoryType != after.dstMemoryType ||
            copy->context != std::get<MemcpyStep>(next).context)
            return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
    } else if (auto set = std::get_if<MemsetStep>(&now)) {
        auto &before = set->params, &after = std::get<MemsetStep>(next).params;
        bool flat = before.height <= 1 && after.height <= 1;
        if (before.ctx != after.ctx ||
            (!flat && (before.width != after.width || before.height != after.height ||
                       before.elementSize != after.elementSize)))
            return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
    } else if (auto alloc = std::get_if<AllocStep>(&now)) {
        if (alloc->allocation != std::get<AllocStep>(next).allocation)
            return CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED;
    } else if (auto free = std::get_if<FreeStep>(&now)) {
        if (free->pointer != std::get<FreeStep>(next).pointer)
            return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
    } else if (auto conditional = std::get_if<ConditionalStep>(&now)) {
        auto& other = std::get<ConditionalStep>(next);
        if (conditional->type != other.type || conditional->bodies.size() != other.bodies.size())
            return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
    }
    return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

void change(Node& node, Step step, bool executable) {
    require(node.step.index() == step.index());
    if (executable) require(may_change(node.step, step) == CU_GRAPH_EXEC_UPDATE_SUCCESS);
    // A launch's attributes are the node's own, set by functions of their own.
    if (auto kernel = std::get_if<KernelStep>(&node.step))
        std::get<KernelStep>(step).attributes = kernel->attributes;
    // What it frees is still the same where others have had the place since.
    auto free = std::get_if<FreeStep>(&node.step);
    if (free && free->pointer == std::get<FreeStep>(step).pointer) return;
    node.step = std::move(step);
}

}  // namespace softgpu
