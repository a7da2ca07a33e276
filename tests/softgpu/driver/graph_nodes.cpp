// SPDX-License-Identifier: MIT
// Adding nodes to graphs, and their parameters.
#include "context.h"
#include "event.h"
#include "graph.h"

using namespace softgpu;

namespace {

// Makes the step only when the rest of the call is right.
template <typename Make>
CUresult add(CUgraphNode* out, CUgraph handle, const CUgraphNode* list, const CUgraphEdgeData* data,
             size_t count, Make make) {
    return graph_api([&] {
        require(out);
        auto into = graph(handle);
        auto before = dependencies(*into, list, data, count);
        *out = into->add(make(*into), std::move(before))->handle;
    });
}

template <typename Make>
CUresult add(CUgraphNode* out, CUgraph handle, const CUgraphNode* list, size_t count, Make make) {
    return add(out, handle, list, nullptr, count, std::move(make));
}

CUDA_KERNEL_NODE_PARAMS widened(const CUDA_KERNEL_NODE_PARAMS_v1* p) {
    require(p);
    return {p->func,      p->gridDimX,       p->gridDimY,     p->gridDimZ, p->blockDimX, p->blockDimY,
            p->blockDimZ, p->sharedMemBytes, p->kernelParams, p->extra,    nullptr,      nullptr};
}

CUDA_KERNEL_NODE_PARAMS whole(const CUDA_KERNEL_NODE_PARAMS* p) {
    require(p);
    return *p;
}

ChildStep child_step(CUgraph handle, CUgraphChildGraphNodeOwnership ownership, const Graph& into) {
    auto child = graph(handle);
    require(child.get() != &into && !child->capturing);
    require(!child->has(CU_GRAPH_NODE_TYPE_CONDITIONAL));
    if (ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE) {
        require(!child->owner && child->executables == 0);
        return {child};
    }
    require(ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE && !child->has_memory_nodes());
    return {clone(*child, true)};
}

// An allocation can be freed once by graphs, in its own or in one other.
FreeStep free_step(CUdeviceptr pointer, Graph& into) {
    auto allocation = graph_allocation(pointer);
    require(allocation && !allocation->freed_by);
    allocation->freed_by = &into;
    return {pointer, allocation};
}

ConditionalStep conditional_step(CUDA_CONDITIONAL_NODE_PARAMS& p, const Graph& into) {
    require(p.type == CU_GRAPH_COND_TYPE_IF || p.type == CU_GRAPH_COND_TYPE_WHILE ||
            p.type == CU_GRAPH_COND_TYPE_SWITCH);
    require(p.size > 0 &&
            (p.type == CU_GRAPH_COND_TYPE_SWITCH || p.size <= (p.type == CU_GRAPH_COND_TYPE_IF ? 2u : 1u)));
    ConditionalStep step{nullptr, p.type, {}, context_or_current(p.ctx)->handle};
    // The handle may be of any graph that this one is inside of.
    for (auto of = &into; of; of = of->owner ? of->owner->graph : nullptr)
        for (auto& condition : of->conditionals)
            if (condition->handle == p.handle) step.condition = condition;
    require(step.condition != nullptr);
    for (unsigned i = 0; i < p.size; ++i) step.bodies.push_back(new_graph());
    return step;
}

template <typename T, typename Show>
CUresult show(CUgraphNode handle, Show put) {
    return graph_api([&] { put(step_of<T>(*node(handle))); });
}

template <typename T, typename Make>
CUresult set(CUgraphNode handle, Make make) {
    return graph_api([&] {
        auto of = node(handle);
        step_of<T>(*of);
        change(*of, make(), false);
    });
}

}  // namespace

CUresult cuGraphAddKernelNode_v2(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                                 const CUDA_KERNEL_NODE_PARAMS* p) {
    return add(out, graph, list, count, [&](auto&) { return kernel_step(whole(p)); });
}
CUresult cuGraphAddKernelNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                              const CUDA_KERNEL_NODE_PARAMS_v1* p) {
    return add(out, graph, list, count, [&](auto&) { return kernel_step(widened(p)); });
}
CUresult cuGraphAddMemcpyNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                              const CUDA_MEMCPY3D* p, CUcontext context) {
    return add(out, graph, list, count, [&](auto&) { return memcpy_step(p, context); });
}
CUresult cuGraphAddMemsetNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                              const CUDA_MEMSET_NODE_PARAMS* p, CUcontext context) {
    return add(out, graph, list, count, [&](auto&) { return memset_step(p, context); });
}
CUresult cuGraphAddHostNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                            const CUDA_HOST_NODE_PARAMS* p) {
    return add(out, graph, list, count, [&](auto&) {
        require(p && p->fn);
        return HostStep{p->fn, p->userData};
    });
}
CUresult cuGraphAddEmptyNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count) {
    return add(out, graph, list, count, [&](auto&) { return EmptyStep{}; });
}
CUresult cuGraphAddEventRecordNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                                   CUevent event) {
    return add(out, graph, list, count, [&](auto&) { return record_step(event); });
}
CUresult cuGraphAddEventWaitNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                                 CUevent event) {
    return add(out, graph, list, count, [&](auto&) { return wait_step(event); });
}
CUresult cuGraphAddBatchMemOpNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                                  const CUDA_BATCH_MEM_OP_NODE_PARAMS* p) {
    return add(out, graph, list, count, [&](auto&) { return mem_ops_step(p); });
}
CUresult cuGraphAddMemAllocNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                                CUDA_MEM_ALLOC_NODE_PARAMS* p) {
    return add(out, graph, list, count, [&](auto& into) {
        require(p && !into.owner);
        return alloc_step(*p, into, dependencies(into, list, nullptr, count));
    });
}
CUresult cuGraphAddMemFreeNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                               CUdeviceptr pointer) {
    return add(out, graph, list, count, [&](auto& into) {
        require(!into.owner);
        return free_step(pointer, into);
    });
}
CUresult cuGraphAddChildGraphNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                                  CUgraph child) {
    return add(out, graph, list, count,
               [&](auto& into) { return child_step(child, CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE, into); });
}

CUresult cuGraphAddNode_v2(CUgraphNode* out, CUgraph handle, const CUgraphNode* list,
                           const CUgraphEdgeData* data, size_t count, CUgraphNodeParams* p) {
    auto result = add(out, handle, list, data, count, [&](auto& into) -> Step {
        require(p);
        switch (p->type) {
            case CU_GRAPH_NODE_TYPE_GRAPH:
                return child_step(p->graph.graph, p->graph.ownership, into);
            case CU_GRAPH_NODE_TYPE_MEM_ALLOC: {
                require(!into.owner);
                CUDA_MEM_ALLOC_NODE_PARAMS plain = {};
                plain.poolProps = p->alloc.poolProps;
                plain.accessDescs = p->alloc.accessDescs;
                plain.accessDescCount = p->alloc.accessDescCount;
                plain.bytesize = p->alloc.bytesize;
                auto step = alloc_step(plain, into, dependencies(into, list, data, count));
                p->alloc.dptr = plain.dptr;
                return step;
            }
            case CU_GRAPH_NODE_TYPE_MEM_FREE:
                require(!into.owner);
                return free_step(p->free.dptr, into);
            case CU_GRAPH_NODE_TYPE_CONDITIONAL:
                return conditional_step(p->conditional, into);
            default:
                return step_of_params(*p);
        }
    });
    if (result != CUDA_SUCCESS) return result;
    return graph_api([&] {
        auto made = node(*out);
        if (auto child = std::get_if<ChildStep>(&made->step)) {
            child->graph->owner = made.get();
            p->graph.graph = child->graph->handle;
        }
        if (auto conditional = std::get_if<ConditionalStep>(&made->step)) {
            for (auto& body : conditional->bodies) made->shown_params.push_back(body->handle);
            p->conditional.phGraph_out = reinterpret_cast<CUgraph*>(made->shown_params.data());
        }
    });
}

CUresult cuGraphAddNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* list, size_t count,
                        CUgraphNodeParams* p) {
    return cuGraphAddNode_v2(out, graph, list, nullptr, count, p);
}

CUresult cuGraphNodeSetParams(CUgraphNode handle, CUgraphNodeParams* p) {
    return graph_api([&] {
        require(p);
        change(*node(handle), step_of_params(*p), false);
    });
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode handle, CUDA_KERNEL_NODE_PARAMS* p) {
    return graph_api([&] {
        require(p);
        *p = shown(*node(handle));
    });
}
CUresult cuGraphKernelNodeGetParams(CUgraphNode handle, CUDA_KERNEL_NODE_PARAMS_v1* p) {
    return graph_api([&] {
        require(p);
        auto all = shown(*node(handle));
        *p = {all.func,      all.gridDimX,  all.gridDimY,       all.gridDimZ,     all.blockDimX,
              all.blockDimY, all.blockDimZ, all.sharedMemBytes, all.kernelParams, all.extra};
    });
}
CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode handle, const CUDA_KERNEL_NODE_PARAMS* p) {
    return set<KernelStep>(handle, [&] { return kernel_step(whole(p)); });
}
CUresult cuGraphKernelNodeSetParams(CUgraphNode handle, const CUDA_KERNEL_NODE_PARAMS_v1* p) {
    return set<KernelStep>(handle, [&] { return kernel_step(widened(p)); });
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode handle, CUDA_MEMCPY3D* p) {
    return show<MemcpyStep>(handle, [&](auto& step) {
        require(p);
        *p = step.params;
    });
}
CUresult cuGraphMemcpyNodeSetParams(CUgraphNode handle, const CUDA_MEMCPY3D* p) {
    return graph_api([&] {
        auto of = node(handle);
        change(*of, memcpy_step(p, step_of<MemcpyStep>(*of).context), false);
    });
}

CUresult cuGraphMemsetNodeGetParams(CUgraphNode handle, CUDA_MEMSET_NODE_PARAMS* p) {
    return show<MemsetStep>(handle, [&](auto& step) {
        require(p);
        auto& all = step.params;
        *p = {all.dst, all.pitch, all.value, all.elementSize, all.width, all.height};
    });
}
CUresult cuGraphMemsetNodeSetParams(CUgraphNode handle, const CUDA_MEMSET_NODE_PARAMS* p) {
    return graph_api([&] {
        auto of = node(handle);
        change(*of, memset_step(p, step_of<MemsetStep>(*of).params.ctx), false);
    });
}

CUresult cuGraphHostNodeGetParams(CUgraphNode handle, CUDA_HOST_NODE_PARAMS* p) {
    return show<HostStep>(handle, [&](auto& step) {
        require(p);
        *p = {step.function, step.data};
    });
}
CUresult cuGraphHostNodeSetParams(CUgraphNode handle, const CUDA_HOST_NODE_PARAMS* p) {
    return set<HostStep>(handle, [&] {
        require(p && p->fn);
        return HostStep{p->fn, p->userData};
    });
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode handle, CUgraph* out) {
    return show<ChildStep>(handle, [&](auto& step) {
        require(out);
        *out = step.graph->handle;
    });
}

CUresult cuGraphEventRecordNodeGetEvent(CUgraphNode handle, CUevent* out) {
    return show<EventRecordStep>(handle, [&](auto& step) {
        require(out);
        *out = step.handle;
    });
}
CUresult cuGraphEventRecordNodeSetEvent(CUgraphNode handle, CUevent event) {
    return set<EventRecordStep>(handle, [&] { return record_step(event); });
}
CUresult cuGraphEventWaitNodeGetEvent(CUgraphNode handle, CUevent* out) {
    return show<EventWaitStep>(handle, [&](auto& step) {
        require(out);
        *out = step.handle;
    });
}
CUresult cuGraphEventWaitNodeSetEvent(CUgraphNode handle, CUevent event) {
    return set<EventWaitStep>(handle, [&] { return wait_step(event); });
}

CUresult cuGraphBatchMemOpNodeGetParams(CUgraphNode handle, CUDA_BATCH_MEM_OP_NODE_PARAMS* p) {
    return show<MemOpsStep>(handle, [&](auto& step) {
        require(p);
        *p = {step.context, static_cast<unsigned>(step.list.size()), step.list.data(), step.flags};
    });
}
CUresult cuGraphBatchMemOpNodeSetParams(CUgraphNode handle, const CUDA_BATCH_MEM_OP_NODE_PARAMS* p) {
    return set<MemOpsStep>(handle, [&] { return mem_ops_step(p); });
}

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode handle, CUDA_MEM_ALLOC_NODE_PARAMS* p) {
    return show<AllocStep>(handle, [&](auto& step) {
        require(p);
        static_assert(sizeof *p == sizeof step.params);
        p->poolProps = step.params.poolProps;
        p->accessDescs = step.access.empty() ? nullptr : step.access.data();
        p->accessDescCount = step.access.size();
        p->bytesize = step.params.bytesize;
        p->dptr = step.params.dptr;
    });
}
CUresult cuGraphMemFreeNodeGetParams(CUgraphNode handle, CUdeviceptr* out) {
    return show<FreeStep>(handle, [&](auto& step) {
        require(out);
        *out = step.pointer;
    });
}

namespace {

bool is_node_attribute(CUkernelNodeAttrID which) {
    switch (which) {
        case CU_KERNEL_NODE_ATTRIBUTE_ACCESS_POLICY_WINDOW:
        case CU_KERNEL_NODE_ATTRIBUTE_COOPERATIVE:
        case CU_KERNEL_NODE_ATTRIBUTE_CLUSTER_DIMENSION:
        case CU_KERNEL_NODE_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
        case CU_KERNEL_NODE_ATTRIBUTE_PRIORITY:
        case CU_KERNEL_NODE_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
        case CU_KERNEL_NODE_ATTRIBUTE_MEM_SYNC_DOMAIN:
        case CU_KERNEL_NODE_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            return true;
        default:
            return false;
    }
}

}  // namespace

CUresult cuGraphKernelNodeGetAttribute(CUgraphNode handle, CUkernelNodeAttrID which,
                                       CUkernelNodeAttrValue* value) {
    return show<KernelStep>(handle, [&](auto& step) {
        require(value && is_node_attribute(which));
        auto found = step.attributes.find(which);
        *value = found == step.attributes.end() ? CUkernelNodeAttrValue{} : found->second;
    });
}

CUresult cuGraphKernelNodeSetAttribute(CUgraphNode handle, CUkernelNodeAttrID which,
                                       const CUkernelNodeAttrValue* value) {
    return show<KernelStep>(handle, [&](auto& step) {
        require(value && is_node_attribute(which));
        if (which == CU_KERNEL_NODE_ATTRIBUTE_CLUSTER_DIMENSION)
            require(value->clusterDim.x <= 1 && value->clusterDim.y <= 1 && value->clusterDim.z <= 1,
                    CUDA_ERROR_NOT_SUPPORTED);
        step.attributes[which] = *value;
    });
}

CUresult cuGraphKernelNodeCopyAttributes(CUgraphNode to, CUgraphNode from) {
    return graph_api([&] {
        auto attributes = step_of<KernelStep>(*node(from)).attributes;
        step_of<KernelStep>(*node(to)).attributes = std::move(attributes);
    });
}

CUresult cuGraphConditionalHandleCreate(CUgraphConditionalHandle* out, CUgraph handle, CUcontext context,
                                        unsigned default_value, unsigned flags) {
    return graph_api([&] {
        require(out && (flags & ~unsigned{CU_GRAPH_COND_ASSIGN_DEFAULT}) == 0);
        context_or_current(context);
        *out = add_conditional(*graph(handle), default_value, flags == CU_GRAPH_COND_ASSIGN_DEFAULT);
    });
}
