// SPDX-License-Identifier: MIT
// Graphs whose calls are more than handles there and back. Nodes' parameters: graph_nodes.h.
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "cricket/unique_fd.h"
#include "dispatch.h"
#include "graph_node_kinds.h"
#include "graph_nodes.h"
#include "session.h"

namespace cricket::server {
namespace {

bool nodes_of(Call& call, const rpc::Blob& numbers, uint64_t count, std::vector<CUgraphNode>* out) {
    if (!numbers.present) return true;
    if (count > rpc::max_blob_bytes / sizeof(uint64_t) || numbers.size != count * sizeof(uint64_t)) return false;
    out->resize(count);
    for (size_t i = 0; i < count; ++i) {
        uint64_t number = 0;
        std::memcpy(&number, static_cast<const std::byte*>(numbers.data) + i * sizeof number, sizeof number);
        if (!driver_handle(call.objects, HandleKind::GraphNode, number, &(*out)[i])) return false;
    }
    return true;
}

bool node_of(Call& call, uint64_t number, CUgraphNode* out) {
    return driver_handle(call.objects, HandleKind::GraphNode, number, out);
}

uint64_t number_of(Call& call, CUgraphNode node) { return node ? call.objects.add(HandleKind::GraphNode, node) : 0; }

}  // namespace

void serve_cuGraphDestroy(Call& call, const cuGraphDestroy_args& args, cuGraphDestroy_res& res) {
    CUgraph graph = nullptr;
    if (!call.driver.cuGraphDestroy || !driver_handle(call.objects, HandleKind::Graph, args.hGraph, &graph)) {
        res.status = call.driver.cuGraphDestroy ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    DroppedNumbers dropped(call);
    if (graph) dropped.graph(graph);
    res.status = call.session.graph_history.destroy(call, graph);
    if (res.status != CUDA_SUCCESS) return;
    dropped.drop();
    call.objects.remove(HandleKind::Graph, args.hGraph);
}

void serve_cuGraphDestroyNode(Call& call, const cuGraphDestroyNode_args& args, cuGraphDestroyNode_res& res) {
    CUgraphNode node = nullptr;
    if (!call.driver.cuGraphDestroyNode || !node_of(call, args.hNode, &node)) {
        res.status = call.driver.cuGraphDestroyNode ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    DroppedNumbers dropped(call);
    if (node) dropped.node(node);
    res.status = call.driver.cuGraphDestroyNode(node);
    if (res.status == CUDA_SUCCESS) dropped.drop();
}

void serve_cuGraphChildGraphNodeGetGraph(Call& call, const cuGraphChildGraphNodeGetGraph_args& args,
                                         cuGraphChildGraphNodeGetGraph_res& res) {
    CUgraphNode node = nullptr;
    CUgraph graph = nullptr;
    if (!node_of(call, args.hNode, &node)) res.status = CUDA_ERROR_INVALID_VALUE;
    else res.status = if_supported(call.driver.cuGraphChildGraphNodeGetGraph, node, &graph);
    if (res.status != CUDA_SUCCESS || !graph) return;
    res.phGraph = call.objects.add(HandleKind::Graph, graph);
    call.session.graphs_in_nodes[node] = {res.phGraph};
}

void serve_cuGraphAddNode_v2(Call& call, const cuGraphAddNode_v2_args& args, cuGraphAddNode_v2_res& res) {
    NewNode at;
    NodeParams params;
    at.count = args.numDependencies;
    const size_t edges = args.dependencyData.size / sizeof(CUgraphEdgeData);
    if (!driver_handle(call.objects, HandleKind::Graph, args.hGraph, &at.graph) ||
        !nodes_of(call, args.dependencies, args.numDependencies, &at.dependencies) ||
        (args.dependencyData.present && args.dependencyData.size != args.numDependencies * sizeof(CUgraphEdgeData))) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    at.edges.resize(edges);
    if (edges) std::memcpy(at.edges.data(), args.dependencyData.data, args.dependencyData.size);
    res.status = params.decode(call, args.params, args.data);
    if (res.status != CUDA_SUCCESS) return;
    const NodeKind& kind = node_kind(params.value.type);
    if (args.legacy)
        res.status = kind.add ? kind.add(call.driver, &at, params.value) : CUDA_ERROR_INVALID_VALUE;
    else
        res.status = if_supported(call.driver.cuGraphAddNode_v2, &at.node, at.graph,
                              at.dependencies.empty() ? nullptr : at.dependencies.data(), edges ? at.edges.data() : nullptr,
                              at.count, &params.value);
    if (res.status != CUDA_SUCCESS || !at.node) return;
    res.phGraphNode = number_of(call, at.node);
    if (params.value.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) call.session.graph_memory.note(params.value.alloc.dptr);
    // What creation tells: an allocation's address, the graphs inside a conditional node.
    const CUgraphNodeType type = params.value.type;
    if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || type == CU_GRAPH_NODE_TYPE_CONDITIONAL)
        res.status = encode_node_params(call, at.node, params.value, &res.params, &res.data);
    else if (type == CU_GRAPH_NODE_TYPE_GRAPH && params.value.graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE && !args.legacy)
        call.session.graphs_in_nodes[at.node] = {call.objects.add(HandleKind::Graph, params.value.graph.graph)};
}

void serve_cuGraphNodeSetParams(Call& call, const cuGraphNodeSetParams_args& args, cuGraphNodeSetParams_res& res) {
    CUgraphNode node = nullptr;
    NodeParams params;
    res.status = node_of(call, args.hNode, &node) ? params.decode(call, args.params, args.data) : CUDA_ERROR_INVALID_VALUE;
    if (res.status != CUDA_SUCCESS) return;
    const auto set = node_kind(params.value.type).set;
    if (!args.legacy) res.status = if_supported(call.driver.cuGraphNodeSetParams, node, &params.value);
    else res.status = set ? set(call.driver, node, params.value) : CUDA_ERROR_INVALID_VALUE;
}

void serve_cuGraphExecNodeSetParams(Call& call, const cuGraphExecNodeSetParams_args& args, cuGraphExecNodeSetParams_res& res) {
    CUgraphExec exec = nullptr;
    CUgraphNode node = nullptr;
    NodeParams params;
    const bool known = driver_handle(call.objects, HandleKind::GraphExec, args.hGraphExec, &exec) && node_of(call, args.hNode, &node);
    res.status = known ? params.decode(call, args.params, args.data) : CUDA_ERROR_INVALID_VALUE;
    if (res.status != CUDA_SUCCESS) return;
    const auto set = node_kind(params.value.type).set_exec;
    if (!args.legacy) res.status = if_supported(call.driver.cuGraphExecNodeSetParams, exec, node, &params.value);
    else res.status = set ? set(call.driver, exec, node, params.value) : CUDA_ERROR_INVALID_VALUE;
}

void serve_cricketGraphExecHandle(Call& call, const cricketGraphExecHandle_args& args, cricketGraphExecHandle_res& res) {
    CUgraphExec exec = nullptr;
    if (!driver_handle(call.objects, HandleKind::GraphExec, args.exec, &exec)) res.status = CUDA_ERROR_INVALID_VALUE;
    res.handle = to_number(exec);
}

void serve_cricketGraphNodeGetParams(Call& call, const cricketGraphNodeGetParams_args& args, cricketGraphNodeGetParams_res& res) {
    CUgraphNode node = nullptr;
    if (!node_of(call, args.node, &node)) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    CUgraphNodeParams p;
    res.status = driver_node_params(call.driver, node, static_cast<CUgraphNodeType>(args.type), &p);
    if (res.status == CUDA_SUCCESS) res.status = encode_node_params(call, node, p, &res.params, &res.data);
}

void serve_cricketGraphNodesAlive(Call& call, const cricketGraphNodesAlive_args& args, cricketGraphNodesAlive_res& res) {
    std::vector<uint8_t> alive(args.nodes.size / sizeof(uint64_t));
    for (size_t i = 0; i < alive.size(); ++i) {
        uint64_t number = 0;
        std::memcpy(&number, static_cast<const std::byte*>(args.nodes.data) + i * sizeof number, sizeof number);
        alive[i] = call.objects.get(HandleKind::GraphNode, number) != nullptr;
    }
    if (!give_bytes(&res.alive, alive.data(), alive.size())) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

void serve_cuGraphKernelNodeGetAttribute(Call& call, const cuGraphKernelNodeGetAttribute_args& args,
                                         cuGraphKernelNodeGetAttribute_res& res) {
    CUgraphNode node = nullptr;
    CUlaunchAttributeValue value{};
    const auto id = static_cast<CUlaunchAttributeID>(args.attr);
    if (!node_of(call, args.hNode, &node)) res.status = CUDA_ERROR_INVALID_VALUE;
    else res.status = if_supported(call.driver.cuGraphKernelNodeGetAttribute, node, id, &value);
    if (res.status != CUDA_SUCCESS) return;
    attribute_from_driver(call, id, &value);
    res.value_out = value;
}

void serve_cuGraphKernelNodeSetAttribute(Call& call, const cuGraphKernelNodeSetAttribute_args& args,
                                         cuGraphKernelNodeSetAttribute_res& res) {
    CUgraphNode node = nullptr;
    CUlaunchAttributeValue value = args.value;
    const auto id = static_cast<CUlaunchAttributeID>(args.attr);
    if (!node_of(call, args.hNode, &node)) res.status = CUDA_ERROR_INVALID_VALUE;
    else if (!attribute_to_driver(call, id, &value)) res.status = CUDA_ERROR_INVALID_HANDLE;
    else res.status = if_supported(call.driver.cuGraphKernelNodeSetAttribute, node, id, &std::as_const(value));
}

// The driver writes into a file of ours, whose content the application's side puts where it was asked to, piece by piece.
void serve_cuGraphDebugDotPrint(Call& call, const cuGraphDebugDotPrint_args& args, cuGraphDebugDotPrint_res& res) {
    std::vector<char>& text = call.session.graph_text;
    if (args.offset == 0) {
        CUgraph graph = nullptr;
        const UniqueFd file(::memfd_create("cricket-graph-dot", MFD_CLOEXEC));
        if (!driver_handle(call.objects, HandleKind::Graph, args.hGraph, &graph)) res.status = CUDA_ERROR_INVALID_VALUE;
        else if (!file) res.status = CUDA_ERROR_OUT_OF_MEMORY;
        else
            res.status = if_supported(call.driver.cuGraphDebugDotPrint, graph,
                             ("/proc/self/fd/" + std::to_string(file.get())).c_str(), args.flags);
        struct stat info {};
        if (res.status != CUDA_SUCCESS) return;
        if (::fstat(file.get(), &info) != 0) info.st_size = 0;
        text.resize(static_cast<size_t>(info.st_size));
        if (::pread(file.get(), text.data(), text.size(), 0) != info.st_size) text.clear();
    }
    res.total = text.size();
    const uint64_t offset = std::min<uint64_t>(args.offset, text.size());
    const uint64_t piece = std::min<uint64_t>(args.room, text.size() - offset);
    if (!give_bytes(&res.text, text.data() + offset, piece)) res.status = CUDA_ERROR_OUT_OF_MEMORY;
    if (offset + piece == text.size()) std::vector<char>().swap(text);
}

}  // namespace cricket::server
