// SPDX-License-Identifier: MIT
// The kinds of graph nodes: whatever the server does otherwise for one kind than for another stands in that kind's entry in
// graph_node_kinds.cpp (the client's half: client/graph_nodes.cpp). What an entry does not name, the kind does not need or have.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "call.h"
#include "host_memory.h"

namespace cricket::server {

class NodeParams;

// A node that is being added, and where.
struct NewNode {
    CUgraph graph = nullptr;
    std::vector<CUgraphNode> dependencies;
    std::vector<CUgraphEdgeData> edges;
    size_t count = 0;  // of dependencies, as the application gave it: where there is no list of them, too
    CUgraphNode node = nullptr;  // once added
};

struct NodeKind {
    CUgraphNodeType type;

    // Parameters as messages have them for the driver and back (graph_nodes.h): numbers and handles are exchanged in place,
    // and `data` is what pointers lead to. encode() may note graphs that belong to the node (Session::graphs_in_nodes).
    CUresult (*decode)(Call& call, NodeParams& params, const rpc::Blob& data) = nullptr;
    CUresult (*encode)(Call& call, CUgraphNode node, CUgraphNodeParams& value, rpc::Blob* data) = nullptr;

    // The driver's functions for this kind alone, as they were before cuGraphAddNode. get() is the only way to ask; pointers in
    // what it tells are valid as long as the node.
    CUresult (*get)(const DriverTable& driver, CUgraphNode node, CUgraphNodeParams* out) = nullptr;
    CUresult (*add)(const DriverTable& driver, NewNode* at, CUgraphNodeParams& params) = nullptr;
    CUresult (*set)(const DriverTable& driver, CUgraphNode node, CUgraphNodeParams& params) = nullptr;
    CUresult (*set_exec)(const DriverTable& driver, CUgraphExec exec, CUgraphNode node, CUgraphNodeParams& params) = nullptr;

    // What the driver does not tell of a node, as encode() left it when the node was made; false when it is not known.
    bool (*recall)(Call& call, CUgraphNode node, CUgraphNodeParams* out) = nullptr;

    // Why no snapshot can hold such a node: "a node of a graph <refusal>". Null: it can.
    const char* refusal = nullptr;
    // Before what get() told becomes a description: throws std::runtime_error naming what the session does not know, and
    // changes `context` to the one that the node is to be made again in, where the parameters tell it.
    void (*check)(Call& call, CUgraphNodeParams& params, uint64_t* context) = nullptr;
    // The host memory that the node writes to, as lines; none for device memory.
    std::vector<HostRange> (*host_targets)(const CUgraphNodeParams& params) = nullptr;
};

// Of a type that is not known: parameters cross as they are, and the driver says what it thinks of them.
const NodeKind& node_kind(CUgraphNodeType type);

}  // namespace cricket::server
