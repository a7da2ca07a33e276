// SPDX-License-Identifier: MIT
// Executable graphs: a launch makes one operation of the whole graph, whose steps run one after the other in
// an order that the edges allow.
#include <algorithm>
#include <unordered_map>

#include "capture.h"
#include "event.h"
#include "memory.h"

namespace softgpu {
namespace {

struct Exec {
    std::shared_ptr<Graph> graph;   // a copy without handles
    std::shared_ptr<Graph> source;  // what it was made of, which counts it
    cuuint64_t flags = 0;

    ~Exec() { --source->executables; }
};

using Execs = Registry<Exec, CUgraphExec, 0x7c0b>;
Execs& execs() {
    return immortal<Execs>();
}
std::shared_ptr<Exec> exec(CUgraphExec handle) {
    return execs().get(handle, CUDA_ERROR_INVALID_VALUE);
}

// Calls visit for each node, those of inner graphs included.
template <typename Visit>
void each_node(const Graph& graph, Visit visit) {
    for (auto& node : graph.nodes) {
        visit(*node);
        if (auto child = std::get_if<ChildStep>(&node->step)) each_node(*child->graph, visit);
        if (auto conditional = std::get_if<ConditionalStep>(&node->step))
            for (auto& body : conditional->bodies) each_node(*body, visit);
    }
}

// The node of an executable graph that was made of this one.
Node& counterpart(const Exec& exec, CUgraphNode original) {
    node(original);
    Node* found = nullptr;
    each_node(*exec.graph, [&](Node& candidate) {
        if (candidate.original == original) found = &candidate;
    });
    require(found != nullptr);
    return *found;
}

// What a launch does. Everything is looked up when the launch is submitted, so that later changes of the
// graph are none of it.
using Plan = std::vector<Action>;

void run(const Plan& plan) {
    for (auto& step : plan) step();
}

using ConditionsRef = std::shared_ptr<const Conditions>;

void prepare(const Graph& graph, const ConditionsRef& conditions, Plan& plan);

Action conditional_action(const ConditionalStep& step, const ConditionsRef& conditions) {
    std::vector<Plan> bodies;
    for (auto& body : step.bodies) prepare(*body, conditions, bodies.emplace_back());
    return [condition = step.condition, type = step.type, bodies = std::move(bodies)] {
        unsigned value = condition->value;
        if (type == CU_GRAPH_COND_TYPE_WHILE) {
            while (condition->value) run(bodies[0]);
        } else if (type == CU_GRAPH_COND_TYPE_IF) {
            if (value)
                run(bodies[0]);
            else if (bodies.size() > 1)
                run(bodies[1]);
        } else if (value < bodies.size()) {
            run(bodies[value]);
        }
    };
}

// `conditions`: of the whole executable graph.
void prepare(const Graph& graph, const ConditionsRef& conditions, Plan& plan) {
    struct Visitor {
        const ConditionsRef& conditions;
        Plan& plan;

        void operator()(const EmptyStep&) {}
        void operator()(const KernelStep& step) { plan.push_back(action(step, 0, conditions)); }
        void operator()(const MemcpyStep& step) { plan.push_back(action(step)); }
        void operator()(const MemsetStep& step) { plan.push_back(action(step)); }
        void operator()(const HostStep& step) { plan.push_back(action(step)); }
        void operator()(const MemOpsStep& step) { plan.push_back(action(step)); }
        void operator()(const ChildStep& step) { prepare(*step.graph, conditions, plan); }
        void operator()(const ConditionalStep& step) { plan.push_back(conditional_action(step, conditions)); }
        void operator()(const EventWaitStep& step) {
            if (auto wait = wait_action(*step.event)) plan.push_back(std::move(wait));
        }
        void operator()(const EventRecordStep& step) {
            step.event->capture = {};
            plan.push_back(record_action(step.event));
        }
        void operator()(const AllocStep& step) {
            step.allocation->outstanding = true;
            plan.push_back(allocate_action(step.allocation));
        }
        void operator()(const FreeStep& step) {
            auto allocation = step.allocation.lock();
            require(allocation && allocation->outstanding);
            allocation->outstanding = false;
            plan.push_back(free_action(allocation));
        }
    };
    for (auto node : graph.order())
        if (node->enabled) std::visit(Visitor{conditions, plan}, node->step);
}

ConditionsRef conditions_of(const Graph& graph) {
    auto all = std::make_shared<Conditions>();
    auto add = [&](const Graph& of) {
        for (auto& condition : of.conditionals) all->emplace(condition->handle, condition);
    };
    add(graph);
    each_node(graph, [&](Node& node) {
        if (auto child = std::get_if<ChildStep>(&node.step)) add(*child->graph);
        if (auto conditional = std::get_if<ConditionalStep>(&node.step))
            for (auto& body : conditional->bodies) add(*body);
    });
    return all;
}

void launch(const std::shared_ptr<Exec>& exec, const std::shared_ptr<Stream>& on) {
    if (capturing(*on)) {
        require(!exec->graph->has_memory_nodes() && !exec->graph->has(CU_GRAPH_NODE_TYPE_CONDITIONAL),
                CUDA_ERROR_NOT_SUPPORTED);
        captured(on, ChildStep{clone(*exec->graph, true)});
        return;
    }
    std::vector<std::shared_ptr<GraphAllocation>> left;  // by the launch before
    each_node(*exec->graph, [&](Node& node) {
        auto alloc = std::get_if<AllocStep>(&node.step);
        if (alloc && alloc->allocation->outstanding) left.push_back(alloc->allocation);
    });
    require(left.empty() || (exec->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH));
    auto plan = std::make_shared<Plan>();
    // All of it first: it may be in the place of what the graph allocates earlier.
    for (auto& allocation : left) {
        allocation->outstanding = false;
        plan->push_back(free_action(allocation));
    }
    auto conditions = conditions_of(*exec->graph);
    prepare(*exec->graph, conditions, *plan);
    // The executable graph may be destroyed while this runs: what it holds must stay.
    on->submit([exec, plan, conditions] {
        for (auto& [handle, condition] : *conditions)
            if (condition->assign_default) condition->value = condition->default_value;
        run(*plan);
    });
}

constexpr cuuint64_t kKnownFlags =
    CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
    CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;

bool acyclic(const Graph& graph) {
    if (graph.order().size() != graph.nodes.size()) return false;
    bool inner = true;
    each_node(graph, [&](Node& node) {
        if (auto child = std::get_if<ChildStep>(&node.step))
            inner = inner && child->graph->order().size() == child->graph->nodes.size();
        if (auto conditional = std::get_if<ConditionalStep>(&node.step))
            for (auto& body : conditional->bodies)
                inner = inner && body->order().size() == body->nodes.size();
    });
    return inner;
}

CUgraphExec instantiate(CUgraph handle, cuuint64_t flags, CUgraphInstantiateResult& why,
                        CUgraphNode& culprit) {
    why = CUDA_GRAPH_INSTANTIATE_ERROR;
    culprit = nullptr;
    auto source = graph(handle);
    require((flags & ~kKnownFlags) == 0);
    require(!((flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) &&
              (flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH)));
    require(!source->capturing, CUDA_ERROR_ILLEGAL_STATE);
    if (!acyclic(*source)) {
        why = CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE;
        if (!source->nodes.empty()) culprit = source->nodes.front()->handle;
        fail(CUDA_ERROR_INVALID_VALUE);
    }
    bool single = source->has_memory_nodes() || source->has(CU_GRAPH_NODE_TYPE_CONDITIONAL);
    require(!single || source->executables == 0);
    each_node(*source, [&](Node& node) {
        auto type = node.type();
        if (!(flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH)) return;
        if (type == CU_GRAPH_NODE_TYPE_KERNEL || type == CU_GRAPH_NODE_TYPE_MEMCPY ||
            type == CU_GRAPH_NODE_TYPE_MEMSET || type == CU_GRAPH_NODE_TYPE_GRAPH)
            return;
        why = CUDA_GRAPH_INSTANTIATE_NODE_OPERATION_NOT_SUPPORTED;
        culprit = node.handle;
        fail(CUDA_ERROR_NOT_SUPPORTED);
    });
    for (auto& condition : source->conditionals) {
        bool used = false;
        each_node(*source, [&](Node& node) {
            auto conditional = std::get_if<ConditionalStep>(&node.step);
            used = used || (conditional && conditional->condition == condition);
        });
        if (used) continue;
        why = CUDA_GRAPH_INSTANTIATE_CONDITIONAL_HANDLE_UNUSED;
        fail(CUDA_ERROR_INVALID_VALUE);
    }
    auto made = std::make_shared<Exec>();
    if (block_bytes()) module_addresses().allocate(block_bytes(), block_bytes());  // never given back
    ++source->executables;
    made->source = source;
    made->graph = clone(*source, false);
    made->flags = flags;
    why = CUDA_GRAPH_INSTANTIATE_SUCCESS;
    return execs().add(std::move(made));
}

// Pairs the nodes of two graphs, from the last ones back along the edges.
class Pairing {
  public:
    CUgraphExecUpdateResult result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
    Node *culprit = nullptr, *from = nullptr;
    std::vector<std::pair<Node*, Node*>> pairs;

    bool add(const Graph& mine, const Graph& other) {
        if (mine.nodes.size() != other.nodes.size())
            return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, nullptr);
        std::vector<Node*> my_ends, its_ends;
        for (auto& node : mine.nodes)
            if (node->after.empty()) my_ends.push_back(node.get());
        for (auto& node : other.nodes)
            if (node->after.empty()) its_ends.push_back(node.get());
        if (my_ends.size() != its_ends.size())
            return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED,
                        its_ends.empty() ? nullptr : its_ends.back());
        for (size_t i = 0; i < my_ends.size(); ++i)
            if (!pair(my_ends[i], its_ends[i], nullptr)) return false;
        return true;
    }

  private:
    std::unordered_map<Node*, Node*> partner_;

    bool fail(CUgraphExecUpdateResult why, Node* node, Node* from_node = nullptr) {
        result = why;
        culprit = node;
        from = from_node;
        return false;
    }

    bool pair(Node* mine, Node* its, Node* dependent) {
        auto [a, new_a] = partner_.emplace(mine, its);
        auto [b, new_b] = partner_.emplace(its, mine);
        if (!new_a || !new_b) {
            if (a->second == its && b->second == mine) return true;
            return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, dependent, its);
        }
        pairs.push_back({mine, its});
        if (mine->type() != its->type()) return fail(CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED, its);
        if (mine->before.size() != its->before.size())
            return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, its);
        if (auto why = may_change(mine->step, its->step)) return fail(why, its);
        if (auto child = std::get_if<ChildStep>(&mine->step))
            if (!add(*child->graph, *std::get<ChildStep>(its->step).graph)) return false;
        if (auto conditional = std::get_if<ConditionalStep>(&mine->step))
            for (size_t i = 0; i < conditional->bodies.size(); ++i)
                if (!add(*conditional->bodies[i], *std::get<ConditionalStep>(its->step).bodies[i]))
                    return false;
        for (size_t i = 0; i < mine->before.size(); ++i)
            if (!pair(mine->before[i].node, its->before[i].node, its)) return false;
        return true;
    }
};

void take_over(const Pairing& pairing) {
    for (auto& [mine, its] : pairing.pairs) {
        bool container = std::holds_alternative<ChildStep>(mine->step) ||
                         std::holds_alternative<ConditionalStep>(mine->step);
        if (!container) mine->step = its->step;
    }
}

template <typename T, typename Make>
CUresult set(CUgraphExec handle, CUgraphNode original, Make make) {
    return graph_api([&] {
        auto& of = counterpart(*exec(handle), original);
        step_of<T>(of);
        change(of, make(), true);
    });
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuGraphInstantiateWithParams(CUgraphExec* out, CUgraph handle, CUDA_GRAPH_INSTANTIATE_PARAMS* p) {
    return graph_api([&] {
        require(out && p);
        *out = instantiate(handle, p->flags, p->result_out, p->hErrNode_out);
        if (p->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) stream(p->hUploadStream)->mark();
    });
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph handle, unsigned long long flags) {
    return graph_api([&] {
        require(out && !(flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD));
        CUgraphInstantiateResult why;
        CUgraphNode culprit;
        *out = instantiate(handle, flags, why, culprit);
    });
}

CUresult cuGraphInstantiate_v2(CUgraphExec* out, CUgraph handle, CUgraphNode* culprit, char* log,
                               size_t size) {
    return graph_api([&] {
        require(out);
        CUgraphInstantiateResult why;
        CUgraphNode node = nullptr;
        if (culprit) *culprit = nullptr;
        if (log && size) *log = 0;
        try {
            *out = instantiate(handle, 0, why, node);
        } catch (...) {
            if (culprit) *culprit = node;
            throw;
        }
    });
}

CUresult cuGraphInstantiate(CUgraphExec* out, CUgraph graph, CUgraphNode* culprit, char* log, size_t size) {
    return cuGraphInstantiate_v2(out, graph, culprit, log, size);
}

CUresult cuGraphExecGetFlags(CUgraphExec handle, cuuint64_t* flags) {
    return graph_api([&] {
        require(flags);
        *flags = exec(handle)->flags;
    });
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
    return graph_api([&] { execs().remove(handle, CUDA_ERROR_INVALID_VALUE); });
}

CUresult cuGraphUpload(CUgraphExec handle, CUstream on) {
    return graph_api([&] {
        exec(handle);
        auto s = stream(on);
        if (!capturing(*s)) s->mark();
    });
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream on) {
    return graph_api([&] { launch(exec(handle), stream(on)); });
}

CUresult cuGraphExecUpdate_v2(CUgraphExec handle, CUgraph graph_handle, CUgraphExecUpdateResultInfo* info) {
    return graph_api([&] {
        require(info);
        *info = {CU_GRAPH_EXEC_UPDATE_ERROR, nullptr, nullptr};
        auto target = exec(handle);
        auto from = graph(graph_handle);
        Pairing pairing;
        if (!pairing.add(*target->graph, *from)) {
            info->result = pairing.result;
            info->errorNode = pairing.culprit ? pairing.culprit->handle : nullptr;
            info->errorFromNode = pairing.from ? pairing.from->handle : nullptr;
            fail(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
        }
        take_over(pairing);
        info->result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
    });
}

CUresult cuGraphExecUpdate(CUgraphExec handle, CUgraph graph, CUgraphNode* culprit,
                           CUgraphExecUpdateResult* result) {
    if (!result) return CUDA_ERROR_INVALID_VALUE;
    CUgraphExecUpdateResultInfo info = {};
    auto code = cuGraphExecUpdate_v2(handle, graph, &info);
    *result = info.result;
    if (culprit) *culprit = info.errorNode;
    return code;
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec handle, CUgraphNode node,
                                           const CUDA_KERNEL_NODE_PARAMS* p) {
    return set<KernelStep>(handle, node, [&] {
        require(p);
        return kernel_step(*p);
    });
}
CUresult cuGraphExecKernelNodeSetParams(CUgraphExec handle, CUgraphNode node,
                                        const CUDA_KERNEL_NODE_PARAMS_v1* p) {
    if (!p) return CUDA_ERROR_INVALID_VALUE;
    CUDA_KERNEL_NODE_PARAMS all = {p->func,         p->gridDimX,  p->gridDimY,  p->gridDimZ,
                                   p->blockDimX,    p->blockDimY, p->blockDimZ, p->sharedMemBytes,
                                   p->kernelParams, p->extra,     nullptr,      nullptr};
    return cuGraphExecKernelNodeSetParams_v2(handle, node, &all);
}
CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec handle, CUgraphNode node, const CUDA_MEMCPY3D* p,
                                        CUcontext context) {
    return set<MemcpyStep>(handle, node, [&] { return memcpy_step(p, context); });
}
CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec handle, CUgraphNode node,
                                        const CUDA_MEMSET_NODE_PARAMS* p, CUcontext context) {
    return set<MemsetStep>(handle, node, [&] { return memset_step(p, context); });
}
CUresult cuGraphExecHostNodeSetParams(CUgraphExec handle, CUgraphNode node, const CUDA_HOST_NODE_PARAMS* p) {
    return set<HostStep>(handle, node, [&] {
        require(p && p->fn);
        return HostStep{p->fn, p->userData};
    });
}
CUresult cuGraphExecEventRecordNodeSetEvent(CUgraphExec handle, CUgraphNode node, CUevent event) {
    return set<EventRecordStep>(handle, node, [&] { return record_step(event); });
}
CUresult cuGraphExecEventWaitNodeSetEvent(CUgraphExec handle, CUgraphNode node, CUevent event) {
    return set<EventWaitStep>(handle, node, [&] { return wait_step(event); });
}
CUresult cuGraphExecBatchMemOpNodeSetParams(CUgraphExec handle, CUgraphNode node,
                                            const CUDA_BATCH_MEM_OP_NODE_PARAMS* p) {
    return set<MemOpsStep>(handle, node, [&] { return mem_ops_step(p); });
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec handle, CUgraphNode original, CUgraph child) {
    return graph_api([&] {
        auto& step = step_of<ChildStep>(counterpart(*exec(handle), original));
        Pairing pairing;
        require(pairing.add(*step.graph, *graph(child)));
        take_over(pairing);
    });
}

CUresult cuGraphExecNodeSetParams(CUgraphExec handle, CUgraphNode original, CUgraphNodeParams* p) {
    if (p && p->type == CU_GRAPH_NODE_TYPE_GRAPH)
        return cuGraphExecChildGraphNodeSetParams(handle, original, p->graph.graph);
    return graph_api([&] {
        require(p);
        auto& of = counterpart(*exec(handle), original);
        require(of.type() == p->type);
        change(of, step_of_params(*p), true);
    });
}

namespace {

Node& switchable(CUgraphExec handle, CUgraphNode original) {
    auto& of = counterpart(*exec(handle), original);
    auto type = of.type();
    require(type == CU_GRAPH_NODE_TYPE_KERNEL || type == CU_GRAPH_NODE_TYPE_MEMCPY ||
            type == CU_GRAPH_NODE_TYPE_MEMSET);
    return of;
}

}  // namespace

CUresult cuGraphNodeSetEnabled(CUgraphExec handle, CUgraphNode node, unsigned enabled) {
    return graph_api([&] { switchable(handle, node).enabled = enabled != 0; });
}

CUresult cuGraphNodeGetEnabled(CUgraphExec handle, CUgraphNode node, unsigned* enabled) {
    return graph_api([&] {
        require(enabled);
        *enabled = switchable(handle, node).enabled;
    });
}
