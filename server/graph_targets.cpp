// SPDX-License-Identifier: MIT
#include "graph_targets.h"

#include <cstring>

#include "dispatch.h"
#include "graph_node_kinds.h"
#include "graph_nodes.h"
#include "session.h"

namespace cricket::server {
namespace {

template <class T>
const T& as(const void* message) {
    return *static_cast<const T*>(message);
}

}  // namespace

bool GraphTargets::concerns(uint32_t procedure) {
    switch (static_cast<Proc>(procedure)) {
        case Proc::cuGraphLaunch:
        case Proc::cuGraphInstantiate_v1:
        case Proc::cuGraphInstantiate_v2:
        case Proc::cuGraphInstantiateWithFlags:
        case Proc::cuGraphInstantiateWithParams:
        case Proc::cuGraphExecUpdate_v1:
        case Proc::cuGraphExecUpdate_v2:
        case Proc::cuGraphExecNodeSetParams:
        case Proc::cuGraphExecChildGraphNodeSetParams:
            return true;
        default:
            return false;
    }
}

void GraphTargets::collect(Session& session, CUgraph graph, Targets* out) {
    std::vector<CUgraphNode> nodes;
    list_nodes(session.driver, graph, &nodes);
    for (CUgraphNode node : nodes) {
        CUgraphNodeType type{};
        if (session.driver.cuGraphNodeGetType(node, &type) != CUDA_SUCCESS) continue;
        for (CUgraph inside : graphs_inside(session, node)) collect(session, inside, out);
        CUgraphNodeParams params{};
        const auto host_targets = node_kind(type).host_targets;
        if (!host_targets || driver_node_params(session.driver, node, type, &params) != CUDA_SUCCESS) continue;
        if (std::vector<HostRange> lines = host_targets(params); !lines.empty()) (*out)[node] = std::move(lines);
    }
}

void GraphTargets::made(Session& session, CUgraphExec exec, CUgraph graph) {
    Targets targets;
    // Without host memory that the device reaches there is nothing to find.
    if (graph && !session.host_memory.ranges().empty()) collect(session, graph, &targets);
    if (targets.empty())
        execs_.erase(exec);
    else
        execs_[exec] = std::move(targets);
}

void GraphTargets::child_changed(Session& session, CUgraphExec exec, CUgraphNode node, CUgraph child) {
    Targets before, now;
    CUgraph was = nullptr;
    if (session.driver.cuGraphChildGraphNodeGetGraph(node, &was) == CUDA_SUCCESS) collect(session, was, &before);
    if (child) collect(session, child, &now);
    Targets& targets = execs_[exec];
    for (const auto& [old, lines] : before) targets.erase(old);
    std::vector<HostRange>& all = targets[node];  // under the node itself: whose nodes these are changes
    all.clear();
    for (const auto& [one, lines] : now) all.insert(all.end(), lines.begin(), lines.end());
}

void GraphTargets::launched(Call& call, CUgraphExec exec, uint64_t stream_number) {
    const auto found = execs_.find(exec);
    CUstream stream = nullptr;
    if (found == execs_.end() || !call.stream(stream_number, &stream) || call.session.captures.capturing(stream)) return;
    std::vector<HostRange> all;
    for (const auto& [node, lines] : found->second) all.insert(all.end(), lines.begin(), lines.end());
    if (!all.empty()) call.session.copied_to_host(std::move(all), stream, true);
}

void GraphTargets::after(Call& call, Proc procedure, const void* args, const void* res) {
    const auto exec_of = [&](uint64_t number) { return static_cast<CUgraphExec>(call.objects.get(HandleKind::GraphExec, number)); };
    const auto graph_of = [&](uint64_t number) { return static_cast<CUgraph>(call.objects.get(HandleKind::Graph, number)); };
    const auto node_of = [&](uint64_t number) { return static_cast<CUgraphNode>(call.objects.get(HandleKind::GraphNode, number)); };
    const auto note = [&](uint64_t exec, uint64_t graph) { made(call.session, exec_of(exec), graph_of(graph)); };
    switch (procedure) {
        case Proc::cuGraphLaunch: {
            const auto& launch = as<cuGraphLaunch_args>(args);
            if (!execs_.empty()) launched(call, exec_of(launch.hGraph), launch.hStream);
            break;
        }
        case Proc::cuGraphInstantiate_v1:
            note(as<cuGraphInstantiate_res>(res).phGraphExec, as<cuGraphInstantiate_args>(args).hGraph);
            break;
        case Proc::cuGraphInstantiate_v2:
            note(as<cuGraphInstantiate_v2_res>(res).phGraphExec, as<cuGraphInstantiate_v2_args>(args).hGraph);
            break;
        case Proc::cuGraphInstantiateWithFlags:
            note(as<cuGraphInstantiateWithFlags_res>(res).phGraphExec, as<cuGraphInstantiateWithFlags_args>(args).hGraph);
            break;
        case Proc::cuGraphInstantiateWithParams:
            note(as<cuGraphInstantiateWithParams_res>(res).phGraphExec, as<cuGraphInstantiateWithParams_args>(args).hGraph);
            break;
        case Proc::cuGraphExecUpdate_v1:
            note(as<cuGraphExecUpdate_args>(args).hGraphExec, as<cuGraphExecUpdate_args>(args).hGraph);
            break;
        case Proc::cuGraphExecUpdate_v2:
            note(as<cuGraphExecUpdate_v2_args>(args).hGraphExec, as<cuGraphExecUpdate_v2_args>(args).hGraph);
            break;
        case Proc::cuGraphExecNodeSetParams: {
            const auto& change = as<cuGraphExecNodeSetParams_args>(args);
            CUgraphNodeParams params;
            if (change.params.size != sizeof params) break;
            std::memcpy(static_cast<void*>(&params), change.params.data, sizeof params);
            const auto host_targets = node_kind(params.type).host_targets;
            if (!host_targets) break;
            std::vector<HostRange> lines = host_targets(params);
            if (!lines.empty())
                execs_[exec_of(change.hGraphExec)][node_of(change.hNode)] = std::move(lines);
            else if (const auto found = execs_.find(exec_of(change.hGraphExec)); found != execs_.end())
                found->second.erase(node_of(change.hNode));
            break;
        }
        case Proc::cuGraphExecChildGraphNodeSetParams: {
            const auto& change = as<cuGraphExecChildGraphNodeSetParams_args>(args);
            child_changed(call.session, exec_of(change.hGraphExec), node_of(change.hNode), graph_of(change.childGraph));
            break;
        }
        default:
            break;
    }
}

}  // namespace cricket::server
