// SPDX-License-Identifier: MIT
#include "graph_history.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "dispatch.h"
#include "graph_nodes.h"
#include "session.h"

namespace cricket::server {

GraphHistory::GraphHistory(Session& session) : session_(session) {}

GraphHistory::~GraphHistory() = default;

GraphHistory::Source::~Source() {
    if (kept && graph) driver.cuGraphDestroy(graph);
}

CUgraph GraphHistory::graph_of(uint64_t number) const {
    return static_cast<CUgraph>(session_.objects.get(HandleKind::Graph, number));
}

CUgraphNode GraphHistory::node_of(uint64_t number) const {
    return static_cast<CUgraphNode>(session_.objects.get(HandleKind::GraphNode, number));
}

GraphHistory::SourceRef GraphHistory::current_of(CUgraph graph) {
    const auto found = current_.find(graph);
    if (found == current_.end()) return nullptr;
    SourceRef source = found->second.lock();
    if (!source) current_.erase(found);
    return source;
}

GraphHistory::SourceRef GraphHistory::source_of(Call& call, CUgraph graph) {
    if (SourceRef known = current_of(graph)) {
        if (known->before.empty()) return known;
        // As it was, it is needed by others or by nobody any more.
        if (known.use_count() == 1) {
            known->before.clear();
            return known;
        }
        freeze(call, known);
    }
    auto source = std::make_shared<Source>(session_.driver);
    source->graph = graph;
    source->context = call.credential.context;
    // A graph inside another goes and changes with that one.
    if (session_.journal.creation(session_.objects.find(HandleKind::Graph, graph)))
        current_[graph] = source;
    else
        freeze(call, source);
    return source;
}

GraphHistory::SourceRef GraphHistory::holding(const void* member) {
    const auto find_members = [&](Source& source) {
        source.members.insert(source.graph);
        visit_nodes(session_, source.graph, [&](CUgraphNode node, const std::vector<CUgraph>& inside) {
            source.members.insert(node);
            source.members.insert(inside.begin(), inside.end());
        });
    };
    for (auto at = current_.begin(); at != current_.end();) {
        SourceRef source = at->second.lock();
        if (!source) {
            at = current_.erase(at);
            continue;
        }
        ++at;
        if (source->kept || !source->graph) continue;
        if (source->members.empty()) find_members(*source);
        if (source->members.count(member)) return source;
    }
    return nullptr;
}

// The graph itself goes on, changed; who needs it as it was has a description from now on.
void GraphHistory::freeze(Call& call, const SourceRef& source) {
    const uint64_t current = session_.current();
    try {
        source->described = std::make_shared<GraphDescription>(description_of(call, *source));
    } catch (const std::exception& error) {
        source->lost = error.what();
    }
    session_.make_current(current);
    current_.erase(source->graph);
    source->graph = nullptr;
    source->before.clear();
    source->members.clear();
}

GraphDescription GraphHistory::description_of(Call& call, Source& source) {
    if (!source.lost.empty()) throw std::runtime_error(source.lost);
    if (source.described) return *source.described;
    GraphDescription all = describe_graph(call, source.graph, source.context);
    const auto put_back = [&](auto& self, GraphDescription& graph) -> void {
        for (NodeDescription& one : graph.nodes) {
            if (const auto was = source.before.find(one.node); was != source.before.end()) {
                auto edges = std::move(one.before);
                one = was->second;
                one.before = std::move(edges);
            }
            for (const auto& inside : one.inside) self(self, *inside);
        }
    };
    if (!source.before.empty()) put_back(put_back, all);
    return all;
}

void GraphHistory::structure_changes(Call& call, CUgraph graph) {
    if (execs_.empty() || !graph) return;
    SourceRef source = current_of(graph);
    if (!source) source = holding(graph);
    if (source) freeze(call, source);
}

void GraphHistory::node_changes(Call& call, CUgraphNode node) {
    if (execs_.empty() || !node) return;
    const SourceRef source = holding(node);
    if (!source || source->before.count(node)) return;
    const uint64_t current = session_.current();
    try {
        source->before[node] = describe_node(call, node, source->context);
    } catch (const std::exception& error) {
        source->lost = error.what();
    }
    session_.make_current(current);
}

// Numbers for nodes that are gone, and whose addresses the driver may use again.
void GraphHistory::retire(const std::vector<CUgraphNode>& nodes) {
    if (execs_.empty() || nodes.empty()) return;
    NodeMap tombs;
    for (CUgraphNode node : nodes) tombs[node] = from_number<CUgraphNode>(++last_tombstone_ << 1 | 1);
    const auto rename = [&](auto& map) {
        for (auto at = map.begin(); at != map.end();) {
            const auto tomb = tombs.find(at->first);
            auto next = std::next(at);
            if (tomb != tombs.end()) {
                auto moved = map.extract(at);
                moved.key() = tomb->second;
                map.insert(std::move(moved));
            }
            at = next;
        }
    };
    const auto in_graph = [&](auto& self, GraphDescription& graph) -> void {
        for (NodeDescription& one : graph.nodes) {
            if (const auto tomb = tombs.find(one.node); tomb != tombs.end()) one.node = tomb->second;
            for (const auto& inside : one.inside) self(self, *inside);
        }
    };
    std::unordered_set<Source*> seen;
    for (auto& [number, exec] : execs_) {
        for (Source* source : {exec.from.get(), exec.updated.get()})
            if (source && source->described && seen.insert(source).second) in_graph(in_graph, *source->described);
        rename(exec.changes);
        rename(exec.enabled);
        for (CUgraphNode node : nodes) exec.stand_ins.erase(node);
    }
    for (auto& [clone, pairs] : clones_)
        std::erase_if(pairs, [&](const auto& pair) { return tombs.count(pair.first) || tombs.count(pair.second); });
}

void GraphHistory::node_goes(Call& call, CUgraphNode node) {
    if (!node) return;
    if (!execs_.empty())
        if (const SourceRef source = holding(node)) freeze(call, source);
    retire({node});
}

// Not: memory of a graph lives as long as the graph, and the graphs in a conditional node are known by numbers that go.
bool GraphHistory::keeps_as_is(Call& call, CUgraph graph) const {
    if (!session_.graph_memory.any() && session_.conditional_nodes.empty()) return true;
    std::vector<CUgraphNode> nodes;
    if (list_nodes(call.driver, graph, &nodes) != CUDA_SUCCESS) return false;
    return std::ranges::none_of(nodes, [&](CUgraphNode node) {
        CUgraphNodeType type{};
        return call.driver.cuGraphNodeGetType(node, &type) != CUDA_SUCCESS || type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
               type == CU_GRAPH_NODE_TYPE_MEM_FREE || type == CU_GRAPH_NODE_TYPE_GRAPH || type == CU_GRAPH_NODE_TYPE_CONDITIONAL;
    });
}

void GraphHistory::forget_graph(CUgraph graph) {
    current_.erase(graph);
    graph_objects_.erase(graph);
    clone_of_.erase(graph);
    std::erase_if(clone_of_, [&](const auto& one) { return one.second == graph; });
    clones_.erase(graph);
    if (!session_.conditional_handles.empty())
        session_.conditional_handles.erase(session_.objects.find(HandleKind::Graph, graph));
}

CUresult GraphHistory::destroy(Call& call, CUgraph graph) {
    SourceRef source = execs_.empty() ? nullptr : current_of(graph);
    // What a child graph holds cannot be let go of alone.
    const auto objects = graph_objects_.find(graph);
    const bool plain = objects == graph_objects_.end() || objects->second.in_children.empty();
    if (source && plain && keeps_as_is(call, graph)) {
        source->kept = true;
        source->members.clear();
        if (objects != graph_objects_.end())
            for (const auto& [number, count] : objects->second.own)
                if (void* object = session_.objects.get(HandleKind::UserObject, number))
                    call.driver.cuGraphReleaseUserObject(graph, static_cast<CUuserObject>(object), count);
        forget_graph(graph);
        return CUDA_SUCCESS;
    }
    std::vector<CUgraphNode> nodes;
    if (source) freeze(call, source);
    const bool named = std::ranges::any_of(execs_, [](const auto& one) {
        const Exec& exec = one.second;
        return exec.from->described || (exec.updated && exec.updated->described) || !exec.changes.empty() ||
               !exec.enabled.empty() || !exec.stand_ins.empty();
    });
    if (named || !clones_.empty())
        visit_nodes(session_, graph, [&](CUgraphNode node, const std::vector<CUgraph>&) { nodes.push_back(node); });
    const CUresult status = call.driver.cuGraphDestroy(graph);
    if (status != CUDA_SUCCESS) return status;
    retire(nodes);
    forget_graph(graph);
    return status;
}

GraphHistory::Held GraphHistory::objects_of(CUgraph graph) const {
    const auto found = graph_objects_.find(graph);
    if (found == graph_objects_.end()) return {};
    Held all = found->second.own;
    for (const auto& [number, count] : found->second.in_children) all[number] += count;
    return all;
}

void GraphHistory::child_added(CUgraph parent, uint64_t child) {
    if (graph_objects_.empty()) return;
    for (const auto& [number, count] : objects_of(graph_of(child))) graph_objects_[parent].in_children[number] += count;
}

void GraphHistory::made(Call& call, uint64_t number, uint64_t graph, uint64_t flags) {
    Exec& exec = execs_[number];
    CUgraph of = graph_of(graph);
    exec.from = source_of(call, of);
    exec.flags = flags;
    exec.context = call.credential.context;
    if (!graph_objects_.empty()) exec.objects = objects_of(of);
}

void GraphHistory::updated(Call& call, uint64_t number, uint64_t graph) {
    const auto found = execs_.find(number);
    if (found == execs_.end()) return;
    CUgraph of = graph_of(graph);
    found->second.updated.reset();
    found->second.changes.clear();
    found->second.updated = source_of(call, of);
    auto* exec = static_cast<CUgraphExec>(session_.objects.get(HandleKind::GraphExec, number));
    for (auto& [node, enabled] : found->second.enabled) {
        unsigned now = enabled;
        if (!(to_number(node) & 1) && call.driver.cuGraphNodeGetEnabled(exec, node, &now) == CUDA_SUCCESS) enabled = now != 0;
    }
    if (!graph_objects_.empty() || !found->second.objects.empty()) found->second.objects = objects_of(of);
}

void GraphHistory::changed(Call& call, uint64_t exec, uint64_t node, Change change) {
    const auto found = execs_.find(exec);
    if (found == execs_.end()) return;
    change.context = call.credential.context;
    found->second.changes[node_of(node)] = std::move(change);
}

}  // namespace cricket::server
