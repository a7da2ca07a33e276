// SPDX-License-Identifier: MIT
#include "graph_node_kinds.h"

#include <cstring>
#include <string>

#include "checkpoint_parts.h"
#include "dispatch.h"
#include "graph_nodes.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr uint32_t most_operations = 256;  // CUDA's bound for batches of memory operations
constexpr size_t most_lines = 65536;       // of host memory that one node is known to write to

// The structs of the functions before cuGraphAddNode begin like their newer versions.
template <class Old, class New>
Old* as_older(New* params) {
    static_assert(sizeof(Old) <= sizeof(New));
    return reinterpret_cast<Old*>(params);
}

template <class Function, class... Params>
CUresult add_node(Function function, NewNode* at, Params... params) {
    return if_supported(function, &at->node, at->graph, at->dependencies.empty() ? nullptr : at->dependencies.data(), at->count,
                    params...);
}

CUresult known(bool all) { return all ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }

template <class H>
bool to_driver(Call& call, HandleKind kind, H* handle) {
    return driver_handle(call.objects, kind, to_number(*handle), handle);
}

template <class H>
void from_driver(Call& call, HandleKind kind, H* handle) {
    if (*handle) *handle = from_number<H>(call.objects.add(kind, *handle));
}

// The driver's contexts are known, or none of the application's.
void context_from_driver(Call& call, CUcontext* context) {
    *context = from_number<CUcontext>(*context ? call.objects.find(HandleKind::Context, *context) : 0);
}

bool function_to_driver(Call& call, CUfunction* function) {
    const uint64_t number = to_number(*function);
    if (!driver_function(call, number, function)) return false;
    call.session.device_heaps.before_launch(call, number);
    return true;
}

// The driver may know a kernel by the CUkernel that the application gave as a function.
void function_from_driver(Call& call, CUfunction* function) {
    if (!*function) return;
    uint64_t number = call.objects.find(HandleKind::Function, *function);
    if (!number) number = call.objects.find(HandleKind::Kernel, *function);
    if (!number) number = call.session.loading.kernel_of(*function).kernel;
    if (!number) number = call.objects.add(HandleKind::Function, *function);
    *function = from_number<CUfunction>(number);
}

bool arrays_to_driver(Call& call, CUDA_MEMCPY3D* copy) {
    return (copy->srcMemoryType != CU_MEMORYTYPE_ARRAY || to_driver(call, HandleKind::Array, &copy->srcArray)) &&
           (copy->dstMemoryType != CU_MEMORYTYPE_ARRAY || to_driver(call, HandleKind::Array, &copy->dstArray));
}

template <class T>
bool take_array(const rpc::Blob& data, uint64_t count, std::vector<T>* out) {
    if (count > rpc::max_blob_bytes / sizeof(T) || data.size != count * sizeof(T)) return false;
    out->resize(count);
    if (count) std::memcpy(static_cast<void*>(out->data()), data.data, data.size);
    return true;
}

CUresult give_array(rpc::Blob* data, const void* array, size_t bytes) {
    return give_bytes(data, array, bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

// For check().
void require_known(Call& call, HandleKind kind, void* handle, const char* what) {
    if (!call.objects.find(kind, handle))
        fail_checkpoint(std::string("a graph has a node for ") + what + " that is gone, which cannot be restored");
}

uint64_t context_of_address(Call& call, CUdeviceptr address) {
    const DeviceAllocation* allocation = call.session.device_memory.find(address);
    return allocation && call.objects.get(HandleKind::Context, allocation->context) ? allocation->context : 0;
}

CUcontext context_handle(Call& call, uint64_t number) {
    return static_cast<CUcontext>(call.objects.get(HandleKind::Context, number));
}

void add_line(std::vector<HostRange>* lines, uint64_t address, uint64_t bytes) {
    if (bytes == 0 || wire::is_device_address(address)) return;
    if (!lines->empty() && lines->back().address + lines->back().bytes == address)
        lines->back().bytes += bytes;
    else if (lines->size() < most_lines)
        lines->push_back({address, bytes});
}

constexpr NodeKind kernel_kind{
    .type = CU_GRAPH_NODE_TYPE_KERNEL,
    .decode = [](Call& call, NodeParams& params, const rpc::Blob& data) {
        auto& kernel = params.value.kernel;
        const uint64_t number = to_number(kernel.func) ? to_number(kernel.func) : to_number(kernel.kern);
        if (!function_to_driver(call, &kernel.func) || !to_driver(call, HandleKind::Kernel, &kernel.kern) ||
            !to_driver(call, HandleKind::Context, &kernel.ctx))
            return CUDA_ERROR_INVALID_VALUE;
        if (!number) return CUDA_SUCCESS;
        params.kernel.unpack(call, number, data);
        kernel.kernelParams = params.kernel.pointers();
        kernel.extra = params.kernel.extra();
        return CUDA_SUCCESS;
    },
    .encode = [](Call& call, CUgraphNode, CUgraphNodeParams& value, rpc::Blob* data) {
        const CUresult status = pack_parameters(call, value.kernel, data);
        function_from_driver(call, &value.kernel.func);
        from_driver(call, HandleKind::Kernel, &value.kernel.kern);
        context_from_driver(call, &value.kernel.ctx);
        value.kernel.kernelParams = nullptr;
        value.kernel.extra = nullptr;
        return status;
    },
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphKernelNodeGetParams_v2, node, as_older<CUDA_KERNEL_NODE_PARAMS>(&out->kernel));
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddKernelNode_v2, at, as_older<const CUDA_KERNEL_NODE_PARAMS>(&params.kernel));
    },
    .set = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphKernelNodeSetParams_v2, node, as_older<const CUDA_KERNEL_NODE_PARAMS>(&params.kernel));
    },
    .set_exec = [](const DriverTable& driver, CUgraphExec exec, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphExecKernelNodeSetParams_v2, exec, node,
                        as_older<const CUDA_KERNEL_NODE_PARAMS>(&params.kernel));
    },
    .check = [](Call& call, CUgraphNodeParams& params, uint64_t* context) {
        const auto& kernel = params.kernel;
        uint64_t own = kernel.ctx ? call.objects.find(HandleKind::Context, kernel.ctx) : 0;
        if (kernel.func) {
            const auto of = call.session.loading.kernel_of(kernel.func);
            const uint64_t function = call.objects.find(HandleKind::Function, kernel.func);
            if (!function && !of.kernel && !call.objects.find(HandleKind::Kernel, kernel.func))
                fail_checkpoint("a graph has a node for a kernel that the session does not know, which cannot be restored");
            const Journal& journal = call.session.journal;
            const uint64_t owner = of.context ? of.context : function ? journal.owner(journal.owner(function)) : 0;
            if (owner && call.session.home(own) != owner) own = owner;
        } else {
            require_known(call, HandleKind::Kernel, kernel.kern, "a kernel");
        }
        if (context_handle(call, own)) *context = own;
    },
};

constexpr NodeKind memcpy_kind{
    .type = CU_GRAPH_NODE_TYPE_MEMCPY,
    .decode = [](Call& call, NodeParams& params, const rpc::Blob&) {
        return known(to_driver(call, HandleKind::Context, &params.value.memcpy.copyCtx) &&
                     arrays_to_driver(call, &params.value.memcpy.copyParams));
    },
    .encode = [](Call& call, CUgraphNode, CUgraphNodeParams& value, rpc::Blob*) {
        auto& copy = value.memcpy.copyParams;
        context_from_driver(call, &value.memcpy.copyCtx);
        if (copy.srcMemoryType == CU_MEMORYTYPE_ARRAY) from_driver(call, HandleKind::Array, &copy.srcArray);
        if (copy.dstMemoryType == CU_MEMORYTYPE_ARRAY) from_driver(call, HandleKind::Array, &copy.dstArray);
        return CUDA_SUCCESS;
    },
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphMemcpyNodeGetParams, node, &out->memcpy.copyParams);
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddMemcpyNode, at, &params.memcpy.copyParams, params.memcpy.copyCtx);
    },
    .set = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphMemcpyNodeSetParams, node, &params.memcpy.copyParams);
    },
    .set_exec = [](const DriverTable& driver, CUgraphExec exec, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphExecMemcpyNodeSetParams, exec, node, &params.memcpy.copyParams, params.memcpy.copyCtx);
    },
    .check = [](Call& call, CUgraphNodeParams& params, uint64_t* context) {
        const auto& copy = params.memcpy.copyParams;
        if (copy.srcMemoryType == CU_MEMORYTYPE_ARRAY) require_known(call, HandleKind::Array, copy.srcArray, "an array");
        if (copy.dstMemoryType == CU_MEMORYTYPE_ARRAY) require_known(call, HandleKind::Array, copy.dstArray, "an array");
        uint64_t own = context_of_address(call, copy.dstDevice);
        if (!own) own = context_of_address(call, copy.srcDevice);
        if (own) *context = own;
        params.memcpy.copyCtx = context_handle(call, *context);
    },
    .host_targets = [](const CUgraphNodeParams& params) {
        const auto& copy = params.memcpy.copyParams;
        std::vector<HostRange> lines;
        uint64_t base = 0;
        if (copy.dstMemoryType == CU_MEMORYTYPE_HOST) base = reinterpret_cast<uint64_t>(copy.dstHost);
        else if (copy.dstMemoryType == CU_MEMORYTYPE_UNIFIED || copy.dstMemoryType == CU_MEMORYTYPE_DEVICE) base = copy.dstDevice;
        if (!base || wire::is_device_address(base)) return lines;
        for (size_t z = 0; z < copy.Depth; ++z)
            for (size_t y = 0; y < copy.Height && lines.size() < most_lines; ++y)
                add_line(&lines, base + ((copy.dstZ + z) * copy.dstHeight + copy.dstY + y) * copy.dstPitch + copy.dstXInBytes,
                         copy.WidthInBytes);
        return lines;
    },
};

constexpr NodeKind memset_kind{
    .type = CU_GRAPH_NODE_TYPE_MEMSET,
    .decode = [](Call& call, NodeParams& params, const rpc::Blob&) {
        return known(to_driver(call, HandleKind::Context, &params.value.memset.ctx));
    },
    .encode = [](Call& call, CUgraphNode, CUgraphNodeParams& value, rpc::Blob*) {
        context_from_driver(call, &value.memset.ctx);
        return CUDA_SUCCESS;
    },
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphMemsetNodeGetParams, node, as_older<CUDA_MEMSET_NODE_PARAMS>(&out->memset));
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddMemsetNode, at, as_older<const CUDA_MEMSET_NODE_PARAMS>(&params.memset), params.memset.ctx);
    },
    .set = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphMemsetNodeSetParams, node, as_older<const CUDA_MEMSET_NODE_PARAMS>(&params.memset));
    },
    .set_exec = [](const DriverTable& driver, CUgraphExec exec, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphExecMemsetNodeSetParams, exec, node,
                        as_older<const CUDA_MEMSET_NODE_PARAMS>(&params.memset), params.memset.ctx);
    },
    .check = [](Call& call, CUgraphNodeParams& params, uint64_t* context) {
        if (const uint64_t own = context_of_address(call, params.memset.dst)) *context = own;
        params.memset.ctx = context_handle(call, *context);
    },
    .host_targets = [](const CUgraphNodeParams& params) {
        const auto& set = params.memset;
        std::vector<HostRange> lines;
        for (size_t y = 0; y < set.height && lines.size() < most_lines; ++y)
            add_line(&lines, set.dst + y * set.pitch, set.width * set.elementSize);
        return lines;
    },
};

constexpr NodeKind host_kind{
    .type = CU_GRAPH_NODE_TYPE_HOST,
    .decode = [](Call& call, NodeParams& params, const rpc::Blob&) {
        auto& host = params.value.host;
        const auto id = reinterpret_cast<uint64_t>(host.userData);
        host.fn = id ? Callbacks::host_function : nullptr;
        host.userData = id ? call.session.callbacks.context(id, Callbacks::Use::Repeated) : nullptr;
        return CUDA_SUCCESS;
    },
    .encode = [](Call& call, CUgraphNode, CUgraphNodeParams& value, rpc::Blob*) {
        value.host.userData = reinterpret_cast<void*>(call.session.callbacks.id_of(value.host.userData));
        value.host.fn = nullptr;
        return CUDA_SUCCESS;
    },
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphHostNodeGetParams, node, as_older<CUDA_HOST_NODE_PARAMS>(&out->host));
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddHostNode, at, as_older<const CUDA_HOST_NODE_PARAMS>(&params.host));
    },
    .set = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphHostNodeSetParams, node, as_older<const CUDA_HOST_NODE_PARAMS>(&params.host));
    },
    .set_exec = [](const DriverTable& driver, CUgraphExec exec, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphExecHostNodeSetParams, exec, node, as_older<const CUDA_HOST_NODE_PARAMS>(&params.host));
    },
    .check = [](Call& call, CUgraphNodeParams& params, uint64_t*) {
        if (params.host.fn != Callbacks::host_function || !call.session.callbacks.id_of(params.host.userData))
            fail_checkpoint("a graph has a host function that the session does not know, which cannot be restored");
    },
};

// A child graph is described by whoever describes the node (graph_description.cpp).
constexpr NodeKind child_graph_kind{
    .type = CU_GRAPH_NODE_TYPE_GRAPH,
    .decode = [](Call& call, NodeParams& params, const rpc::Blob&) {
        return known(to_driver(call, HandleKind::Graph, &params.value.graph.graph));
    },
    .encode = [](Call& call, CUgraphNode node, CUgraphNodeParams& value, rpc::Blob*) {
        from_driver(call, HandleKind::Graph, &value.graph.graph);
        call.session.graphs_in_nodes[node] = {to_number(value.graph.graph)};
        return CUDA_SUCCESS;
    },
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphChildGraphNodeGetGraph, node, &out->graph.graph);
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddChildGraphNode, at, params.graph.graph);
    },
};

constexpr NodeKind empty_kind{.type = CU_GRAPH_NODE_TYPE_EMPTY};

constexpr NodeKind wait_event_kind{
    .type = CU_GRAPH_NODE_TYPE_WAIT_EVENT,
    .decode = [](Call& call, NodeParams& params, const rpc::Blob&) {
        return known(to_driver(call, HandleKind::Event, &params.value.eventWait.event));
    },
    .encode = [](Call& call, CUgraphNode, CUgraphNodeParams& value, rpc::Blob*) {
        from_driver(call, HandleKind::Event, &value.eventWait.event);
        return CUDA_SUCCESS;
    },
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphEventWaitNodeGetEvent, node, &out->eventWait.event);
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddEventWaitNode, at, params.eventWait.event);
    },
    .check = [](Call& call, CUgraphNodeParams& params, uint64_t*) {
        require_known(call, HandleKind::Event, params.eventWait.event, "an event");
    },
};

constexpr NodeKind event_record_kind{
    .type = CU_GRAPH_NODE_TYPE_EVENT_RECORD,
    .decode = [](Call& call, NodeParams& params, const rpc::Blob&) {
        return known(to_driver(call, HandleKind::Event, &params.value.eventRecord.event));
    },
    .encode = [](Call& call, CUgraphNode, CUgraphNodeParams& value, rpc::Blob*) {
        from_driver(call, HandleKind::Event, &value.eventRecord.event);
        return CUDA_SUCCESS;
    },
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphEventRecordNodeGetEvent, node, &out->eventRecord.event);
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddEventRecordNode, at, params.eventRecord.event);
    },
    .check = [](Call& call, CUgraphNodeParams& params, uint64_t*) {
        require_known(call, HandleKind::Event, params.eventRecord.event, "an event");
    },
};

constexpr NodeKind semaphore_signal_kind{
    .type = CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL,
    .decode = [](Call&, NodeParams&, const rpc::Blob&) { return CUDA_ERROR_NOT_SUPPORTED; },
    .refusal = "uses an external semaphore",
};

constexpr NodeKind semaphore_wait_kind{
    .type = CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT,
    .decode = semaphore_signal_kind.decode,
    .refusal = semaphore_signal_kind.refusal,
};

constexpr NodeKind allocation_kind{
    .type = CU_GRAPH_NODE_TYPE_MEM_ALLOC,
    .decode = [](Call&, NodeParams& params, const rpc::Blob& data) {
        auto& alloc = params.value.alloc;
        if (!take_array(data, alloc.accessDescCount, &params.access)) return CUDA_ERROR_INVALID_VALUE;
        alloc.accessDescs = params.access.empty() ? nullptr : params.access.data();
        alloc.poolProps.win32SecurityAttributes = nullptr;
        return CUDA_SUCCESS;
    },
    .encode = [](Call&, CUgraphNode, CUgraphNodeParams& value, rpc::Blob* data) {
        auto& alloc = value.alloc;
        const CUresult status =
            give_array(data, alloc.accessDescs, alloc.accessDescs ? alloc.accessDescCount * sizeof(CUmemAccessDesc) : 0);
        alloc.accessDescs = nullptr;
        alloc.poolProps.win32SecurityAttributes = nullptr;
        return status;
    },
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphMemAllocNodeGetParams, node, as_older<CUDA_MEM_ALLOC_NODE_PARAMS>(&out->alloc));
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddMemAllocNode, at, as_older<CUDA_MEM_ALLOC_NODE_PARAMS>(&params.alloc));
    },
};

constexpr NodeKind free_kind{
    .type = CU_GRAPH_NODE_TYPE_MEM_FREE,
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphMemFreeNodeGetParams, node, &out->free.dptr);
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddMemFreeNode, at, params.free.dptr);
    },
};

constexpr NodeKind batch_mem_op_kind{
    .type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP,
    .decode = [](Call& call, NodeParams& params, const rpc::Blob& data) {
        auto& batch = params.value.memOp;
        if (batch.count > most_operations || !take_array(data, batch.count, &params.operations)) return CUDA_ERROR_INVALID_VALUE;
        batch.paramArray = params.operations.data();
        return known(to_driver(call, HandleKind::Context, &batch.ctx));
    },
    .encode = [](Call& call, CUgraphNode, CUgraphNodeParams& value, rpc::Blob* data) {
        auto& batch = value.memOp;
        const CUresult status = give_array(data, batch.paramArray, batch.count * sizeof(CUstreamBatchMemOpParams));
        context_from_driver(call, &batch.ctx);
        batch.paramArray = nullptr;
        return status;
    },
    .get = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) {
        return if_supported(driver.cuGraphBatchMemOpNodeGetParams, node, as_older<CUDA_BATCH_MEM_OP_NODE_PARAMS>(&out->memOp));
    },
    .add = [](const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) {
        return add_node(driver.cuGraphAddBatchMemOpNode, at, as_older<const CUDA_BATCH_MEM_OP_NODE_PARAMS>(&params.memOp));
    },
    .set = [](const DriverTable& driver, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphBatchMemOpNodeSetParams, node, as_older<const CUDA_BATCH_MEM_OP_NODE_PARAMS>(&params.memOp));
    },
    .set_exec = [](const DriverTable& driver, CUgraphExec exec, CUgraphNode node, CUgraphNodeParams& params) {
        return if_supported(driver.cuGraphExecBatchMemOpNodeSetParams, exec, node,
                        as_older<const CUDA_BATCH_MEM_OP_NODE_PARAMS>(&params.memOp));
    },
    .check = [](Call& call, CUgraphNodeParams& params, uint64_t* context) {
        if (const uint64_t own = call.objects.find(HandleKind::Context, params.memOp.ctx)) *context = own;
        params.memOp.ctx = context_handle(call, *context);
    },
};

constexpr NodeKind conditional_kind{
    .type = CU_GRAPH_NODE_TYPE_CONDITIONAL,
    .decode = [](Call& call, NodeParams& params, const rpc::Blob&) {
        params.value.conditional.phGraph_out = nullptr;
        return known(to_driver(call, HandleKind::Context, &params.value.conditional.ctx));
    },
    .encode = [](Call& call, CUgraphNode node, CUgraphNodeParams& value, rpc::Blob* data) {
        auto& conditional = value.conditional;
        std::vector<uint64_t> graphs;
        Session::ConditionalNode known;
        for (unsigned i = 0; conditional.phGraph_out && i < conditional.size; ++i) {
            known.bodies.push_back(conditional.phGraph_out[i]);
            graphs.push_back(call.objects.add(HandleKind::Graph, known.bodies.back()));
        }
        call.session.graphs_in_nodes[node] = graphs;
        const CUresult status = give_array(data, graphs.data(), graphs.size() * sizeof(uint64_t));
        context_from_driver(call, &conditional.ctx);
        conditional.phGraph_out = nullptr;
        known.params = value;
        call.session.conditional_nodes[node] = std::move(known);
        return status;
    },
    .recall = [](Call& call, CUgraphNode node, CUgraphNodeParams* out) {
        const auto known = call.session.conditional_nodes.find(node);
        if (known == call.session.conditional_nodes.end()) return false;
        *out = known->second.params;
        return true;
    },
};

constexpr NodeKind unknown_kind{.type = CUgraphNodeType{}, .refusal = "is of an unknown type"};

}  // namespace

const NodeKind& node_kind(CUgraphNodeType type) {
    static constexpr const NodeKind* kinds[] = {
        &kernel_kind,       &memcpy_kind,           &memset_kind,         &host_kind,       &child_graph_kind,
        &empty_kind,        &wait_event_kind,       &event_record_kind,   &semaphore_signal_kind, &semaphore_wait_kind,
        &allocation_kind,   &free_kind,             &batch_mem_op_kind,   &conditional_kind,
    };
    for (const NodeKind* kind : kinds)
        if (kind->type == type) return *kind;
    return unknown_kind;
}

}  // namespace cricket::server
