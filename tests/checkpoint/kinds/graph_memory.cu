// SPDX-License-Identifier: MIT
// Memory that graphs allocate: where it lies, whatever became of the graphs beside it.
#include "kind.h"

namespace kinds {
namespace {

constexpr size_t mib = 1u << 20;

__global__ void mark(unsigned* memory, unsigned value, unsigned* out) {
    *memory = value;
    *out = *memory + 1;
}

CUdeviceptr allocate(CUgraph graph, size_t bytes, CUgraphNode* node, const std::vector<CUgraphNode>& before = {}) {
    CUDA_MEM_ALLOC_NODE_PARAMS params{};
    params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    params.bytesize = bytes;
    CU(cuGraphAddMemAllocNode(node, graph, before.data(), before.size(), &params));
    return params.dptr;
}

CUgraphNode mark_node(CUgraph graph, CUdeviceptr memory, unsigned value, unsigned* out, CUgraphNode before) {
    cudaKernelNodeParams params{};
    void* arguments[] = {&memory, &value, &out};
    params.func = reinterpret_cast<void*>(mark);
    params.gridDim = params.blockDim = 1;
    params.kernelParams = arguments;
    cudaGraphNode_t node = nullptr;
    RT(cudaGraphAddKernelNode(&node, graph, &before, 1, &params));
    return node;
}

// One allocation that a kernel uses and the graph frees.
struct Simple {
    CUgraph graph = nullptr;
    CUgraphNode node = nullptr;
    CUgraphExec exec = nullptr;
    CUdeviceptr memory = 0;

    void make(size_t bytes, unsigned value, unsigned* out) {
        CU(cuGraphCreate(&graph, 0));
        memory = allocate(graph, bytes, &node);
        CUgraphNode free = nullptr, used = mark_node(graph, memory + bytes - 4, value, out, node);
        CU(cuGraphAddMemFreeNode(&free, graph, &used, 1, memory));
        CU(cuGraphInstantiate(&exec, graph, 0));
    }
    void check() const {
        CUDA_MEM_ALLOC_NODE_PARAMS params{};
        CU(cuGraphMemAllocNodeGetParams(node, &params));
        SAME(params.dptr, memory);
    }
};

struct {
    CUstream stream;
    unsigned* out;
    Simple first, between, second, moved;
    CUgraph outer, left, freeing;  // in two extents; allocates; frees what `left` allocates
    CUgraphExec outer_exec, captured, left_exec, freeing_exec, parent_exec;
    CUgraphNode small, large, left_node;
    CUdeviceptr small_at, large_at, left_at;
} memory;

void memory_set_up() {
    RT(cudaMalloc(&memory.out, 16 * sizeof(unsigned)));
    CU(cuStreamCreate(&memory.stream, CU_STREAM_NON_BLOCKING));
    memory.first.make(mib, 100, memory.out + 0);
    memory.between.make(50 * mib, 0, memory.out + 1);
    memory.second.make(40 * mib, 102, memory.out + 2);
    // A graph whose second extent lies behind another graph's, and one that grows by an extent of its own.
    CU(cuGraphCreate(&memory.outer, 0));
    memory.small_at = allocate(memory.outer, 256, &memory.small);
    CU(cuGraphCreate(&memory.left, 0));
    memory.left_at = allocate(memory.left, 2 * mib, &memory.left_node);
    memory.large_at = allocate(memory.outer, 70 * mib, &memory.large);
    CUgraphNode used = mark_node(memory.outer, memory.small_at, 103, memory.out + 3, memory.small);
    CUgraphNode free = nullptr;
    CU(cuGraphAddMemFreeNode(&free, memory.outer, &used, 1, memory.small_at));
    CUgraphNode again = nullptr;  // where the small one was, once that is free
    const CUdeviceptr reused = allocate(memory.outer, 256, &again, {free});
    SAME(reused, memory.small_at);
    used = mark_node(memory.outer, reused, 104, memory.out + 4, again);
    CU(cuGraphAddMemFreeNode(&free, memory.outer, &used, 1, reused));
    used = mark_node(memory.outer, memory.large_at + 70 * mib - 4, 105, memory.out + 5, memory.large);
    CU(cuGraphAddMemFreeNode(&free, memory.outer, &used, 1, memory.large_at));
    CU(cuGraphInstantiate(&memory.outer_exec, memory.outer, 0));
    // One graph allocates, another frees.
    mark_node(memory.left, memory.left_at, 106, memory.out + 6, memory.left_node);
    CU(cuGraphInstantiate(&memory.left_exec, memory.left, 0));
    CU(cuGraphCreate(&memory.freeing, 0));
    CU(cuGraphAddMemFreeNode(&free, memory.freeing, nullptr, 0, memory.left_at));
    CU(cuGraphInstantiate(&memory.freeing_exec, memory.freeing, 0));
    // A hole, in front of a graph that was captured, and is gone but for its executable.
    CU(cuGraphExecDestroy(memory.between.exec));
    CU(cuGraphDestroy(memory.between.graph));
    cudaGraph_t graph = nullptr;
    unsigned *one = nullptr, *two = nullptr;
    RT(cudaStreamBeginCapture(memory.stream, cudaStreamCaptureModeThreadLocal));
    RT(cudaMallocAsync(&one, mib, memory.stream));
    RT(cudaMallocAsync(&two, 35 * mib, memory.stream));
    mark<<<1, 1, 0, memory.stream>>>(one, 107, memory.out + 7);
    mark<<<1, 1, 0, memory.stream>>>(two, 108, memory.out + 8);
    RT(cudaFreeAsync(one, memory.stream));
    RT(cudaFreeAsync(two, memory.stream));
    RT(cudaStreamEndCapture(memory.stream, &graph));
    RT(cudaGraphInstantiate(&memory.captured, graph, 0));
    RT(cudaGraphDestroy(graph));
    // Memory of a graph that was moved into another.
    CUgraph parent = nullptr;
    CUgraphNode node = nullptr;
    CU(cuGraphCreate(&parent, 0));
    memory.moved.make(3 * mib, 109, memory.out + 9);
    CU(cuGraphExecDestroy(memory.moved.exec));
    CUgraphNodeParams child{};
    child.type = CU_GRAPH_NODE_TYPE_GRAPH;
    child.graph.graph = memory.moved.graph;
    child.graph.ownership = CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
    CU(cuGraphAddNode(&node, parent, nullptr, nullptr, 0, &child));
    CU(cuGraphInstantiate(&memory.parent_exec, parent, 0));
}

void memory_look() {
    CU(cuMemsetD32(device(memory.out), 0, 16));
    CU(cuCtxSynchronize());
    Simple fresh;  // more may come
    fresh.make(33 * mib, 111, memory.out + 11);
    for (int round = 0; round < 2; ++round)
        for (CUgraphExec exec : {memory.first.exec, memory.second.exec, memory.outer_exec, memory.left_exec, memory.freeing_exec,
                                 memory.captured, memory.parent_exec, fresh.exec})
            CU(cuGraphLaunch(exec, memory.stream));
    CU(cuStreamSynchronize(memory.stream));
    const std::vector<unsigned> words = words_of(memory.out, 12);
    for (unsigned i = 0; i < words.size(); ++i)
        if (i != 1 && i != 10) SAME(words[i], 101 + i);
    for (const Simple* one : {&memory.first, &memory.second, &memory.moved, &fresh}) one->check();
    CU(cuGraphExecDestroy(fresh.exec));
    CU(cuGraphDestroy(fresh.graph));
}

const Kinds kinds{{"graph-memory", memory_set_up, memory_look}};

}  // namespace
}  // namespace kinds
