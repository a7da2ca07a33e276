// SPDX-License-Identifier: MIT
#include "graph_history.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "dispatch.h"
#include "graph_nodes.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr auto concerned = [] {
    std::array<bool, dispatch_count> table{};
    for (const Proc one : {Proc::cuGraphAddNode_v2,
                           Proc::cuGraphAddEmptyNode,
                           Proc::cuGraphAddDependencies_v1,
                           Proc::cuGraphAddDependencies_v2,
                           Proc::cuGraphRemoveDependencies_v1,
                           Proc::cuGraphRemoveDependencies_v2,
                           Proc::cuGraphConditionalHandleCreate,
                           Proc::cuStreamBeginCaptureToGraph,
                           Proc::cuGraphNodeSetParams,
                           Proc::cuGraphKernelNodeCopyAttributes,
                           Proc::cuGraphKernelNodeSetAttribute,
                           Proc::cuGraphEventRecordNodeSetEvent,
                           Proc::cuGraphEventWaitNodeSetEvent,
                           Proc::cuGraphDestroyNode,
                           Proc::cuGraphClone,
                           Proc::cuGraphNodeFindInClone,
                           Proc::cuGraphInstantiateWithFlags,
                           Proc::cuGraphInstantiate_v1,
                           Proc::cuGraphInstantiate_v2,
                           Proc::cuGraphInstantiateWithParams,
                           Proc::cuGraphExecDestroy,
                           Proc::cuGraphExecUpdate_v1,
                           Proc::cuGraphExecUpdate_v2,
                           Proc::cuGraphExecNodeSetParams,
                           Proc::cuGraphExecChildGraphNodeSetParams,
                           Proc::cuGraphExecEventRecordNodeSetEvent,
                           Proc::cuGraphExecEventWaitNodeSetEvent,
                           Proc::cuGraphNodeSetEnabled,
                           Proc::cuGraphNodeGetEnabled,
                           Proc::cuUserObjectCreate,
                           Proc::cuUserObjectRetain,
                           Proc::cuUserObjectRelease,
                           Proc::cuGraphRetainUserObject,
                           Proc::cuGraphReleaseUserObject})
        table[static_cast<uint32_t>(one) - wire::first_cuda_proc] = true;
    return table;
}();

template <class T>
const T& as(const void* message) {
    return *static_cast<const T*>(message);
}

std::vector<std::byte> copy(const rpc::Blob& blob) {
    const auto* from = static_cast<const std::byte*>(blob.data);
    return {from, from + blob.size};
}

bool moves_child(const cuGraphAddNode_v2_args& args, CUgraphNodeParams* params) {
    if (args.params.size != sizeof *params) return false;
    std::memcpy(static_cast<void*>(params), args.params.data, sizeof *params);
    return params->type == CU_GRAPH_NODE_TYPE_GRAPH;
}

bool is_child(const cuGraphNodeSetParams_args& args) {
    CUgraphNodeParams params;
    if (args.params.size != sizeof params) return false;
    std::memcpy(static_cast<void*>(&params), args.params.data, sizeof params);
    return params.type == CU_GRAPH_NODE_TYPE_GRAPH;
}

template <class Args>
void stand_in(Objects& objects, const NodeMap& nodes, Args* args) {
    auto* node = static_cast<CUgraphNode>(objects.get(HandleKind::GraphNode, args->hNode));
    const auto found = nodes.find(node);
    if (node && found != nodes.end()) args->hNode = objects.add(HandleKind::GraphNode, found->second);
}

}  // namespace

bool GraphHistory::concerns(uint32_t procedure) {
    const uint32_t index = procedure - wire::first_cuda_proc;
    return index < dispatch_count && concerned[index];
}

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
    const auto add = [&](auto& self, Source& source, CUgraph graph) -> void {
        source.members.insert(graph);
        size_t count = 0;
        if (session_.driver.cuGraphGetNodes(graph, nullptr, &count) != CUDA_SUCCESS || count == 0) return;
        std::vector<CUgraphNode> nodes(count);
        if (session_.driver.cuGraphGetNodes(graph, nodes.data(), &count) != CUDA_SUCCESS) return;
        for (CUgraphNode node : nodes) {
            source.members.insert(node);
            CUgraphNodeType type{};
            CUgraph child = nullptr;
            if (session_.driver.cuGraphNodeGetType(node, &type) == CUDA_SUCCESS && type == CU_GRAPH_NODE_TYPE_GRAPH &&
                session_.driver.cuGraphChildGraphNodeGetGraph(node, &child) == CUDA_SUCCESS)
                self(self, source, child);
        }
    };
    for (auto at = current_.begin(); at != current_.end();) {
        SourceRef source = at->second.lock();
        if (!source) {
            at = current_.erase(at);
            continue;
        }
        ++at;
        if (source->kept || !source->graph) continue;
        if (source->members.empty()) add(add, *source, source->graph);
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
            if (one.child) self(self, *one.child);
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
            if (one.child) self(self, *one.child);
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

bool GraphHistory::allocates(Call& call, CUgraph graph) const {
    if (!session_.captured_memory) return false;
    size_t count = 0;
    if (call.driver.cuGraphGetNodes(graph, nullptr, &count) != CUDA_SUCCESS) return true;
    std::vector<CUgraphNode> nodes(count);
    if (count && call.driver.cuGraphGetNodes(graph, nodes.data(), &count) != CUDA_SUCCESS) return true;
    for (CUgraphNode node : nodes) {
        CUgraphNodeType type{};
        if (call.driver.cuGraphNodeGetType(node, &type) != CUDA_SUCCESS) return true;
        if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || type == CU_GRAPH_NODE_TYPE_MEM_FREE || type == CU_GRAPH_NODE_TYPE_GRAPH) return true;
    }
    return false;
}

void GraphHistory::forget_graph(CUgraph graph) {
    current_.erase(graph);
    graph_objects_.erase(graph);
    clone_of_.erase(graph);
    std::erase_if(clone_of_, [&](const auto& one) { return one.second == graph; });
    clones_.erase(graph);
    if (!conditional_handles_.empty()) conditional_handles_.erase(session_.objects.find(HandleKind::Graph, graph));
}

CUresult GraphHistory::destroy(Call& call, CUgraph graph) {
    SourceRef source = execs_.empty() ? nullptr : current_of(graph);
    // Memory of a graph lives as long as the graph, and what a child graph holds cannot be let go of alone.
    const auto objects = graph_objects_.find(graph);
    const bool plain = objects == graph_objects_.end() || objects->second.in_children.empty();
    if (source && plain && !allocates(call, graph)) {
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
    if (named || !clones_.empty()) {
        const auto add = [&](auto& self, CUgraph of) -> void {
            size_t count = 0;
            if (call.driver.cuGraphGetNodes(of, nullptr, &count) != CUDA_SUCCESS || count == 0) return;
            const size_t first = nodes.size();
            nodes.resize(first + count);
            if (call.driver.cuGraphGetNodes(of, nodes.data() + first, &count) != CUDA_SUCCESS) return;
            for (size_t i = first; i < first + count; ++i) {
                CUgraphNodeType type{};
                CUgraph child = nullptr;
                if (call.driver.cuGraphNodeGetType(nodes[i], &type) == CUDA_SUCCESS && type == CU_GRAPH_NODE_TYPE_GRAPH &&
                    call.driver.cuGraphChildGraphNodeGetGraph(nodes[i], &child) == CUDA_SUCCESS)
                    self(self, child);
            }
        };
        add(add, graph);
    }
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

void GraphHistory::before(Call& call, Proc procedure, void* args) {
    // The node that an executable is asked about may be one of a graph that stands in for the application's.
    const auto of_exec = [&](auto& message) {
        const auto found = execs_.find(message.hGraphExec);
        if (found != execs_.end() && !found->second.stand_ins.empty()) stand_in(session_.objects, found->second.stand_ins, &message);
    };
    switch (procedure) {
        case Proc::cuGraphAddNode_v2: {
            const auto& message = as<cuGraphAddNode_v2_args>(args);
            CUgraphNodeParams params;
            structure_changes(call, graph_of(message.hGraph));
            if (!message.legacy && moves_child(message, &params) && params.graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE)
                structure_changes(call, graph_of(to_number(params.graph.graph)));
            break;
        }
        case Proc::cuGraphAddEmptyNode:
            structure_changes(call, graph_of(as<cuGraphAddEmptyNode_args>(args).hGraph));
            break;
        case Proc::cuGraphAddDependencies_v1:
            structure_changes(call, graph_of(as<cuGraphAddDependencies_args>(args).hGraph));
            break;
        case Proc::cuGraphAddDependencies_v2:
            structure_changes(call, graph_of(as<cuGraphAddDependencies_v2_args>(args).hGraph));
            break;
        case Proc::cuGraphRemoveDependencies_v1:
            structure_changes(call, graph_of(as<cuGraphRemoveDependencies_args>(args).hGraph));
            break;
        case Proc::cuGraphRemoveDependencies_v2:
            structure_changes(call, graph_of(as<cuGraphRemoveDependencies_v2_args>(args).hGraph));
            break;
        case Proc::cuGraphConditionalHandleCreate:
            structure_changes(call, graph_of(as<cuGraphConditionalHandleCreate_args>(args).hGraph));
            break;
        case Proc::cuStreamBeginCaptureToGraph:
            structure_changes(call, graph_of(as<cuStreamBeginCaptureToGraph_args>(args).hGraph));
            break;
        case Proc::cuGraphNodeSetParams: {
            const auto& message = as<cuGraphNodeSetParams_args>(args);
            CUgraphNode node = node_of(message.hNode);
            if (!is_child(message)) {
                node_changes(call, node);
            } else if (!execs_.empty()) {
                if (const SourceRef source = holding(node)) freeze(call, source);
            }
            break;
        }
        case Proc::cuGraphKernelNodeCopyAttributes:
            node_changes(call, node_of(as<cuGraphKernelNodeCopyAttributes_args>(args).dst));
            break;
        case Proc::cuGraphKernelNodeSetAttribute:
            node_changes(call, node_of(as<cuGraphKernelNodeSetAttribute_args>(args).hNode));
            break;
        case Proc::cuGraphEventRecordNodeSetEvent:
            node_changes(call, node_of(as<cuGraphEventRecordNodeSetEvent_args>(args).hNode));
            break;
        case Proc::cuGraphEventWaitNodeSetEvent:
            node_changes(call, node_of(as<cuGraphEventWaitNodeSetEvent_args>(args).hNode));
            break;
        case Proc::cuGraphDestroyNode:
            node_goes(call, node_of(as<cuGraphDestroyNode_args>(args).hNode));
            break;
        case Proc::cuGraphExecNodeSetParams:
            of_exec(*static_cast<cuGraphExecNodeSetParams_args*>(args));
            break;
        case Proc::cuGraphExecChildGraphNodeSetParams:
            of_exec(*static_cast<cuGraphExecChildGraphNodeSetParams_args*>(args));
            break;
        case Proc::cuGraphExecEventRecordNodeSetEvent:
            of_exec(*static_cast<cuGraphExecEventRecordNodeSetEvent_args*>(args));
            break;
        case Proc::cuGraphExecEventWaitNodeSetEvent:
            of_exec(*static_cast<cuGraphExecEventWaitNodeSetEvent_args*>(args));
            break;
        case Proc::cuGraphNodeSetEnabled:
            of_exec(*static_cast<cuGraphNodeSetEnabled_args*>(args));
            break;
        case Proc::cuGraphNodeGetEnabled:
            of_exec(*static_cast<cuGraphNodeGetEnabled_args*>(args));
            break;
        default:
            break;
    }
}

void GraphHistory::after(Call& call, Proc procedure, const void* args, void* res) {
    const bool ok = *static_cast<int32_t*>(res) == CUDA_SUCCESS;
    if (procedure == Proc::cuGraphNodeFindInClone) {
        // The driver does not know of a clone that was made again on its own.
        const auto& message = as<cuGraphNodeFindInClone_args>(args);
        if (ok || clones_.empty()) return;
        const auto clone = clones_.find(graph_of(message.hClonedGraph));
        if (clone == clones_.end()) return;
        const auto node = clone->second.find(node_of(message.hOriginalNode));
        if (node == clone->second.end()) return;
        auto& answer = *static_cast<cuGraphNodeFindInClone_res*>(res);
        answer.status = CUDA_SUCCESS;
        answer.phNode = session_.objects.add(HandleKind::GraphNode, node->second);
        return;
    }
    if (!ok) return;
    switch (procedure) {
        case Proc::cuGraphAddNode_v2: {
            CUgraphNodeParams params;
            const auto& message = as<cuGraphAddNode_v2_args>(args);
            if (moves_child(message, &params)) child_added(graph_of(message.hGraph), to_number(params.graph.graph));
            break;
        }
        case Proc::cuGraphConditionalHandleCreate:
            ++conditional_handles_[as<cuGraphConditionalHandleCreate_args>(args).hGraph];
            break;
        case Proc::cuGraphClone: {
            CUgraph original = graph_of(as<cuGraphClone_args>(args).originalGraph);
            CUgraph clone = graph_of(as<cuGraphClone_res>(res).phGraphClone);
            clone_of_[clone] = original;
            if (const auto found = graph_objects_.find(original); found != graph_objects_.end()) {
                const GraphObjects copy = found->second;
                graph_objects_[clone] = copy;
            }
            break;
        }
        case Proc::cuGraphInstantiateWithFlags: {
            const auto& message = as<cuGraphInstantiateWithFlags_args>(args);
            made(call, as<cuGraphInstantiateWithFlags_res>(res).phGraphExec, message.hGraph, message.flags);
            break;
        }
        case Proc::cuGraphInstantiate_v1:
            made(call, as<cuGraphInstantiate_res>(res).phGraphExec, as<cuGraphInstantiate_args>(args).hGraph, 0);
            break;
        case Proc::cuGraphInstantiate_v2:
            made(call, as<cuGraphInstantiate_v2_res>(res).phGraphExec, as<cuGraphInstantiate_v2_args>(args).hGraph, 0);
            break;
        case Proc::cuGraphInstantiateWithParams: {
            const auto& message = as<cuGraphInstantiateWithParams_args>(args);
            const uint64_t exec = as<cuGraphInstantiateWithParams_res>(res).phGraphExec;
            if (exec) made(call, exec, message.hGraph, message.flags);
            break;
        }
        case Proc::cuGraphExecDestroy:
            execs_.erase(as<cuGraphExecDestroy_args>(args).hGraphExec);
            break;
        case Proc::cuGraphExecUpdate_v1: {
            const auto& message = as<cuGraphExecUpdate_args>(args);
            updated(call, message.hGraphExec, message.hGraph);
            break;
        }
        case Proc::cuGraphExecUpdate_v2: {
            const auto& message = as<cuGraphExecUpdate_v2_args>(args);
            updated(call, message.hGraphExec, message.hGraph);
            break;
        }
        case Proc::cuGraphExecNodeSetParams: {
            const auto& message = as<cuGraphExecNodeSetParams_args>(args);
            Change change{procedure, 0, 0, message.legacy != 0, copy(message.params), copy(message.data), nullptr};
            CUgraphNodeParams params{};
            if (change.params.size() == sizeof params) std::memcpy(static_cast<void*>(&params), change.params.data(), sizeof params);
            if (params.type == CU_GRAPH_NODE_TYPE_GRAPH) change.child = source_of(call, graph_of(to_number(params.graph.graph)));
            changed(call, message.hGraphExec, message.hNode, std::move(change));
            break;
        }
        case Proc::cuGraphExecChildGraphNodeSetParams: {
            const auto& message = as<cuGraphExecChildGraphNodeSetParams_args>(args);
            changed(call, message.hGraphExec, message.hNode,
                    {procedure, 0, 0, false, {}, {}, source_of(call, graph_of(message.childGraph))});
            break;
        }
        case Proc::cuGraphExecEventRecordNodeSetEvent: {
            const auto& message = as<cuGraphExecEventRecordNodeSetEvent_args>(args);
            changed(call, message.hGraphExec, message.hNode, {procedure, 0, message.event, false, {}, {}, nullptr});
            break;
        }
        case Proc::cuGraphExecEventWaitNodeSetEvent: {
            const auto& message = as<cuGraphExecEventWaitNodeSetEvent_args>(args);
            changed(call, message.hGraphExec, message.hNode, {procedure, 0, message.event, false, {}, {}, nullptr});
            break;
        }
        case Proc::cuGraphNodeSetEnabled: {
            const auto& message = as<cuGraphNodeSetEnabled_args>(args);
            if (const auto found = execs_.find(message.hGraphExec); found != execs_.end())
                found->second.enabled[node_of(message.hNode)] = message.isEnabled != 0;
            break;
        }
        case Proc::cuUserObjectCreate: {
            const auto& message = as<cuUserObjectCreate_args>(args);
            user_objects_[as<cuUserObjectCreate_res>(res).object_out] = {message.id, message.flags, message.initialRefcount};
            break;
        }
        case Proc::cuUserObjectRetain: {
            const auto& message = as<cuUserObjectRetain_args>(args);
            if (const auto found = user_objects_.find(message.object); found != user_objects_.end())
                found->second.references += message.count;
            break;
        }
        case Proc::cuUserObjectRelease: {
            const auto& message = as<cuUserObjectRelease_args>(args);
            if (const auto found = user_objects_.find(message.object); found != user_objects_.end())
                found->second.references -= message.count;
            break;
        }
        case Proc::cuGraphRetainUserObject: {
            const auto& message = as<cuGraphRetainUserObject_args>(args);
            graph_objects_[graph_of(message.graph)].own[message.object] += message.count;
            const auto found = user_objects_.find(message.object);
            if (found != user_objects_.end() && message.flags & CU_GRAPH_USER_OBJECT_MOVE) found->second.references -= message.count;
            break;
        }
        case Proc::cuGraphReleaseUserObject: {
            const auto& message = as<cuGraphReleaseUserObject_args>(args);
            auto& own = graph_objects_[graph_of(message.graph)].own;
            if (const auto found = own.find(message.object); found != own.end())
                if ((found->second -= std::min(found->second, message.count)) == 0) own.erase(found);
            break;
        }
        default:
            break;
    }
}

}  // namespace cricket::server
