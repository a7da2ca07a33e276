// SPDX-License-Identifier: MIT
// Parameters of graph nodes between messages and the driver (client/graph_nodes.h has the other end): CUgraphNodeParams as
// it is, with handles as session numbers, and beside it what its pointers lead to. And which nodes a graph has.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernel_parameters.h"

namespace cricket::server {

// One node's parameters for a call of the driver. `value` points into this object.
class NodeParams {
  public:
    NodeParams() = default;
    NodeParams(const NodeParams&) = delete;
    CUresult decode(Call& call, const rpc::Blob& params, const rpc::Blob& data);

    CUgraphNodeParams value{};
    // What it points at.
    KernelParameters kernel;
    std::vector<CUstreamBatchMemOpParams> operations;
    std::vector<CUmemAccessDesc> access;
};

// Kept parameters as a message has them; valid as long as `bytes`.
inline rpc::Blob blob_of(const std::vector<std::byte>& bytes) {
    return {bytes.data(), static_cast<uint32_t>(bytes.size()), true, false};
}

// Calls a function of the driver that it may not have.
template <class Function, class... Params>
CUresult if_supported(Function function, Params... params) {
    return function ? function(params...) : CUDA_ERROR_NOT_SUPPORTED;
}

// Asks the driver about a node of a kind that has parameters it tells; pointers in them are valid as long as the node.
CUresult driver_node_params(const DriverTable& driver, CUgraphNode node, CUgraphNodeType type, CUgraphNodeParams* out);

// What the driver says about a node, as a message. `node` owns graphs that appear in it.
CUresult encode_node_params(Call& call, CUgraphNode node, CUgraphNodeParams value, rpc::Blob* params, rpc::Blob* data);

// The nodes of a graph, in the driver's order; without those of graphs inside it. Empty unless CUDA_SUCCESS.
CUresult list_nodes(const DriverTable& driver, CUgraph graph, std::vector<CUgraphNode>* out);
// The graph inside a child graph node, the bodies of a conditional one.
std::vector<CUgraph> graphs_inside(Session& session, CUgraphNode node);
// visit(node, graphs_inside(node)) for each node of the graph, and behind it for those inside. What the driver does not tell is
// left out.
using NodeVisit = std::function<void(CUgraphNode node, const std::vector<CUgraph>& inside)>;
void visit_nodes(Session& session, CUgraph graph, const NodeVisit& visit);

// Numbers of the nodes of a graph, of graphs inside it and of their nodes are dropped. Before the driver destroys it, since
// it is asked which they are.
class DroppedNumbers {
  public:
    explicit DroppedNumbers(Call& call) : call_(call) {}
    void graph(CUgraph graph);  // without its own number
    void node(CUgraphNode node);
    void drop();                // when the driver has destroyed them

  private:
    Call& call_;
    std::vector<uint64_t> graphs_, nodes_;
    std::vector<CUgraphNode> with_graphs_;
};

}  // namespace cricket::server
