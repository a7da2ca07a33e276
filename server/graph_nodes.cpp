// SPDX-License-Identifier: MIT
#include "graph_nodes.h"

#include <algorithm>
#include <cstring>

#include "dispatch.h"
#include "graph_node_kinds.h"
#include "session.h"

namespace cricket::server {

CUresult NodeParams::decode(Call& call, const rpc::Blob& params, const rpc::Blob& data) {
    if (params.size != sizeof value) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(static_cast<void*>(&value), params.data, sizeof value);
    const NodeKind& kind = node_kind(value.type);
    return kind.decode ? kind.decode(call, *this, data) : CUDA_SUCCESS;
}

CUresult driver_node_params(const DriverTable& driver, CUgraphNode node, CUgraphNodeType type, CUgraphNodeParams* out) {
    *out = {};
    out->type = type;
    const NodeKind& kind = node_kind(type);
    return kind.get ? kind.get(driver, node, out) : CUDA_ERROR_INVALID_VALUE;
}

CUresult encode_node_params(Call& call, CUgraphNode node, CUgraphNodeParams value, rpc::Blob* params, rpc::Blob* data) {
    const NodeKind& kind = node_kind(value.type);
    const CUresult status = kind.encode ? kind.encode(call, node, value, data) : CUDA_SUCCESS;
    if (status != CUDA_SUCCESS) return status;
    return give_bytes(params, &value, sizeof value) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult list_nodes(const DriverTable& driver, CUgraph graph, std::vector<CUgraphNode>* out) {
    size_t count = 0;
    out->clear();
    if (const CUresult status = driver.cuGraphGetNodes(graph, nullptr, &count); status != CUDA_SUCCESS || count == 0) return status;
    out->resize(count);
    const CUresult status = driver.cuGraphGetNodes(graph, out->data(), &count);
    out->resize(status == CUDA_SUCCESS ? std::min(count, out->size()) : 0);
    return status;
}

std::vector<CUgraph> graphs_inside(Session& session, CUgraphNode node) {
    CUgraphNodeType type{};
    CUgraph child = nullptr;
    if (session.driver.cuGraphNodeGetType(node, &type) != CUDA_SUCCESS) return {};
    if (type == CU_GRAPH_NODE_TYPE_GRAPH && session.driver.cuGraphChildGraphNodeGetGraph(node, &child) == CUDA_SUCCESS && child) return {child};
    const auto known = session.conditional_nodes.find(node);
    return type == CU_GRAPH_NODE_TYPE_CONDITIONAL && known != session.conditional_nodes.end() ? known->second.bodies : std::vector<CUgraph>{};
}

void visit_nodes(Session& session, CUgraph graph, const NodeVisit& visit) {
    std::vector<CUgraphNode> nodes;
    list_nodes(session.driver, graph, &nodes);
    for (CUgraphNode node : nodes) {
        const std::vector<CUgraph> inside = graphs_inside(session, node);
        visit(node, inside);
        for (CUgraph one : inside) visit_nodes(session, one, visit);
    }
}

void DroppedNumbers::node(CUgraphNode node) {
    if (const uint64_t number = call_.objects.find(HandleKind::GraphNode, node)) nodes_.push_back(number);
    const auto inside = call_.session.graphs_in_nodes.find(node);
    if (inside == call_.session.graphs_in_nodes.end()) return;
    with_graphs_.push_back(node);
    for (uint64_t number : inside->second) {
        if (void* child = call_.objects.get(HandleKind::Graph, number)) graph(static_cast<CUgraph>(child));
        graphs_.push_back(number);
    }
}

void DroppedNumbers::graph(CUgraph graph) {
    if (!call_.objects.count(HandleKind::GraphNode) && call_.session.graphs_in_nodes.empty()) return;
    std::vector<CUgraphNode> nodes;
    list_nodes(call_.driver, graph, &nodes);
    for (CUgraphNode one : nodes) node(one);
}

void DroppedNumbers::drop() {
    for (CUgraphNode node : with_graphs_) {
        call_.session.graphs_in_nodes.erase(node);
        call_.session.conditional_nodes.erase(node);
    }
    for (uint64_t number : graphs_) call_.session.conditional_handles.erase(number);
    for (uint64_t number : nodes_) call_.objects.remove(HandleKind::GraphNode, number);
    // A graph that was moved into its parent was made as one of its own.
    for (uint64_t number : graphs_) call_.session.forget_object(number);
}

}  // namespace cricket::server
