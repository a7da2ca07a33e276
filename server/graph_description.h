// SPDX-License-Identifier: MIT
// A graph as a value: what the driver says about its nodes and edges, with handles as session numbers. However the graph
// came to be (captured, built, cloned, changed since), one like it can be made of that, now or after a restore.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <utility>
#include <vector>

#include "call.h"
#include "graph_building.h"
#include "graph_memory.h"
#include "graph_places.h"

namespace cricket::server {

struct GraphDescription;

struct NodeDescription {
    CUgraphNode node = nullptr;   // the driver's when it was described: tells nodes apart, is never used
    uint64_t number = 0;          // the application's; 0: it was never told
    CUgraphNodeType type{};
    uint64_t context = 0;         // current when the node is made again
    std::vector<std::byte> params, data;  // as messages have them (graph_nodes.h)
    std::vector<std::pair<uint32_t, CUlaunchAttributeValue>> attributes;  // of kernels
    struct Edge {
        size_t from;              // index of a node
        CUgraphEdgeData data;
    };
    std::vector<Edge> before;     // in the order in which they were given: an update pairs nodes by it
    std::vector<std::shared_ptr<GraphDescription>> inside;  // its child graph, or the bodies of a conditional node
};

struct GraphDescription {
    uint64_t number = 0;
    uint64_t context = 0;
    std::vector<NodeDescription> nodes;  // in the driver's order
    std::vector<ConditionalHandle> handles;
};

// Both throw std::runtime_error with what cannot be described, by name. `context`: for nodes that do not tell theirs.
GraphDescription describe_graph(Call& call, CUgraph graph, uint64_t context);
// Without its edges.
NodeDescription describe_node(Call& call, CUgraphNode node, uint64_t context);
// Throws std::runtime_error when the description speaks of what is not there any more.
void check_description(Call& call, const GraphDescription& graph);

// Described nodes and the new ones, those of child graphs included.
using NodeMap = std::map<CUgraphNode, CUgraphNode>;
// A new graph; `nodes` is added to. `places` expects what it allocates. All of them stay until it is made.
GraphBuilding build_graph(Call& call, const GraphDescription& graph, NodeMap* nodes, GraphPlaces* places, CUgraph* built);
// What the graph and those in it allocate and free, by address, in the order in which it is built.
struct MemoryOfGraph {
    std::vector<GraphPlaces::Allocation> allocated;
    std::vector<CUdeviceptr> freed;
};
MemoryOfGraph memory_of(const GraphDescription& graph, GraphPlaces* expecting = nullptr);
// The graph and its nodes get the numbers that they had.
void give_numbers(Call& call, const GraphDescription& graph, CUgraph built, const NodeMap& nodes);

nlohmann::json to_json(const GraphDescription& graph);
GraphDescription graph_of_json(const nlohmann::json& json);
nlohmann::json bytes_json(const std::vector<std::byte>& bytes);
std::vector<std::byte> bytes_of_json(const nlohmann::json& json);

}  // namespace cricket::server
