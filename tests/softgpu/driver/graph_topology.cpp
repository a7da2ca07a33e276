// SPDX-License-Identifier: MIT
// Making and copying graphs, and the edges between their nodes.
#include <algorithm>
#include <cstring>

#include "graph.h"

namespace softgpu {

std::vector<Dependency> dependencies(const Graph& graph, const CUgraphNode* list, const CUgraphEdgeData* data,
                                     size_t count) {
    require(count == 0 || list);
    std::vector<Dependency> result;
    for (size_t i = 0; i < count; ++i) {
        auto from = node(list[i]);
        require(from->graph == &graph);
        require(std::none_of(result.begin(), result.end(), [&](auto& d) { return d.node == from.get(); }));
        result.push_back({from.get(), data ? data[i] : CUgraphEdgeData{}});
    }
    return result;
}

namespace {

bool has_data(const CUgraphEdgeData& data) {
    return data.from_port || data.to_port || data.type;
}

// As all functions that list: the number alone when there is no room, else what fits, and null behind it.
template <typename T>
void list_out(const std::vector<T>& list, T* out, size_t room) {
    for (size_t i = 0; out && i < room; ++i) out[i] = i < list.size() ? list[i] : T{};
}

void list_nodes(const std::vector<CUgraphNode>& list, CUgraphNode* out, size_t* count) {
    require(count);
    if (out) {
        list_out(list, out, *count);
        *count = std::min(*count, list.size());
    } else {
        *count = list.size();
    }
}

CUresult neighbours(CUgraphNode handle, std::vector<Dependency> Node::*side, CUgraphNode* out,
                    CUgraphEdgeData* data_out, size_t* count) {
    return graph_api([&] {
        require(count);
        auto of = node(handle);
        std::vector<CUgraphNode> list;
        std::vector<CUgraphEdgeData> data;
        bool plain = true;
        for (auto& dependency : (*of).*side) {
            list.push_back(dependency.node->handle);
            data.push_back(dependency.data);
            plain = plain && !has_data(dependency.data);
        }
        require(plain || data_out || !out, CUDA_ERROR_LOSSY_QUERY);
        if (out) list_out(data, data_out, *count);
        list_nodes(list, out, count);
    });
}

CUresult change_edges(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                      const CUgraphEdgeData* data, size_t count, bool add) {
    return graph_api([&] {
        auto of = graph(handle);
        require(count == 0 || (from && to));
        require(add || !of->has_memory_nodes());
        struct Edge {
            NodeRef from, to;
            CUgraphEdgeData data;
        };
        std::vector<Edge> edges;
        for (size_t i = 0; i < count; ++i) {
            Edge edge{node(from[i]), node(to[i]), data ? data[i] : CUgraphEdgeData{}};
            require(edge.from->graph == of.get() && edge.to->graph == of.get() && edge.from != edge.to);
            auto& list = edge.to->before;
            bool there = std::any_of(list.begin(), list.end(), [&](auto& d) {
                return d.node == edge.from.get() && (add || memcmp(&d.data, &edge.data, sizeof d.data) == 0);
            });
            require(there != add);
            edges.push_back(std::move(edge));
        }
        for (auto& edge : edges) {
            if (add) {
                of->connect(*edge.from, *edge.to, edge.data);
                continue;
            }
            std::erase_if(edge.to->before, [&](auto& d) { return d.node == edge.from.get(); });
            std::erase_if(edge.from->after, [&](auto& d) { return d.node == edge.to.get(); });
        }
    });
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuGraphCreate(CUgraph* out, unsigned flags) {
    return graph_api([&] {
        require(out && flags == 0);
        *out = new_graph()->handle;
    });
}

CUresult cuGraphDestroy(CUgraph handle) {
    return graph_api([&] {
        auto of = graph(handle);
        require(!of->owner);
        forget(*of);
    });
}

CUresult cuGraphClone(CUgraph* out, CUgraph handle) {
    return graph_api([&] {
        require(out);
        auto of = graph(handle);
        require(!of->has_memory_nodes() && !of->has(CU_GRAPH_NODE_TYPE_CONDITIONAL),
                CUDA_ERROR_NOT_SUPPORTED);
        *out = clone(*of, true)->handle;
    });
}

CUresult cuGraphNodeFindInClone(CUgraphNode* out, CUgraphNode original, CUgraph handle) {
    return graph_api([&] {
        require(out);
        node(original);
        for (auto& candidate : graph(handle)->nodes)
            if (candidate->original == original) return void(*out = candidate->handle);
        fail(CUDA_ERROR_INVALID_VALUE);
    });
}

CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType* type) {
    return graph_api([&] {
        require(type);
        *type = node(handle)->type();
    });
}

CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode* out, size_t* count) {
    return graph_api([&] {
        std::vector<CUgraphNode> list;
        for (auto& n : graph(handle)->nodes) list.push_back(n->handle);
        list_nodes(list, out, count);
    });
}

CUresult cuGraphGetRootNodes(CUgraph handle, CUgraphNode* out, size_t* count) {
    return graph_api([&] {
        std::vector<CUgraphNode> list;
        for (auto& n : graph(handle)->nodes)
            if (n->before.empty()) list.push_back(n->handle);
        list_nodes(list, out, count);
    });
}

CUresult cuGraphGetEdges_v2(CUgraph handle, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data_out,
                            size_t* count) {
    return graph_api([&] {
        require(count && (from == nullptr) == (to == nullptr));
        std::vector<CUgraphNode> starts, ends;
        std::vector<CUgraphEdgeData> data;
        bool plain = true;
        for (auto& n : graph(handle)->nodes) {
            for (auto& dependent : n->after) {
                starts.push_back(n->handle);
                ends.push_back(dependent.node->handle);
                data.push_back(dependent.data);
                plain = plain && !has_data(dependent.data);
            }
        }
        require(plain || data_out || !from, CUDA_ERROR_LOSSY_QUERY);
        if (from) {
            list_out(data, data_out, *count);
            list_out(ends, to, *count);
        }
        list_nodes(starts, from, count);
    });
}

CUresult cuGraphGetEdges(CUgraph handle, CUgraphNode* from, CUgraphNode* to, size_t* count) {
    return cuGraphGetEdges_v2(handle, from, to, nullptr, count);
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode handle, CUgraphNode* out, CUgraphEdgeData* data,
                                       size_t* count) {
    return neighbours(handle, &Node::before, out, data, count);
}
CUresult cuGraphNodeGetDependencies(CUgraphNode handle, CUgraphNode* out, size_t* count) {
    return neighbours(handle, &Node::before, out, nullptr, count);
}
CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode handle, CUgraphNode* out, CUgraphEdgeData* data,
                                         size_t* count) {
    return neighbours(handle, &Node::after, out, data, count);
}
CUresult cuGraphNodeGetDependentNodes(CUgraphNode handle, CUgraphNode* out, size_t* count) {
    return neighbours(handle, &Node::after, out, nullptr, count);
}

CUresult cuGraphAddDependencies_v2(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                                   const CUgraphEdgeData* data, size_t count) {
    return change_edges(handle, from, to, data, count, true);
}
CUresult cuGraphAddDependencies(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                                size_t count) {
    return change_edges(handle, from, to, nullptr, count, true);
}
CUresult cuGraphRemoveDependencies_v2(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                                      const CUgraphEdgeData* data, size_t count) {
    return change_edges(handle, from, to, data, count, false);
}
CUresult cuGraphRemoveDependencies(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                                   size_t count) {
    return change_edges(handle, from, to, nullptr, count, false);
}

CUresult cuGraphDestroyNode(CUgraphNode handle) {
    return graph_api([&] {
        auto gone = node(handle);
        auto of = gone->graph;
        require(!of->capturing && !of->has_memory_nodes());
        if (auto child = std::get_if<ChildStep>(&gone->step)) forget(*child->graph);
        if (auto conditional = std::get_if<ConditionalStep>(&gone->step))
            for (auto& body : conditional->bodies) forget(*body);
        of->remove(*gone);
        nodes().remove(handle);
    });
}
