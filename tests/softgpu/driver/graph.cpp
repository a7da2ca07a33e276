// SPDX-License-Identifier: MIT
#include "graph.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

namespace softgpu {

std::recursive_mutex& graph_mutex() {
    return immortal<std::recursive_mutex>();
}

CUgraphNodeType Node::type() const {
    static constexpr CUgraphNodeType kTypes[] = {
        CU_GRAPH_NODE_TYPE_KERNEL,     CU_GRAPH_NODE_TYPE_MEMCPY,       CU_GRAPH_NODE_TYPE_MEMSET,
        CU_GRAPH_NODE_TYPE_HOST,       CU_GRAPH_NODE_TYPE_GRAPH,        CU_GRAPH_NODE_TYPE_EMPTY,
        CU_GRAPH_NODE_TYPE_WAIT_EVENT, CU_GRAPH_NODE_TYPE_EVENT_RECORD, CU_GRAPH_NODE_TYPE_MEM_ALLOC,
        CU_GRAPH_NODE_TYPE_MEM_FREE,   CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, CU_GRAPH_NODE_TYPE_CONDITIONAL,
    };
    static_assert(std::size(kTypes) == std::variant_size_v<Step>);
    return kTypes[step.index()];
}

bool Node::depends_on(const Node* other) const {
    std::set<const Node*> seen;
    std::vector<const Node*> open = {this};
    while (!open.empty()) {
        auto at = open.back();
        open.pop_back();
        for (auto& dependency : at->before) {
            if (dependency.node == other) return true;
            if (seen.insert(dependency.node).second) open.push_back(dependency.node);
        }
    }
    return false;
}

NodeRef Graph::add(Step step, std::vector<Dependency> before) {
    auto made = std::make_shared<Node>();
    made->graph = this;
    made->step = std::move(step);
    nodes.push_back(made);
    for (auto& dependency : before) connect(*dependency.node, *made, dependency.data);
    if (handle) give_handles(*this);
    return made;
}

void Graph::connect(Node& from, Node& to, const CUgraphEdgeData& data) {
    from.after.push_back({&to, data});
    to.before.push_back({&from, data});
}

void Graph::remove(Node& node) {
    for (auto& dependency : node.before)
        std::erase_if(dependency.node->after, [&](auto& d) { return d.node == &node; });
    for (auto& dependent : node.after)
        std::erase_if(dependent.node->before, [&](auto& d) { return d.node == &node; });
    std::erase_if(nodes, [&](auto& ref) { return ref.get() == &node; });
}

std::vector<Node*> Graph::order() const {
    std::unordered_map<const Node*, size_t> open;
    std::deque<Node*> ready;
    for (auto& node : nodes) {
        open[node.get()] = node->before.size();
        if (node->before.empty()) ready.push_back(node.get());
    }
    std::vector<Node*> result;
    while (!ready.empty()) {
        auto node = ready.front();
        ready.pop_front();
        result.push_back(node);
        for (auto& dependent : node->after)
            if (--open[dependent.node] == 0) ready.push_back(dependent.node);
    }
    if (result.size() != nodes.size()) result.clear();
    return result;
}

namespace {

// Calls visit for each graph inside a step.
template <typename Visit>
void each_inner(Step& step, Visit visit) {
    if (auto child = std::get_if<ChildStep>(&step)) visit(child->graph);
    if (auto conditional = std::get_if<ConditionalStep>(&step))
        for (auto& body : conditional->bodies) visit(body);
}

}  // namespace

Graph::~Graph() {
    for (auto& [object, count] : objects) object->release(count);
}

// A capture may still hold a graph inside.
Node::~Node() {
    each_inner(step, [&](auto& inner) {
        if (inner->owner == this) inner->owner = nullptr;
    });
}

bool Graph::has(CUgraphNodeType type) const {
    for (auto& node : nodes) {
        bool found = node->type() == type;
        each_inner(node->step, [&](auto& inner) { found = found || inner->has(type); });
        if (found) return true;
    }
    return false;
}

std::shared_ptr<Graph> clone(const Graph& graph, bool registered) {
    auto copy = std::make_shared<Graph>();
    std::unordered_map<const Node*, Node*> copies;
    for (auto& node : graph.nodes) {
        auto made = std::make_shared<Node>();
        made->original = node->handle ? node->handle : node->original;
        made->graph = copy.get();
        made->step = node->step;
        made->enabled = node->enabled;
        each_inner(made->step, [&](auto& inner) {
            inner = clone(*inner, registered);
            inner->owner = made.get();
        });
        copies[node.get()] = made.get();
        copy->nodes.push_back(std::move(made));
    }
    for (auto& node : graph.nodes)
        for (auto& dependency : node->before)
            copy->connect(*copies[dependency.node], *copies[node.get()], dependency.data);
    for (auto& [object, count] : graph.objects) {
        copy->objects[object] += count;
        object->references += count;
    }
    copy->conditionals = graph.conditionals;
    if (registered) give_handles(*copy);
    return copy;
}

std::shared_ptr<Graph> new_graph() {
    auto made = std::make_shared<Graph>();
    give_handles(*made);
    return made;
}

void give_handles(Graph& graph) {
    if (!graph.handle) {
        graph.handle = graphs().reserve();
        graphs().set(graph.handle, graph.shared_from_this());
    }
    // New nodes are at the end.
    for (auto it = graph.nodes.rbegin(); it != graph.nodes.rend() && !(*it)->handle; ++it) {
        auto& node = *it;
        node->handle = nodes().reserve();
        nodes().set(node->handle, node);
        each_inner(node->step, [&](auto& inner) {
            inner->owner = node.get();
            give_handles(*inner);
        });
    }
}

void forget(Graph& graph) {
    if (graph.handle) graphs().remove(graph.handle);
    graph.handle = nullptr;
    for (auto& node : graph.nodes) {
        if (node->handle) nodes().remove(node->handle);
        each_inner(node->step, [](auto& inner) { forget(*inner); });
    }
}

}  // namespace softgpu
