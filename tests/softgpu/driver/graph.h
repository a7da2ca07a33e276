// SPDX-License-Identifier: MIT
// Graphs of steps. One lock is for all of them and for captures: graph_mutex(), taken before any other lock.
// An executable graph is a copy of its own, whose nodes remember from which they come.
#pragma once

#include <array>
#include <set>

#include "step.h"

namespace softgpu {

std::recursive_mutex& graph_mutex();

struct Node;
using NodeRef = std::shared_ptr<Node>;

struct Dependency {
    Node* node;  // of the same graph
    CUgraphEdgeData data;
};

struct Node {
    CUgraphNode handle = nullptr;    // null in executable graphs
    CUgraphNode original = nullptr;  // of the node that it is a copy of
    Graph* graph = nullptr;
    Step step;
    std::vector<Dependency> before, after;
    bool enabled = true;
    std::vector<void*> shown_params;  // what GetParams answers with; the values are those of the step

    ~Node();
    CUgraphNodeType type() const;
    bool depends_on(const Node* other) const;
};

// A function that is called when the last reference goes, on a thread of the driver.
struct UserObject {
    CUhostFn destroy;
    void* data;
    std::atomic<int64_t> references;
    CUuserObject handle = nullptr;

    void release(unsigned count);
};

// A value that kernels set and conditional nodes read.
struct Conditional {
    CUgraphConditionalHandle handle = 0;
    unsigned default_value = 0;
    bool assign_default = false;  // at each launch
    std::atomic<unsigned> value = 0;
};

struct GraphHeap;

struct Graph : std::enable_shared_from_this<Graph> {
    CUgraph handle = nullptr;
    Node* owner = nullptr;       // of a child graph or a body: the node it belongs to
    bool capturing = false;      // into it, by cuStreamBeginCaptureToGraph
    unsigned executables = 0;    // alive that were made of it
    std::vector<NodeRef> nodes;  // in the order of creation
    std::map<std::shared_ptr<UserObject>, unsigned> objects;
    std::vector<std::shared_ptr<Conditional>> conditionals;  // made on this graph
    CUgraphConditionalHandle last_conditional = 0;           // of a graph that is inside of no other
    std::map<int, std::shared_ptr<GraphHeap>> heaps;         // by device, once there is an allocation

    ~Graph();
    NodeRef add(Step step, std::vector<Dependency> before);
    void connect(Node& from, Node& to, const CUgraphEdgeData& data);
    void remove(Node& node);
    // Each node after those it depends on, ties in the order of creation; empty when there is a cycle.
    std::vector<Node*> order() const;
    bool has(CUgraphNodeType type) const;  // at any depth
    bool has_memory_nodes() const {
        return has(CU_GRAPH_NODE_TYPE_MEM_ALLOC) || has(CU_GRAPH_NODE_TYPE_MEM_FREE);
    }
};

// `registered`: with handles of its own, else one of an executable graph.
std::shared_ptr<Graph> clone(const Graph& graph, bool registered);
std::shared_ptr<Graph> new_graph();
// Makes what has none yet known by handles: the graph, its nodes and all graphs inside.
void give_handles(Graph& graph);
void forget(Graph& graph);

using Graphs = Registry<Graph, CUgraph, 0x7c09>;
using Nodes = Registry<Node, CUgraphNode, 0x7c0a>;
inline Graphs& graphs() {
    return immortal<Graphs>();
}
inline Nodes& nodes() {
    return immortal<Nodes>();
}
inline std::shared_ptr<Graph> graph(CUgraph handle) {
    return graphs().get(handle, CUDA_ERROR_INVALID_VALUE);
}
inline NodeRef node(CUgraphNode handle) {
    return nodes().get(handle, CUDA_ERROR_INVALID_VALUE);
}
template <typename T>
T& step_of(Node& node) {
    auto step = std::get_if<T>(&node.step);
    require(step != nullptr);
    return *step;
}

std::vector<Dependency> dependencies(const Graph& graph, const CUgraphNode* list, const CUgraphEdgeData* data,
                                     size_t count);

// The body of a graph function.
template <typename Body>
CUresult graph_api(Body&& body) noexcept {
    return api([&] {
        std::unique_lock lock(graph_mutex());
        body();
    });
}

// graph_params.cpp: the API's structures to steps. A null context is the current one.
Step step_of_params(CUgraphNodeParams& params);
KernelStep kernel_step(const CUDA_KERNEL_NODE_PARAMS& params);
MemcpyStep memcpy_step(const CUDA_MEMCPY3D* params, CUcontext context);
MemsetStep memset_step(const CUDA_MEMSET_NODE_PARAMS* params, CUcontext context);
EventRecordStep record_step(CUevent event);
EventWaitStep wait_step(CUevent event);
MemOpsStep mem_ops_step(const CUDA_BATCH_MEM_OP_NODE_PARAMS* params);
CUDA_KERNEL_NODE_PARAMS shown(Node& node);
// Puts a step of the same kind in place of the node's; fails where a node of an executable graph
// (`executable`) cannot change like that.
void change(Node& node, Step step, bool executable);
CUgraphExecUpdateResult may_change(const Step& now, const Step& next);

// graph_memory.cpp
// Addresses that are a graph's alone.
struct Extent {
    uint64_t base, size;
};
// Where a graph's allocations on one device lie, until the graph and all of them are gone. Guarded by graph_mutex().
struct GraphHeap {
    int device = 0;
    std::vector<Extent> extents;        // the latest last
    std::map<uint64_t, uint64_t> free;  // base -> size, what no allocation has had yet

    ~GraphHeap();
    uint64_t allocate(uint64_t size);
};
// Memory of a graph keeps its place from the making of its node on; it is there between the steps.
struct GraphAllocation {
    CUdeviceptr address = 0;
    uint64_t size = 0, taken = 0;
    int device = 0;
    std::shared_ptr<GraphHeap> heap;
    std::map<uint64_t, uint64_t> rest;  // base -> size, what no later node has once it is freed; guarded as the heap
    CUcontext owner = nullptr;
    std::atomic<bool> there = false;    // between the steps, or until the application frees it
    bool outstanding = false;           // allocated by what was submitted so far; guarded by graph_mutex()
    Graph* freed_by = nullptr;          // the graph with the free node
    uint32_t readers = 0, writers = 0;  // bit per device

    ~GraphAllocation();
    void free_now();
};
// Whether these bytes are of one allocation of a graph, there or not.
bool in_graph_memory(CUdeviceptr address, size_t size);
// For a node of this graph that comes after these.
AllocStep alloc_step(CUDA_MEM_ALLOC_NODE_PARAMS& params, Graph& into, const std::vector<Dependency>& before);
// The latest in this place.
std::shared_ptr<GraphAllocation> graph_allocation(CUdeviceptr address);
Action allocate_action(const std::shared_ptr<GraphAllocation>& allocation);
Action free_action(const std::shared_ptr<GraphAllocation>& allocation);

// conditional.cpp
CUgraphConditionalHandle add_conditional(Graph& graph, unsigned default_value, bool assign_default);
void set_conditional(const Conditions& conditions, uint64_t handle, unsigned value);  // what kernels call

}  // namespace softgpu
