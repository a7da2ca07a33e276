// SPDX-License-Identifier: MIT
#include "graph_description.h"

#include <algorithm>
#include <cstring>
#include <queue>
#include <string>

#include "checkpoint_parts.h"
#include "dispatch.h"
#include "graph_node_kinds.h"
#include "graph_nodes.h"
#include "log.h"
#include "session.h"

namespace cricket::server {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::string& what) { fail_checkpoint(what); }

void require(Call& call, CUresult status, const char* what) {
    if (status != CUDA_SUCCESS) fail(std::string("a graph cannot be described: ") + what + ": " + result_name(call.driver, status));
}
void require_built(Call& call, CUresult status, const std::string& what) {
    if (status != CUDA_SUCCESS) fail("making a graph again: " + what + ": " + result_name(call.driver, status));
}

// Those that nodes can have. The rest of CUlaunchAttributeID is of launches and streams.
constexpr CUlaunchAttributeID node_attributes[] = {
    CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW,
    CU_LAUNCH_ATTRIBUTE_COOPERATIVE,
    CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
    CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE,
    CU_LAUNCH_ATTRIBUTE_PRIORITY,
    CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP,
    CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN,
    CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION,
    CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
    CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING,
};

std::vector<std::byte> take(rpc::Blob& blob) {
    const auto* from = static_cast<const std::byte*>(blob.data);
    std::vector<std::byte> bytes(from, from + blob.size);
    if (blob.owned) std::free(const_cast<void*>(blob.data));
    blob = {};
    return bytes;
}

CUcontext context_handle(Call& call, uint64_t number) {
    return static_cast<CUcontext>(call.objects.get(HandleKind::Context, number));
}

std::vector<std::pair<uint32_t, CUlaunchAttributeValue>> attributes_of(Call& call, CUgraphNode node) {
    std::vector<std::pair<uint32_t, CUlaunchAttributeValue>> list;
    if (!call.driver.cuGraphKernelNodeGetAttribute) return list;
    CUlaunchAttributeValue value{};
    if (call.driver.cuGraphKernelNodeGetAttribute(node, CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE, &value) == CUDA_SUCCESS &&
        value.deviceUpdatableKernelNode.deviceUpdatable)
        fail("a graph has a node that kernels update, whose handle lies in device memory and cannot be restored");
    for (const CUlaunchAttributeID id : node_attributes) {
        std::memset(&value, 0, sizeof value);
        if (call.driver.cuGraphKernelNodeGetAttribute(node, id, &value) == CUDA_SUCCESS) list.push_back({id, value});
    }
    return list;
}

std::vector<CUgraphNode> nodes_of(Call& call, CUgraph graph) {
    std::vector<CUgraphNode> nodes;
    require(call, list_nodes(call.driver, graph, &nodes), "cuGraphGetNodes");
    return nodes;
}

std::vector<NodeDescription::Edge> edges_of(Call& call, CUgraphNode node, const std::map<CUgraphNode, size_t>& index) {
    size_t count = 0;
    const DriverTable& driver = call.driver;
    const auto get = [&](CUgraphNode* nodes, CUgraphEdgeData* data) {
        return driver.cuGraphNodeGetDependencies_v2 ? driver.cuGraphNodeGetDependencies_v2(node, nodes, data, &count)
                                                    : driver.cuGraphNodeGetDependencies_v1(node, nodes, &count);
    };
    require(call, get(nullptr, nullptr), "cuGraphNodeGetDependencies");
    std::vector<CUgraphNode> nodes(count);
    std::vector<CUgraphEdgeData> data(count);
    if (count) require(call, get(nodes.data(), data.data()), "cuGraphNodeGetDependencies");
    std::vector<NodeDescription::Edge> edges;
    for (size_t i = 0; i < count; ++i) edges.push_back({index.at(nodes[i]), data[i]});
    return edges;
}

// Indices of the nodes, each behind those it depends on, else in the driver's order.
std::vector<size_t> order_of(const GraphDescription& graph) {
    std::vector<std::vector<size_t>> after(graph.nodes.size());
    std::vector<size_t> open(graph.nodes.size());
    std::priority_queue<size_t, std::vector<size_t>, std::greater<>> ready;
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
        open[i] = graph.nodes[i].before.size();
        if (!open[i]) ready.push(i);
        for (const auto& edge : graph.nodes[i].before) after.at(edge.from).push_back(i);
    }
    std::vector<size_t> order;
    while (!ready.empty()) {
        const size_t one = ready.top();
        ready.pop();
        order.push_back(one);
        for (size_t next : after[one])
            if (--open[next] == 0) ready.push(next);
    }
    if (order.size() != graph.nodes.size()) fail("a graph has a cycle, which cannot be restored");
    return order;
}

void set_attributes(Call& call, const NodeDescription& one, CUgraphNode node) {
    for (const auto& [id, value] : one.attributes) {
        const auto which = static_cast<CUlaunchAttributeID>(id);
        CUlaunchAttributeValue now{};
        const bool same = call.driver.cuGraphKernelNodeGetAttribute(node, which, &now) == CUDA_SUCCESS &&
                          std::memcmp(&now, &value, sizeof now) == 0;
        if (same) continue;
        const CUresult status = call.driver.cuGraphKernelNodeSetAttribute(node, which, &value);
        // Without these the kernel would be another one; the rest are hints.
        if (which == CU_LAUNCH_ATTRIBUTE_COOPERATIVE || which == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
            require_built(call, status, "attribute " + std::to_string(id) + " of a kernel");
        else if (status != CUDA_SUCCESS)
            log_warn("attribute %u of a graph's kernel cannot be set again: %s", id, result_name(call.driver, status).c_str());
    }
}

// The driver cloned `made` into its node: which of the clone's nodes are which.
void map_clone(Call& call, const GraphDescription& graph, const NodeMap& made, CUgraph clone, NodeMap* nodes) {
    const std::vector<CUgraphNode> clones = nodes_of(call, clone);
    if (clones.size() != graph.nodes.size()) fail("making a graph again: the driver's copy of a child graph has other nodes");
    for (size_t i = 0; i < clones.size(); ++i) {
        const NodeDescription& one = graph.nodes[i];
        CUgraphNode found = nullptr;
        if (call.driver.cuGraphNodeFindInClone(&found, made.at(one.node), clone) != CUDA_SUCCESS || !found) found = clones[i];
        CUgraphNodeType type{};
        require_built(call, call.driver.cuGraphNodeGetType(found, &type), "cuGraphNodeGetType");
        if (type != one.type) fail("making a graph again: the driver's copy of a child graph has another order");
        (*nodes)[one.node] = found;
        if (one.inside.empty()) continue;
        CUgraph inner = nullptr;
        require_built(call, call.driver.cuGraphChildGraphNodeGetGraph(found, &inner), "cuGraphChildGraphNodeGetGraph");
        map_clone(call, *one.inside.front(), made, inner, nodes);
    }
}

CUgraphNodeParams params_of(const NodeDescription& one) {
    CUgraphNodeParams params{};
    if (one.params.size() != sizeof params) fail("the snapshot's graphs are of another version");
    std::memcpy(static_cast<void*>(&params), one.params.data(), sizeof params);
    return params;
}

// Graphs that only executables need have no number.
uint64_t key_of_unnumbered(CUgraph graph) { return uint64_t(1) << 63 | to_number(graph); }

// A graph with memory that is moved into another takes more addresses (seen on an H200), so that is left until the end.
constexpr CUdeviceptr after_extents = ~CUdeviceptr(0);

void use_context_of(Call& call, uint64_t context) {
    if (call.session.make_current(context) != CUDA_SUCCESS) call.session.any_context();
}

GraphBuilding build_nodes(Call& call, CUgraph built, const GraphDescription& graph, NodeMap* nodes, GraphPlaces* places);

GraphBuilding build_node(Call& call, CUgraph graph, const GraphDescription& all, const NodeDescription& one, NodeMap* nodes,
                         GraphPlaces* places) {
    const uint64_t context = context_handle(call, one.context) ? one.context : all.context;
    use_context_of(call, context);
    NodeParams params;
    require_built(call, params.decode(call, blob_of(one.params), blob_of(one.data)), "parameters of a node");
    std::vector<CUgraphNode> from;
    std::vector<CUgraphEdgeData> edges;
    for (const auto& edge : one.before) {
        from.push_back(nodes->at(all.nodes[edge.from].node));
        edges.push_back(edge.data);
    }
    NodeMap in_child;
    CUgraph child = nullptr;
    // A graph with memory can only have been moved into another.
    bool moved = false;
    if (one.type == CU_GRAPH_NODE_TYPE_GRAPH) {
        const GraphDescription& inner = *one.inside.front();
        const MemoryOfGraph memory = memory_of(inner);
        moved = !memory.allocated.empty() || !memory.freed.empty();
        for (GraphBuilding building = build_graph(call, inner, moved ? nodes : &in_child, places, &child); building.go_on();)
            co_yield building.extent();
        params.value.graph.graph = child;
        params.value.graph.ownership = moved ? CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE : CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE;
    }
    const CUdeviceptr was = one.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ? params.value.alloc.dptr : 0;
    if (moved) co_yield after_extents;
    if (was)
        if (const CUdeviceptr extent = places->extent_of_next(&all)) co_yield extent;
    use_context_of(call, context);  // others may have been made meanwhile
    if (was) places->before_node(&all);
    CUgraphNode node = nullptr;
    const auto add = [&] {
        return call.driver.cuGraphAddNode_v2(&node, graph, from.empty() ? nullptr : from.data(),
                                             edges.empty() ? nullptr : edges.data(), from.size(), &params.value);
    };
    // A launch takes a CUkernel as a function; a node wants it in its own place.
    CUkernel kernel = nullptr;
    if (one.type == CU_GRAPH_NODE_TYPE_KERNEL && params.value.kernel.func &&
        call.objects.find(HandleKind::Kernel, params.value.kernel.func)) {
        kernel = reinterpret_cast<CUkernel>(params.value.kernel.func);
        params.value.kernel.func = nullptr;
        params.value.kernel.kern = kernel;
        params.value.kernel.ctx = context_handle(call, context);
    }
    CUresult status = add();
    if (status != CUDA_SUCCESS && kernel && call.driver.cuKernelGetFunction(&params.value.kernel.func, kernel) == CUDA_SUCCESS) {
        params.value.kernel.kern = nullptr;
        params.value.kernel.ctx = nullptr;
        status = add();
    }
    if (status == CUDA_SUCCESS && child && !moved) {
        CUgraph clone = nullptr;
        require_built(call, call.driver.cuGraphChildGraphNodeGetGraph(node, &clone), "cuGraphChildGraphNodeGetGraph");
        map_clone(call, *one.inside.front(), in_child, clone, nodes);
    }
    if (child && (!moved || status != CUDA_SUCCESS)) call.driver.cuGraphDestroy(child);
    require_built(call, status, "a node of type " + std::to_string(one.type));
    if (one.type == CU_GRAPH_NODE_TYPE_KERNEL) set_attributes(call, one, node);
    if (was) {
        GraphPlaces::after_node(was, params.value.alloc.dptr);
        call.session.graph_memory.note(was);
    }
    if (one.type == CU_GRAPH_NODE_TYPE_CONDITIONAL) {
        const CUgraph* bodies = params.value.conditional.phGraph_out;
        call.session.conditional_nodes[node] = {params_of(one), {bodies, bodies + one.inside.size()}};
        for (size_t i = 0; i < one.inside.size(); ++i) call.session.conditional_handles.erase(key_of_unnumbered(bodies[i]));
        for (size_t i = 0; i < one.inside.size(); ++i)
            for (GraphBuilding building = build_nodes(call, bodies[i], *one.inside[i], nodes, places); building.go_on();)
                co_yield building.extent();
    }
    (*nodes)[one.node] = node;
}

GraphBuilding build_nodes(Call& call, CUgraph built, const GraphDescription& graph, NodeMap* nodes, GraphPlaces* places) {
    const std::vector<size_t> order = order_of(graph);
    for (const size_t i : order)
        for (GraphBuilding building = build_node(call, built, graph, graph.nodes[i], nodes, places); building.go_on();)
            co_yield building.extent();
}

// All of them on the graph itself, which is as good for nodes inside it.
void build_handles(Call& call, CUgraph built, const GraphDescription& graph) {
    std::vector<ConditionalHandle> all;
    const auto collect = [&](auto& self, const GraphDescription& one) -> void {
        all.insert(all.end(), one.handles.begin(), one.handles.end());
        for (const NodeDescription& node : one.nodes)
            if (node.type == CU_GRAPH_NODE_TYPE_CONDITIONAL)
                for (const auto& body : node.inside) self(self, *body);
    };
    collect(collect, graph);
    std::ranges::sort(all, {}, &ConditionalHandle::value);
    for (const ConditionalHandle& one : all) {
        CUgraphConditionalHandle handle = 0;
        require_built(call, if_supported(call.driver.cuGraphConditionalHandleCreate, &handle, built, context_handle(call, one.context),
                                         one.initial, one.flags),
                      "cuGraphConditionalHandleCreate");
        if (handle != one.value)
            fail("a conditional handle of a graph was " + std::to_string(one.value) + " and would now be " + std::to_string(handle) +
                 ": kernels' arguments would be wrong");
    }
    if (all.empty()) call.session.conditional_handles.erase(key_of_unnumbered(built));
    else call.session.conditional_handles[key_of_unnumbered(built)] = std::move(all);
}

}  // namespace

NodeDescription describe_node(Call& call, CUgraphNode node, uint64_t context) {
    NodeDescription one;
    one.node = node;
    one.number = call.objects.find(HandleKind::GraphNode, node);
    one.context = context;
    require(call, call.driver.cuGraphNodeGetType(node, &one.type), "cuGraphNodeGetType");
    const NodeKind& kind = node_kind(one.type);
    if (kind.refusal) fail(std::string("a node of a graph ") + kind.refusal);
    CUgraphNodeParams params{};
    params.type = one.type;
    if (kind.get) require(call, kind.get(call.driver, node, &params), "parameters of a node");
    if (kind.recall && !kind.recall(call, node, &params))
        fail("a graph has a node of type " + std::to_string(one.type) + " that the session does not know, which cannot be restored");
    if (kind.check) kind.check(call, params, &one.context);
    for (CUgraph inside : graphs_inside(call.session, node))
        one.inside.push_back(std::make_shared<GraphDescription>(describe_graph(call, inside, context)));
    if (one.type == CU_GRAPH_NODE_TYPE_GRAPH) params.graph = {};
    if (one.type == CU_GRAPH_NODE_TYPE_KERNEL) one.attributes = attributes_of(call, node);
    rpc::Blob message{}, data{};
    if (!one.inside.empty()) {  // a child that is not the application's graph of that number, or a message already
        if (!give_bytes(&message, &params, sizeof params)) fail("out of memory");
    } else {
        require(call, encode_node_params(call, node, params, &message, &data), "parameters of a node");
    }
    one.params = take(message);
    one.data = take(data);
    return one;
}

GraphDescription describe_graph(Call& call, CUgraph graph, uint64_t context) {
    GraphDescription all;
    all.number = call.objects.find(HandleKind::Graph, graph);
    all.context = context;
    const std::vector<CUgraphNode> nodes = nodes_of(call, graph);
    std::map<CUgraphNode, size_t> index;
    for (CUgraphNode node : nodes) index.emplace(node, index.size());
    for (CUgraphNode node : nodes) {
        all.nodes.push_back(describe_node(call, node, context));
        all.nodes.back().before = edges_of(call, node, index);
    }
    const bool conditional = std::ranges::any_of(all.nodes, [](const auto& one) { return one.type == CU_GRAPH_NODE_TYPE_CONDITIONAL; });
    const auto known = call.session.conditional_handles.find(all.number ? all.number : key_of_unnumbered(graph));
    if (known != call.session.conditional_handles.end() && (all.number || conditional)) all.handles = known->second;
    return all;
}

void check_description(Call& call, const GraphDescription& graph) {
    order_of(graph);
    for (const NodeDescription& one : graph.nodes) {
        NodeParams params;
        if (params.decode(call, blob_of(one.params), blob_of(one.data)) != CUDA_SUCCESS)
            fail("a graph has a node for a kernel, an array or an event that is gone, which cannot be restored");
        for (const auto& inside : one.inside) check_description(call, *inside);
    }
}

MemoryOfGraph memory_of(const GraphDescription& graph, GraphPlaces* expecting) {
    MemoryOfGraph all;
    std::vector<GraphPlaces::Allocation> own;
    for (size_t i : order_of(graph)) {
        const NodeDescription& one = graph.nodes[i];
        if (one.type == CU_GRAPH_NODE_TYPE_MEM_FREE) all.freed.push_back(params_of(one).free.dptr);
        if (one.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
            const CUDA_MEM_ALLOC_NODE_PARAMS_v2 made = params_of(one).alloc;
            own.push_back({made.dptr, made.bytesize, made.poolProps});
        }
        for (const auto& inside : one.inside) {
            const MemoryOfGraph in = memory_of(*inside, expecting);
            all.allocated.insert(all.allocated.end(), in.allocated.begin(), in.allocated.end());
            all.freed.insert(all.freed.end(), in.freed.begin(), in.freed.end());
        }
    }
    if (expecting) expecting->expect(&graph, own);
    all.allocated.insert(all.allocated.end(), own.begin(), own.end());
    return all;
}

GraphBuilding build_graph(Call& call, const GraphDescription& graph, NodeMap* nodes, GraphPlaces* places, CUgraph* built) {
    if (!call.driver.cuGraphAddNode_v2) fail("making a graph again: the driver has no cuGraphAddNode_v2");
    use_context_of(call, graph.context);
    require_built(call, call.driver.cuGraphCreate(built, 0), "cuGraphCreate");
    build_handles(call, *built, graph);
    for (GraphBuilding building = build_nodes(call, *built, graph, nodes, places); building.go_on();) co_yield building.extent();
}

void give_numbers(Call& call, const GraphDescription& graph, CUgraph built, const NodeMap& nodes) {
    if (graph.number) call.objects.add(HandleKind::Graph, built, graph.number);
    if (!graph.handles.empty()) call.session.conditional_handles[graph.number] = graph.handles;
    for (const NodeDescription& one : graph.nodes) {
        CUgraphNode node = nodes.at(one.node);
        if (one.number) call.objects.add(HandleKind::GraphNode, node, one.number);
        const std::vector<CUgraph> inside = graphs_inside(call.session, node);
        if (inside.size() != one.inside.size()) fail("making a graph again: a node has not the graphs that it had in it");
        std::vector<uint64_t> numbers;
        for (size_t i = 0; i < inside.size(); ++i) {
            give_numbers(call, *one.inside[i], inside[i], nodes);
            if (one.inside[i]->number) numbers.push_back(one.inside[i]->number);
        }
        if (!numbers.empty()) call.session.graphs_in_nodes[node] = std::move(numbers);
    }
}

json bytes_json(const std::vector<std::byte>& bytes) {
    const auto* from = reinterpret_cast<const uint8_t*>(bytes.data());
    return json::binary(std::vector<uint8_t>(from, from + bytes.size()));
}

std::vector<std::byte> bytes_of_json(const json& json) {
    const auto& binary = json.get_binary();
    const auto* from = reinterpret_cast<const std::byte*>(binary.data());
    return {from, from + binary.size()};
}

namespace {

template <class T>
json plain_json(const T& value) {
    const auto* from = reinterpret_cast<const uint8_t*>(&value);
    return json::binary(std::vector<uint8_t>(from, from + sizeof value));
}

template <class T>
T plain_of_json(const json& json) {
    const auto& binary = json.get_binary();
    if (binary.size() != sizeof(T)) fail("the snapshot's graphs are of another version");
    T value;
    std::memcpy(static_cast<void*>(&value), binary.data(), sizeof value);
    return value;
}

}  // namespace

json to_json(const GraphDescription& graph) {
    json nodes = json::array();
    for (const NodeDescription& one : graph.nodes) {
        json attributes = json::array(), before = json::array();
        for (const auto& [id, value] : one.attributes) attributes.push_back({id, plain_json(value)});
        for (const auto& edge : one.before) before.push_back({edge.from, plain_json(edge.data)});
        json node{{"node", to_number(one.node)}, {"number", one.number},         {"type", static_cast<int>(one.type)},
                  {"context", one.context},      {"params", bytes_json(one.params)}, {"data", bytes_json(one.data)},
                  {"attributes", std::move(attributes)}, {"before", std::move(before)}};
        for (const auto& inside : one.inside) node["inside"].push_back(to_json(*inside));
        nodes.push_back(std::move(node));
    }
    json handles = json::array();
    for (const ConditionalHandle& one : graph.handles) handles.push_back({one.value, one.context, one.initial, one.flags});
    return {{"number", graph.number}, {"context", graph.context}, {"nodes", std::move(nodes)}, {"handles", std::move(handles)}};
}

GraphDescription graph_of_json(const json& json) {
    GraphDescription graph;
    graph.number = json.at("number");
    graph.context = json.at("context");
    for (const auto& from : json.at("nodes")) {
        NodeDescription one;
        one.node = from_number<CUgraphNode>(from.at("node").get<uint64_t>());
        one.number = from.at("number");
        one.type = static_cast<CUgraphNodeType>(from.at("type").get<int>());
        one.context = from.at("context");
        one.params = bytes_of_json(from.at("params"));
        one.data = bytes_of_json(from.at("data"));
        for (const auto& attribute : from.at("attributes"))
            one.attributes.push_back({attribute.at(0), plain_of_json<CUlaunchAttributeValue>(attribute.at(1))});
        for (const auto& edge : from.at("before")) {
            one.before.push_back({edge.at(0), plain_of_json<CUgraphEdgeData>(edge.at(1))});
            if (one.before.back().from >= json.at("nodes").size()) fail("the snapshot's graphs are damaged");
        }
        nlohmann::json inside = from.value("inside", nlohmann::json::array());
        if (from.contains("child")) inside.push_back(from["child"]);  // of earlier snapshots
        for (const auto& in : inside) one.inside.push_back(std::make_shared<GraphDescription>(graph_of_json(in)));
        if (one.type == CU_GRAPH_NODE_TYPE_GRAPH && one.inside.size() != 1) fail("the snapshot's graphs are damaged");
        graph.nodes.push_back(std::move(one));
    }
    for (const auto& one : json.value("handles", nlohmann::json::array()))
        graph.handles.push_back({one.at(0), one.at(1), one.at(2), one.at(3)});
    return graph;
}

}  // namespace cricket::server
