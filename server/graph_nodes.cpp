// SPDX-License-Identifier: MIT
#include "graph_nodes.h"

#include <cstring>

#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr uint32_t most_operations = 256;  // CUDA's bound for batches of memory operations

template <class H>
bool to_driver(Call& call, HandleKind kind, H* handle) {
    return driver_handle(call.objects, kind, to_number(*handle), handle);
}

template <class H>
void from_driver(Call& call, HandleKind kind, H* handle) {
    if (*handle) *handle = from_number<H>(call.objects.add(kind, from_number<void*>(to_number(*handle))));
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

template <class T>
bool take_array(const rpc::Blob& data, uint64_t count, std::vector<T>* out) {
    if (count > rpc::max_blob_bytes / sizeof(T) || data.size != count * sizeof(T)) return false;
    out->resize(count);
    if (count) std::memcpy(static_cast<void*>(out->data()), data.data, data.size);
    return true;
}

CUresult layout_of(CUresult (*info)(Call&, void*, size_t, size_t*, size_t*), Call& call, void* handle,
                   std::vector<KernelParameter>* out) {
    out->clear();
    for (size_t index = 0;; ++index) {
        KernelParameter one{};
        const CUresult status = info(call, handle, index, &one.offset, &one.size);
        if (status == CUDA_ERROR_INVALID_VALUE) return CUDA_SUCCESS;  // past the last one
        if (status != CUDA_SUCCESS) return status;
        out->push_back(one);
    }
}

CUresult function_info(Call& call, void* handle, size_t index, size_t* offset, size_t* size) {
    if (!call.driver.cuFuncGetParamInfo) return CUDA_ERROR_NOT_SUPPORTED;
    return call.driver.cuFuncGetParamInfo(static_cast<CUfunction>(handle), index, offset, size);
}
CUresult kernel_info(Call& call, void* handle, size_t index, size_t* offset, size_t* size) {
    if (!call.driver.cuKernelGetParamInfo) return CUDA_ERROR_NOT_SUPPORTED;
    return call.driver.cuKernelGetParamInfo(static_cast<CUkernel>(handle), index, offset, size);
}

// A kernel node's parameters packed at their offsets.
CUresult pack(Call& call, const CUDA_KERNEL_NODE_PARAMS_v3& kernel, rpc::Blob* data) {
    if (kernel.kernelParams) {
        std::vector<KernelParameter> layout;
        const CUresult status = kernel.func ? kernel_parameters(call, kernel.func, &layout)
                                            : layout_of(kernel_info, call, kernel.kern, &layout);
        if (status != CUDA_SUCCESS) return status;
        size_t bytes = 0;
        for (const KernelParameter& one : layout) bytes = std::max(bytes, one.offset + one.size);
        std::vector<std::byte> packed(bytes);
        for (size_t i = 0; i < layout.size(); ++i)
            std::memcpy(packed.data() + layout[i].offset, kernel.kernelParams[i], layout[i].size);
        return give_bytes(data, packed.data(), bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    }
    const void* buffer = nullptr;
    size_t bytes = 0;
    for (void** at = kernel.extra; at && *at != CU_LAUNCH_PARAM_END; at += 2) {
        if (*at == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = at[1];
        if (*at == CU_LAUNCH_PARAM_BUFFER_SIZE) bytes = *static_cast<size_t*>(at[1]);
    }
    if (!buffer) return CUDA_SUCCESS;
    return give_bytes(data, buffer, bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace

CUresult kernel_parameters(Call& call, uint64_t number, std::vector<KernelParameter>* out) {
    const HandleKind kind = Objects::kind_of(number) == HandleKind::Kernel ? HandleKind::Kernel : HandleKind::Function;
    void* handle = call.objects.get(kind, number);
    if (!handle) return CUDA_ERROR_INVALID_HANDLE;
    return layout_of(kind == HandleKind::Kernel ? kernel_info : function_info, call, handle, out);
}

CUresult kernel_parameters(Call& call, CUfunction function, std::vector<KernelParameter>* out) {
    const CUresult status = layout_of(function_info, call, function, out);
    if (status == CUDA_SUCCESS || !call.objects.find(HandleKind::Kernel, function)) return status;
    return layout_of(kernel_info, call, function, out);
}

CUresult KernelParameters::unpack(Call& call, uint64_t function, const rpc::Blob& packed) {
    if (packed.size == 0) return CUDA_SUCCESS;
    bytes_.resize(packed.size / sizeof(std::max_align_t) + 1);
    auto* bytes = reinterpret_cast<std::byte*>(bytes_.data());
    std::memcpy(bytes, packed.data, packed.size);
    std::vector<KernelParameter> layout;
    bool known = kernel_parameters(call, function, &layout) == CUDA_SUCCESS;
    for (const KernelParameter& one : layout) known = known && one.offset + one.size <= packed.size;
    if (known && !layout.empty()) {
        for (const KernelParameter& one : layout) pointers_.push_back(bytes + one.offset);
        return CUDA_SUCCESS;
    }
    size_ = packed.size;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, bytes, CU_LAUNCH_PARAM_BUFFER_SIZE, &size_, CU_LAUNCH_PARAM_END};
    std::memcpy(extra_, extra, sizeof extra);
    return CUDA_SUCCESS;
}

bool attribute_to_driver(Call& call, CUlaunchAttributeID id, CUlaunchAttributeValue* value) {
    if (id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT) return to_driver(call, HandleKind::Event, &value->programmaticEvent.event);
    if (id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
        return to_driver(call, HandleKind::Event, &value->launchCompletionEvent.event);
    return true;
}

void attribute_from_driver(Call& call, CUlaunchAttributeID id, CUlaunchAttributeValue* value) {
    if (id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT) from_driver(call, HandleKind::Event, &value->programmaticEvent.event);
    if (id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
        from_driver(call, HandleKind::Event, &value->launchCompletionEvent.event);
}

CUresult NodeParams::decode(Call& call, const rpc::Blob& params, const rpc::Blob& data) {
    if (params.size != sizeof value) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(static_cast<void*>(&value), params.data, sizeof value);
    bool known = true;
    switch (value.type) {
        case CU_GRAPH_NODE_TYPE_KERNEL: {
            auto& kernel = value.kernel;
            const uint64_t number = to_number(kernel.func) ? to_number(kernel.func) : to_number(kernel.kern);
            known = function_to_driver(call, &kernel.func) && to_driver(call, HandleKind::Kernel, &kernel.kern) &&
                    to_driver(call, HandleKind::Context, &kernel.ctx);
            if (known && number) {
                if (const CUresult status = kernel_.unpack(call, number, data); status != CUDA_SUCCESS) return status;
                kernel.kernelParams = kernel_.pointers();
                kernel.extra = kernel_.extra();
            }
            break;
        }
        case CU_GRAPH_NODE_TYPE_MEMCPY: {
            auto& copy = value.memcpy.copyParams;
            known = to_driver(call, HandleKind::Context, &value.memcpy.copyCtx);
            if (copy.srcMemoryType == CU_MEMORYTYPE_ARRAY) known = known && to_driver(call, HandleKind::Array, &copy.srcArray);
            if (copy.dstMemoryType == CU_MEMORYTYPE_ARRAY) known = known && to_driver(call, HandleKind::Array, &copy.dstArray);
            break;
        }
        case CU_GRAPH_NODE_TYPE_MEMSET:
            known = to_driver(call, HandleKind::Context, &value.memset.ctx);
            break;
        case CU_GRAPH_NODE_TYPE_HOST: {
            const auto id = reinterpret_cast<uint64_t>(value.host.userData);
            value.host.fn = id ? Callbacks::host_function : nullptr;
            value.host.userData = id ? call.session.callbacks.context(id, Callbacks::Use::Repeated) : nullptr;
            break;
        }
        case CU_GRAPH_NODE_TYPE_GRAPH:
            known = to_driver(call, HandleKind::Graph, &value.graph.graph);
            break;
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            known = to_driver(call, HandleKind::Event, &value.eventWait.event);
            break;
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            known = to_driver(call, HandleKind::Event, &value.eventRecord.event);
            break;
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
            if (!take_array(data, value.alloc.accessDescCount, &access_)) return CUDA_ERROR_INVALID_VALUE;
            value.alloc.accessDescs = access_.empty() ? nullptr : access_.data();
            value.alloc.poolProps.win32SecurityAttributes = nullptr;
            break;
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
            if (value.memOp.count > most_operations || !take_array(data, value.memOp.count, &operations_))
                return CUDA_ERROR_INVALID_VALUE;
            value.memOp.paramArray = operations_.data();
            known = to_driver(call, HandleKind::Context, &value.memOp.ctx);
            break;
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
            value.conditional.phGraph_out = nullptr;
            known = to_driver(call, HandleKind::Context, &value.conditional.ctx);
            break;
        case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
        case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
            return CUDA_ERROR_NOT_SUPPORTED;
        default:
            break;
    }
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult driver_node_params(const DriverTable& driver, CUgraphNode node, CUgraphNodeType type, CUgraphNodeParams* out) {
    const auto get = [&](auto function, auto* params) { return function ? function(node, params) : CUDA_ERROR_NOT_SUPPORTED; };
    *out = {};
    out->type = type;
    switch (type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            return get(driver.cuGraphKernelNodeGetParams_v2, as_older<CUDA_KERNEL_NODE_PARAMS>(&out->kernel));
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            return get(driver.cuGraphMemcpyNodeGetParams, &out->memcpy.copyParams);
        case CU_GRAPH_NODE_TYPE_MEMSET:
            return get(driver.cuGraphMemsetNodeGetParams, as_older<CUDA_MEMSET_NODE_PARAMS>(&out->memset));
        case CU_GRAPH_NODE_TYPE_HOST:
            return get(driver.cuGraphHostNodeGetParams, as_older<CUDA_HOST_NODE_PARAMS>(&out->host));
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
            return get(driver.cuGraphBatchMemOpNodeGetParams, as_older<CUDA_BATCH_MEM_OP_NODE_PARAMS>(&out->memOp));
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
            return get(driver.cuGraphMemAllocNodeGetParams, as_older<CUDA_MEM_ALLOC_NODE_PARAMS>(&out->alloc));
        case CU_GRAPH_NODE_TYPE_GRAPH:
            return get(driver.cuGraphChildGraphNodeGetGraph, &out->graph.graph);
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            return get(driver.cuGraphEventRecordNodeGetEvent, &out->eventRecord.event);
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            return get(driver.cuGraphEventWaitNodeGetEvent, &out->eventWait.event);
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult encode_node_params(Call& call, CUgraphNode node, CUgraphNodeParams value, rpc::Blob* params, rpc::Blob* data) {
    const auto given = [&](const void* bytes, size_t size) {
        return give_bytes(data, bytes, size) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    };
    CUresult status = CUDA_SUCCESS;
    switch (value.type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            status = pack(call, value.kernel, data);
            function_from_driver(call, &value.kernel.func);
            from_driver(call, HandleKind::Kernel, &value.kernel.kern);
            context_from_driver(call, &value.kernel.ctx);
            value.kernel.kernelParams = nullptr;
            value.kernel.extra = nullptr;
            break;
        case CU_GRAPH_NODE_TYPE_MEMCPY: {
            auto& copy = value.memcpy.copyParams;
            context_from_driver(call, &value.memcpy.copyCtx);
            if (copy.srcMemoryType == CU_MEMORYTYPE_ARRAY) from_driver(call, HandleKind::Array, &copy.srcArray);
            if (copy.dstMemoryType == CU_MEMORYTYPE_ARRAY) from_driver(call, HandleKind::Array, &copy.dstArray);
            break;
        }
        case CU_GRAPH_NODE_TYPE_MEMSET:
            context_from_driver(call, &value.memset.ctx);
            break;
        case CU_GRAPH_NODE_TYPE_HOST:
            value.host.userData = reinterpret_cast<void*>(call.session.callbacks.id_of(value.host.userData));
            value.host.fn = nullptr;
            break;
        case CU_GRAPH_NODE_TYPE_GRAPH:
            from_driver(call, HandleKind::Graph, &value.graph.graph);
            call.session.graphs_in_nodes[node] = {to_number(value.graph.graph)};
            break;
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            from_driver(call, HandleKind::Event, &value.eventWait.event);
            break;
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            from_driver(call, HandleKind::Event, &value.eventRecord.event);
            break;
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
            status = given(value.alloc.accessDescs, value.alloc.accessDescs ? value.alloc.accessDescCount * sizeof(CUmemAccessDesc) : 0);
            value.alloc.accessDescs = nullptr;
            value.alloc.poolProps.win32SecurityAttributes = nullptr;
            break;
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
            status = given(value.memOp.paramArray, value.memOp.count * sizeof(CUstreamBatchMemOpParams));
            context_from_driver(call, &value.memOp.ctx);
            value.memOp.paramArray = nullptr;
            break;
        case CU_GRAPH_NODE_TYPE_CONDITIONAL: {
            std::vector<uint64_t> graphs;
            for (unsigned i = 0; value.conditional.phGraph_out && i < value.conditional.size; ++i)
                graphs.push_back(call.objects.add(HandleKind::Graph, value.conditional.phGraph_out[i]));
            call.session.graphs_in_nodes[node] = graphs;
            status = given(graphs.data(), graphs.size() * sizeof(uint64_t));
            context_from_driver(call, &value.conditional.ctx);
            value.conditional.phGraph_out = nullptr;
            break;
        }
        default:
            break;
    }
    if (status == CUDA_SUCCESS && !give_bytes(params, &value, sizeof value)) status = CUDA_ERROR_OUT_OF_MEMORY;
    return status;
}

void DroppedNumbers::node(CUgraphNode node) {
    if (const uint64_t number = call_.objects.find(HandleKind::GraphNode, node)) nodes_.push_back(number);
    auto inside = call_.session.graphs_in_nodes.find(node);
    if (inside == call_.session.graphs_in_nodes.end()) return;
    const std::vector<uint64_t> graphs = std::move(inside->second);
    call_.session.graphs_in_nodes.erase(inside);
    for (uint64_t number : graphs) {
        if (void* child = call_.objects.get(HandleKind::Graph, number)) graph(static_cast<CUgraph>(child));
        graphs_.push_back(number);
    }
}

void DroppedNumbers::graph(CUgraph graph) {
    if (!call_.objects.count(HandleKind::GraphNode) && call_.session.graphs_in_nodes.empty()) return;
    size_t count = 0;
    if (call_.driver.cuGraphGetNodes(graph, nullptr, &count) != CUDA_SUCCESS || count == 0) return;
    std::vector<CUgraphNode> nodes(count);
    if (call_.driver.cuGraphGetNodes(graph, nodes.data(), &count) != CUDA_SUCCESS) return;
    nodes.resize(std::min(count, nodes.size()));
    for (CUgraphNode one : nodes) node(one);
}

void DroppedNumbers::drop() {
    for (uint64_t number : nodes_) call_.objects.remove(HandleKind::GraphNode, number);
    // A graph that was moved into its parent was made as one of its own.
    for (uint64_t number : graphs_) call_.session.forget_object(number);
}

}  // namespace cricket::server
