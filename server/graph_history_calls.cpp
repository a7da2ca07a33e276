// SPDX-License-Identifier: MIT
// Which calls change the history of graphs, and how: a row a procedure, with what happens before the driver makes the call and what
// after it did.
#include <algorithm>
#include <array>
#include <cstring>

#include "dispatch.h"
#include "graph_history.h"
#include "session.h"

namespace cricket::server {
namespace {

template <class Args>
bool parameters_of(const Args& args, CUgraphNodeParams* params) {
    if (args.params.size != sizeof *params) return false;
    std::memcpy(static_cast<void*>(params), args.params.data, sizeof *params);
    return true;
}

template <class Args>
bool is_child_graph(const Args& args, CUgraphNodeParams* params) {
    return parameters_of(args, params) && params->type == CU_GRAPH_NODE_TYPE_GRAPH;
}

std::vector<std::byte> bytes_of(const rpc::Blob& blob) {
    const auto* from = static_cast<const std::byte*>(blob.data);
    return {from, from + blob.size};
}

}  // namespace

// What to do about one procedure, with its messages.
struct GraphHistory::Watch {
    void (*before)(GraphHistory&, Call&, void* args) = nullptr;
    void (*after)(GraphHistory&, Call&, const void* args, void* res) = nullptr;
    bool after_failure = false;  // else after() is for calls that succeeded
};

class GraphHistory::Watches {
  public:
    constexpr Watches() {
        changes_of_graphs();
        changes_of_nodes();
        executables();
        changes_of_executables();
        user_objects();
    }
    constexpr const Watch& operator[](uint32_t procedure) const { return rows_[procedure - wire::first_cuda_proc]; }

  private:
    constexpr void changes_of_graphs();
    constexpr void changes_of_nodes();
    constexpr void executables();
    constexpr void changes_of_executables();
    constexpr void user_objects();

    constexpr Watch& row(Proc procedure) { return rows_[static_cast<uint32_t>(procedure) - wire::first_cuda_proc]; }

    // A row's functions are lambdas without captures, which take the procedure's own messages.
    template <class F>
    constexpr void before(Proc procedure, F) {
        set_before<F>(procedure, &F::operator());
    }
    template <class F>
    constexpr void after(Proc procedure, F) {
        set_after<F>(procedure, &F::operator());
    }
    template <class F, class Args>
    constexpr void set_before(Proc procedure, void (F::*)(GraphHistory&, Call&, Args&) const) {
        row(procedure).before = [](GraphHistory& history, Call& call, void* args) { F{}(history, call, *static_cast<Args*>(args)); };
    }
    template <class F, class Args, class Res>
    constexpr void set_after(Proc procedure, void (F::*)(GraphHistory&, Call&, const Args&, Res&) const) {
        row(procedure).after = [](GraphHistory& history, Call& call, const void* args, void* res) {
            F{}(history, call, *static_cast<const Args*>(args), *static_cast<Res*>(res));
        };
    }

    // The graph `hGraph` gets other nodes or edges.
    template <class Args>
    constexpr void restructures(Proc procedure) {
        before(procedure, [](GraphHistory& history, Call& call, Args& args) {
            history.structure_changes(call, history.graph_of(args.hGraph));
        });
    }
    template <class Args>
    constexpr void changes_node(Proc procedure) {
        before(procedure, [](GraphHistory& history, Call& call, Args& args) {
            history.node_changes(call, history.node_of(args.hNode));
        });
    }
    // The node that an executable is asked about may be one of a graph that stands in for the application's.
    template <class Args>
    constexpr void names_node_of_exec(Proc procedure) {
        before(procedure, [](GraphHistory& history, Call&, Args& args) {
            const auto exec = history.execs_.find(args.hGraphExec);
            if (exec == history.execs_.end() || exec->second.stand_ins.empty()) return;
            CUgraphNode node = history.node_of(args.hNode);
            const auto found = exec->second.stand_ins.find(node);
            if (node && found != exec->second.stand_ins.end())
                args.hNode = history.session_.objects.add(HandleKind::GraphNode, found->second);
        });
    }
    template <class Args, class Res>
    constexpr void instantiates(Proc procedure) {
        after(procedure, [](GraphHistory& history, Call& call, const Args& args, Res& res) {
            uint64_t flags = 0;
            if constexpr (requires { args.flags; }) flags = args.flags;
            if (res.phGraphExec) history.made(call, res.phGraphExec, args.hGraph, flags);
        });
    }
    template <class Args, class Res>
    constexpr void updates(Proc procedure) {
        after(procedure, [](GraphHistory& history, Call& call, const Args& args, Res&) {
            history.updated(call, args.hGraphExec, args.hGraph);
        });
    }
    template <class Args, class Res, Proc procedure>
    constexpr void sets_event_of_exec() {
        names_node_of_exec<Args>(procedure);
        after(procedure, [](GraphHistory& history, Call& call, const Args& args, Res&) {
            Change change;
            change.procedure = procedure;
            change.event = args.event;
            history.changed(call, args.hGraphExec, args.hNode, std::move(change));
        });
    }

    std::array<Watch, dispatch_count> rows_{};
};

constexpr void GraphHistory::Watches::changes_of_graphs() {
    before(Proc::cuGraphAddNode_v2, [](GraphHistory& history, Call& call, cuGraphAddNode_v2_args& args) {
        CUgraphNodeParams params;
        history.structure_changes(call, history.graph_of(args.hGraph));
        if (!args.legacy && is_child_graph(args, &params) && params.graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE)
            history.structure_changes(call, history.graph_of(to_number(params.graph.graph)));
    });
    after(Proc::cuGraphAddNode_v2, [](GraphHistory& history, Call&, const cuGraphAddNode_v2_args& args, cuGraphAddNode_v2_res&) {
        CUgraphNodeParams params;
        if (is_child_graph(args, &params)) history.child_added(history.graph_of(args.hGraph), to_number(params.graph.graph));
    });
    restructures<cuGraphAddEmptyNode_args>(Proc::cuGraphAddEmptyNode);
    restructures<cuGraphAddDependencies_args>(Proc::cuGraphAddDependencies_v1);
    restructures<cuGraphAddDependencies_v2_args>(Proc::cuGraphAddDependencies_v2);
    restructures<cuGraphRemoveDependencies_args>(Proc::cuGraphRemoveDependencies_v1);
    restructures<cuGraphRemoveDependencies_v2_args>(Proc::cuGraphRemoveDependencies_v2);
    restructures<cuStreamBeginCaptureToGraph_args>(Proc::cuStreamBeginCaptureToGraph);
    restructures<cuGraphConditionalHandleCreate_args>(Proc::cuGraphConditionalHandleCreate);
    after(Proc::cuGraphConditionalHandleCreate, [](GraphHistory& history, Call&, const cuGraphConditionalHandleCreate_args& args,
                                                   cuGraphConditionalHandleCreate_res& res) {
        history.session_.conditional_handles[args.hGraph].push_back({res.pHandle_out, args.ctx, args.defaultLaunchValue, args.flags});
    });
    before(Proc::cuGraphDestroyNode, [](GraphHistory& history, Call& call, cuGraphDestroyNode_args& args) {
        history.node_goes(call, history.node_of(args.hNode));
    });
    after(Proc::cuGraphClone, [](GraphHistory& history, Call&, const cuGraphClone_args& args, cuGraphClone_res& res) {
        CUgraph original = history.graph_of(args.originalGraph);
        CUgraph clone = history.graph_of(res.phGraphClone);
        history.clone_of_[clone] = original;
        if (const auto found = history.graph_objects_.find(original); found != history.graph_objects_.end()) {
            const GraphObjects copy = found->second;
            history.graph_objects_[clone] = copy;
        }
    });
    // The driver does not know of a clone that was made again on its own.
    row(Proc::cuGraphNodeFindInClone).after_failure = true;
    after(Proc::cuGraphNodeFindInClone,
          [](GraphHistory& history, Call&, const cuGraphNodeFindInClone_args& args, cuGraphNodeFindInClone_res& res) {
              if (res.status == CUDA_SUCCESS || history.clones_.empty()) return;
              const auto clone = history.clones_.find(history.graph_of(args.hClonedGraph));
              if (clone == history.clones_.end()) return;
              const auto node = clone->second.find(history.node_of(args.hOriginalNode));
              if (node == clone->second.end()) return;
              res.status = CUDA_SUCCESS;
              res.phNode = history.session_.objects.add(HandleKind::GraphNode, node->second);
          });
}

constexpr void GraphHistory::Watches::changes_of_nodes() {
    before(Proc::cuGraphNodeSetParams, [](GraphHistory& history, Call& call, cuGraphNodeSetParams_args& args) {
        CUgraphNodeParams params;
        CUgraphNode node = history.node_of(args.hNode);
        if (!is_child_graph(args, &params)) {
            history.node_changes(call, node);
        } else if (!history.execs_.empty()) {
            if (const SourceRef source = history.holding(node)) history.freeze(call, source);
        }
    });
    before(Proc::cuGraphKernelNodeCopyAttributes, [](GraphHistory& history, Call& call, cuGraphKernelNodeCopyAttributes_args& args) {
        history.node_changes(call, history.node_of(args.dst));
    });
    changes_node<cuGraphKernelNodeSetAttribute_args>(Proc::cuGraphKernelNodeSetAttribute);
    changes_node<cuGraphEventRecordNodeSetEvent_args>(Proc::cuGraphEventRecordNodeSetEvent);
    changes_node<cuGraphEventWaitNodeSetEvent_args>(Proc::cuGraphEventWaitNodeSetEvent);
}

constexpr void GraphHistory::Watches::executables() {
    instantiates<cuGraphInstantiate_args, cuGraphInstantiate_res>(Proc::cuGraphInstantiate_v1);
    instantiates<cuGraphInstantiate_v2_args, cuGraphInstantiate_v2_res>(Proc::cuGraphInstantiate_v2);
    instantiates<cuGraphInstantiateWithFlags_args, cuGraphInstantiateWithFlags_res>(Proc::cuGraphInstantiateWithFlags);
    instantiates<cuGraphInstantiateWithParams_args, cuGraphInstantiateWithParams_res>(Proc::cuGraphInstantiateWithParams);
    updates<cuGraphExecUpdate_args, cuGraphExecUpdate_res>(Proc::cuGraphExecUpdate_v1);
    updates<cuGraphExecUpdate_v2_args, cuGraphExecUpdate_v2_res>(Proc::cuGraphExecUpdate_v2);
    after(Proc::cuGraphExecDestroy, [](GraphHistory& history, Call&, const cuGraphExecDestroy_args& args, cuGraphExecDestroy_res&) {
        history.execs_.erase(args.hGraphExec);
    });
}

constexpr void GraphHistory::Watches::changes_of_executables() {
    names_node_of_exec<cuGraphExecNodeSetParams_args>(Proc::cuGraphExecNodeSetParams);
    after(Proc::cuGraphExecNodeSetParams,
          [](GraphHistory& history, Call& call, const cuGraphExecNodeSetParams_args& args, cuGraphExecNodeSetParams_res&) {
              Change change;
              CUgraphNodeParams params;
              change.procedure = Proc::cuGraphExecNodeSetParams;
              change.legacy = args.legacy != 0;
              change.params = bytes_of(args.params);
              change.data = bytes_of(args.data);
              if (is_child_graph(args, &params)) change.child = history.source_of(call, history.graph_of(to_number(params.graph.graph)));
              history.changed(call, args.hGraphExec, args.hNode, std::move(change));
          });
    names_node_of_exec<cuGraphExecChildGraphNodeSetParams_args>(Proc::cuGraphExecChildGraphNodeSetParams);
    after(Proc::cuGraphExecChildGraphNodeSetParams, [](GraphHistory& history, Call& call, const cuGraphExecChildGraphNodeSetParams_args& args,
                                                       cuGraphExecChildGraphNodeSetParams_res&) {
        Change change;
        change.procedure = Proc::cuGraphExecChildGraphNodeSetParams;
        change.child = history.source_of(call, history.graph_of(args.childGraph));
        history.changed(call, args.hGraphExec, args.hNode, std::move(change));
    });
    sets_event_of_exec<cuGraphExecEventRecordNodeSetEvent_args, cuGraphExecEventRecordNodeSetEvent_res,
                       Proc::cuGraphExecEventRecordNodeSetEvent>();
    sets_event_of_exec<cuGraphExecEventWaitNodeSetEvent_args, cuGraphExecEventWaitNodeSetEvent_res,
                       Proc::cuGraphExecEventWaitNodeSetEvent>();
    names_node_of_exec<cuGraphNodeGetEnabled_args>(Proc::cuGraphNodeGetEnabled);
    names_node_of_exec<cuGraphNodeSetEnabled_args>(Proc::cuGraphNodeSetEnabled);
    after(Proc::cuGraphNodeSetEnabled,
          [](GraphHistory& history, Call&, const cuGraphNodeSetEnabled_args& args, cuGraphNodeSetEnabled_res&) {
              if (const auto found = history.execs_.find(args.hGraphExec); found != history.execs_.end())
                  found->second.enabled[history.node_of(args.hNode)] = args.isEnabled != 0;
          });
}

constexpr void GraphHistory::Watches::user_objects() {
    after(Proc::cuUserObjectCreate, [](GraphHistory& history, Call&, const cuUserObjectCreate_args& args, cuUserObjectCreate_res& res) {
        history.user_objects_[res.object_out] = {args.id, args.flags, args.initialRefcount};
    });
    after(Proc::cuUserObjectRetain, [](GraphHistory& history, Call&, const cuUserObjectRetain_args& args, cuUserObjectRetain_res&) {
        if (const auto found = history.user_objects_.find(args.object); found != history.user_objects_.end())
            found->second.references += args.count;
    });
    after(Proc::cuUserObjectRelease, [](GraphHistory& history, Call&, const cuUserObjectRelease_args& args, cuUserObjectRelease_res&) {
        if (const auto found = history.user_objects_.find(args.object); found != history.user_objects_.end())
            found->second.references -= args.count;
    });
    after(Proc::cuGraphRetainUserObject,
          [](GraphHistory& history, Call&, const cuGraphRetainUserObject_args& args, cuGraphRetainUserObject_res&) {
              history.graph_objects_[history.graph_of(args.graph)].own[args.object] += args.count;
              const auto found = history.user_objects_.find(args.object);
              if (found != history.user_objects_.end() && args.flags & CU_GRAPH_USER_OBJECT_MOVE) found->second.references -= args.count;
          });
    after(Proc::cuGraphReleaseUserObject,
          [](GraphHistory& history, Call&, const cuGraphReleaseUserObject_args& args, cuGraphReleaseUserObject_res&) {
              auto& own = history.graph_objects_[history.graph_of(args.graph)].own;
              if (const auto found = own.find(args.object); found != own.end())
                  if ((found->second -= std::min(found->second, args.count)) == 0) own.erase(found);
          });
}

const GraphHistory::Watch& GraphHistory::watch(Proc procedure) {
    static constexpr Watches watches;
    return watches[static_cast<uint32_t>(procedure)];
}

bool GraphHistory::concerns(uint32_t procedure) {
    if (procedure - wire::first_cuda_proc >= dispatch_count) return false;
    const Watch& row = watch(static_cast<Proc>(procedure));
    return row.before || row.after;
}

void GraphHistory::before(Call& call, Proc procedure, void* args) {
    if (const auto act = watch(procedure).before) act(*this, call, args);
}

void GraphHistory::after(Call& call, Proc procedure, const void* args, void* res) {
    const Watch& row = watch(procedure);
    const bool ok = *static_cast<int32_t*>(res) == CUDA_SUCCESS;  // every result begins with its status
    if (row.after && (ok || row.after_failure)) row.after(*this, call, args, res);
}

}  // namespace cricket::server
