// SPDX-License-Identifier: MIT
#include <array>
#include <atomic>
#include <cstdio>
#include <set>

#include "fixture.h"

class Graphs : public Gpu {
  protected:
    void SetUp() override {
        Gpu::SetUp();
        EXPECT_OK(cuGraphCreate(&graph, 0));
    }

    CUgraphNode empty(std::vector<CUgraphNode> before = {}) {
        CUgraphNode node = nullptr;
        EXPECT_OK(cuGraphAddEmptyNode(&node, graph, before.data(), before.size()));
        return node;
    }

    CUgraphNode memset32(CUdeviceptr to, unsigned value, std::vector<CUgraphNode> before = {}) {
        CUDA_MEMSET_NODE_PARAMS p = {to, 0, value, 4, 1, 1};
        CUgraphNode node = nullptr;
        EXPECT_OK(cuGraphAddMemsetNode(&node, graph, before.data(), before.size(), &p, context));
        return node;
    }

    CUgraphNode kernel(CUgraph into, CUfunction f, void** params, std::vector<CUgraphNode> before = {}) {
        CUDA_KERNEL_NODE_PARAMS p = {f, 1, 1, 1, 1, 1, 1, 0, params, nullptr, nullptr, nullptr};
        CUgraphNode node = nullptr;
        EXPECT_OK(cuGraphAddKernelNode(&node, into, before.data(), before.size(), &p));
        return node;
    }

    static CUDA_MEMCPY3D line(CUdeviceptr to, CUdeviceptr from, size_t size) {
        CUDA_MEMCPY3D p = {};
        p.srcMemoryType = p.dstMemoryType = CU_MEMORYTYPE_DEVICE;
        p.srcDevice = from;
        p.dstDevice = to;
        p.WidthInBytes = size;
        p.Height = p.Depth = 1;
        return p;
    }

    // The address of an allocation node's memory.
    CUdeviceptr memory(CUgraph into, size_t size, std::vector<CUgraphNode> before = {}, CUgraphNode* made = nullptr) {
        CUDA_MEM_ALLOC_NODE_PARAMS p = {};
        p.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
        p.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
        p.bytesize = size;
        CUgraphNode node = nullptr;
        EXPECT_OK(cuGraphAddMemAllocNode(&node, into, before.data(), before.size(), &p));
        if (made) *made = node;
        return p.dptr;
    }

    CUgraphNode freed(CUgraph in, CUdeviceptr memory, CUgraphNode before) {
        CUgraphNode node = nullptr;
        EXPECT_OK(cuGraphAddMemFreeNode(&node, in, &before, 1, memory));
        return node;
    }

    static CUgraph new_graph() {
        CUgraph made = nullptr;
        EXPECT_OK(cuGraphCreate(&made, 0));
        return made;
    }

    static uint64_t handle_of(CUgraph of, unsigned value, CUcontext context) {
        CUgraphConditionalHandle made = 0;
        EXPECT_OK(cuGraphConditionalHandleCreate(&made, of, context, value, CU_GRAPH_COND_ASSIGN_DEFAULT));
        return made;
    }

    // The body of a new conditional node, null when there is none.
    CUgraph conditional(CUgraph into, uint64_t handle, CUgraphConditionalNodeType type,
                        CUresult expected = CUDA_SUCCESS, CUgraphNode* made = nullptr) {
        CUgraphNodeParams p = {};
        p.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
        p.conditional.handle = handle;
        p.conditional.type = type;
        p.conditional.size = 1;
        p.conditional.ctx = context;
        CUgraphNode node = nullptr;
        EXPECT_CU(expected, cuGraphAddNode(&node, into, nullptr, nullptr, 0, &p));
        if (made) *made = node;
        return p.conditional.phGraph_out ? p.conditional.phGraph_out[0] : nullptr;
    }

    CUgraphExec instantiate(unsigned long long flags = 0) {
        CUgraphExec exec = nullptr;
        EXPECT_OK(cuGraphInstantiate(&exec, graph, flags));
        return exec;
    }

    void run(CUgraphExec exec) {
        EXPECT_OK(cuGraphLaunch(exec, nullptr));
        EXPECT_OK(cuStreamSynchronize(nullptr));
    }

    CUgraph graph = nullptr;
};

TEST_F(Graphs, NodesAndEdges) {
    auto a = empty(), b = empty({a}), c = empty({a}), d = empty({b, c});
    std::array<CUgraphNode, 6> list = {};
    size_t count = list.size();
    EXPECT_OK(cuGraphGetNodes(graph, list.data(), &count));
    EXPECT_EQ(count, 4u);
    EXPECT_EQ(list[0], a);
    EXPECT_EQ(list[4], nullptr);
    count = list.size();
    EXPECT_OK(cuGraphGetRootNodes(graph, list.data(), &count));
    EXPECT_EQ(count, 1u);
    count = list.size();
    EXPECT_OK(cuGraphNodeGetDependencies(d, list.data(), nullptr, &count));
    ASSERT_EQ(count, 2u);
    EXPECT_EQ(list[0], b);
    count = list.size();
    EXPECT_OK(cuGraphNodeGetDependentNodes(a, list.data(), nullptr, &count));
    EXPECT_EQ(count, 2u);
    EXPECT_OK(cuGraphRemoveDependencies(graph, &b, &d, nullptr, 1));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphRemoveDependencies(graph, &b, &d, nullptr, 1));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(graph, &a, &b, nullptr, 1));  // there already
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(graph, &a, &a, nullptr, 1));
    EXPECT_OK(cuGraphAddDependencies(graph, &d, &a, nullptr, 1));  // a cycle shows when it is instantiated
    CUDA_GRAPH_INSTANTIATE_PARAMS params = {};
    CUgraphExec exec = nullptr;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiateWithParams(&exec, graph, &params));
    EXPECT_EQ(params.result_out, CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE);
    EXPECT_OK(cuGraphDestroyNode(c));
    count = 0;
    EXPECT_OK(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &count));
    EXPECT_EQ(count, 2u);  // a -> b, d -> a
    CUgraphNode twice[] = {a, a}, node = nullptr;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddEmptyNode(&node, graph, twice, 2));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddEmptyNode(&node, graph, &c, 1));
    EXPECT_OK(cuGraphDestroy(graph));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(graph));
    CUgraphNodeType type;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphNodeGetType(a, &type));
}

TEST_F(Graphs, ParametersAreShownAndSet) {
    auto module = load();
    auto cell = allocate(16);
    int value = 7;
    void* params[] = {&cell, &value};
    auto node = kernel(graph, function(module, "store"), params);
    value = 0;
    CUDA_KERNEL_NODE_PARAMS shown = {};
    EXPECT_OK(cuGraphKernelNodeGetParams(node, &shown));
    EXPECT_EQ(shown.func, function(module, "store"));
    EXPECT_EQ(*static_cast<CUdeviceptr*>(shown.kernelParams[0]), cell);
    EXPECT_EQ(*static_cast<int*>(shown.kernelParams[1]), 7);
    auto exec = instantiate();
    run(exec);
    EXPECT_EQ(read<int>(cell), 7);
    value = 8;
    shown.kernelParams = params;
    EXPECT_OK(cuGraphKernelNodeSetParams(node, &shown));
    run(exec);  // which does not know of it
    EXPECT_EQ(read<int>(cell), 7);
    value = 9;
    EXPECT_OK(cuGraphExecKernelNodeSetParams(exec, node, &shown));
    run(exec);
    EXPECT_EQ(read<int>(cell), 9);
    write(cell, 0);
    EXPECT_OK(cuGraphNodeSetEnabled(exec, node, 0));
    unsigned enabled = 1;
    EXPECT_OK(cuGraphNodeGetEnabled(exec, node, &enabled));
    EXPECT_EQ(enabled, 0u);
    run(exec);
    EXPECT_EQ(read<int>(cell), 0);
    CUlaunchAttributeValue attribute = {};
    attribute.priority = 3;
    EXPECT_OK(cuGraphKernelNodeSetAttribute(node, CU_KERNEL_NODE_ATTRIBUTE_PRIORITY, &attribute));
    attribute = {};
    EXPECT_OK(cuGraphKernelNodeGetAttribute(node, CU_KERNEL_NODE_ATTRIBUTE_PRIORITY, &attribute));
    EXPECT_EQ(attribute.priority, 3);
    shown.blockDimX = 2048;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphKernelNodeSetParams(node, &shown));
    CUDA_HOST_NODE_PARAMS host;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphHostNodeGetParams(node, &host));
}

TEST_F(Graphs, CopiesAndFills) {
    auto words = allocate(64);
    auto set = memset32(words, 0x01020304);
    auto copy = line(words + 4, words, 4);
    CUgraphNode node = nullptr;
    EXPECT_OK(cuGraphAddMemcpyNode(&node, graph, &set, 1, &copy, context));
    int out = 0;
    CUDA_MEMCPY3D down = line(0, words + 4, 4);
    down.dstMemoryType = CU_MEMORYTYPE_HOST;
    down.dstHost = &out;
    CUgraphNode last = nullptr;
    EXPECT_OK(cuGraphAddMemcpyNode(&last, graph, &node, 1, &down, context));
    auto exec = instantiate();
    run(exec);
    EXPECT_EQ(out, 0x01020304);
    CUDA_MEMSET_NODE_PARAMS fill = {};
    EXPECT_OK(cuGraphMemsetNodeGetParams(set, &fill));
    EXPECT_EQ(fill.dst, words);
    fill.value = 5;
    EXPECT_OK(cuGraphExecMemsetNodeSetParams(exec, set, &fill, context));
    run(exec);
    EXPECT_EQ(out, 5);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphExecMemcpyNodeSetParams(exec, last, &copy, context));
    copy.dstDevice = 0x10;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphMemcpyNodeSetParams(node, &copy));
}

TEST_F(Graphs, ChildrenAndClones) {
    auto words = allocate(16);
    write(words, uint64_t{0});
    auto module = load();
    CUgraph child = nullptr;
    EXPECT_OK(cuGraphCreate(&child, 0));
    void* params[] = {&words};
    auto inner = kernel(child, function(module, "add_one"), params);
    CUgraphNode first = nullptr, second = nullptr, found = nullptr;
    EXPECT_OK(cuGraphAddChildGraphNode(&first, graph, nullptr, 0, child));
    EXPECT_OK(cuGraphAddChildGraphNode(&second, graph, &first, 1, child));
    EXPECT_OK(cuGraphDestroy(child));
    CUgraph own = nullptr, copy = nullptr;
    EXPECT_OK(cuGraphChildGraphNodeGetGraph(first, &own));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(own));
    EXPECT_OK(cuGraphClone(&copy, graph));
    EXPECT_OK(cuGraphNodeFindInClone(&found, first, copy));
    EXPECT_NE(found, first);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphNodeFindInClone(&found, inner, copy));
    EXPECT_OK(cuGraphDestroy(graph));
    CUgraphExec exec = nullptr;
    EXPECT_OK(cuGraphInstantiate(&exec, copy, 0));
    run(exec);
    EXPECT_EQ(read<int>(words), 2);
}

TEST_F(Graphs, EventsInside) {
    CUevent start, end, other;
    EXPECT_OK(cuEventCreate(&start, 0));
    EXPECT_OK(cuEventCreate(&end, 0));
    EXPECT_OK(cuEventCreate(&other, 0));
    CUgraphNode a, b, c;
    EXPECT_OK(cuGraphAddEventRecordNode(&a, graph, nullptr, 0, start));
    EXPECT_OK(cuGraphAddEventWaitNode(&b, graph, &a, 1, other));
    EXPECT_OK(cuGraphAddEventRecordNode(&c, graph, &b, 1, end));
    auto exec = instantiate();
    EXPECT_OK(cuGraphLaunch(exec, nullptr));
    EXPECT_OK(cuEventSynchronize(end));
    float time = -1;
    EXPECT_OK(cuEventElapsedTime(&time, start, end));
    EXPECT_GE(time, 0);
    EXPECT_OK(cuGraphExecEventRecordNodeSetEvent(exec, c, other));
    CUevent seen = nullptr;
    EXPECT_OK(cuGraphEventWaitNodeGetEvent(b, &seen));
    EXPECT_EQ(seen, other);
    run(exec);
}

TEST_F(Graphs, MemoryNodes) {
    CUDA_MEM_ALLOC_NODE_PARAMS alloc = {};
    alloc.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    alloc.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    alloc.bytesize = 1024;
    CUgraphNode made = nullptr, freed = nullptr;
    EXPECT_OK(cuGraphAddMemAllocNode(&made, graph, nullptr, 0, &alloc));
    ASSERT_NE(alloc.dptr, 0u);
    auto set = memset32(alloc.dptr + 1020, 77, {made});
    auto out = allocate(4);
    auto copy = line(out, alloc.dptr + 1020, 4);
    CUgraphNode copied = nullptr, clash = nullptr;
    EXPECT_OK(cuGraphAddMemcpyNode(&copied, graph, &set, 1, &copy, context));
    int value;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(&value, alloc.dptr, 4));  // not there yet
    CUgraph clone = nullptr;
    EXPECT_CU(CUDA_ERROR_NOT_SUPPORTED, cuGraphClone(&clone, graph));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphDestroyNode(set));

    auto exec = instantiate();
    CUgraphExec second = nullptr;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiate(&second, graph, 0));
    run(exec);
    EXPECT_EQ(read<int>(out), 77);
    EXPECT_EQ(read<int>(alloc.dptr + 1020), 77);  // lives on
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(exec, nullptr));
    cuuint64_t used = 0;
    EXPECT_OK(cuDeviceGetGraphMemAttribute(device, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used));
    EXPECT_GE(used, 1024u);
    EXPECT_OK(cuMemFreeAsync(alloc.dptr, nullptr));
    run(exec);
    EXPECT_OK(cuMemFree(alloc.dptr));
    EXPECT_OK(cuGraphExecDestroy(exec));

    auto again = instantiate(CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    run(again);
    run(again);
    EXPECT_OK(cuMemFree(alloc.dptr));
    EXPECT_OK(cuGraphExecDestroy(again));

    EXPECT_OK(cuGraphAddMemFreeNode(&freed, graph, &copied, 1, alloc.dptr));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddMemFreeNode(&clash, graph, &copied, 1, alloc.dptr));
    auto whole = instantiate();
    run(whole);
    run(whole);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(&value, alloc.dptr, 4));
}

// The addresses are those that NVIDIA's driver gave to these calls, from the first graph's on.
TEST_F(Graphs, PlacesOfMemory) {
    constexpr uint64_t kMiB = 1 << 20;
    auto b = new_graph(), c = new_graph(), d = new_graph();
    auto base = memory(graph, 256);
    EXPECT_EQ(base % (32 * kMiB), 0u);
    EXPECT_EQ(memory(b, 256), base + 32 * kMiB);
    EXPECT_EQ(memory(c, 256), base + 64 * kMiB);
    EXPECT_EQ(memory(graph, 40 * kMiB), base + 96 * kMiB);
    EXPECT_EQ(memory(graph, 256), base + 136 * kMiB);
    EXPECT_EQ(memory(graph, 20 * kMiB), base + 136 * kMiB + 512);
    EXPECT_EQ(memory(graph, 20 * kMiB), base + 512);
    EXPECT_OK(cuGraphDestroy(b));
    EXPECT_EQ(memory(graph, 24 * kMiB), base + 156 * kMiB + 512);  // grows at its end first
    b = new_graph();
    EXPECT_EQ(memory(b, 40 * kMiB), base + 192 * kMiB);
    EXPECT_EQ(memory(b, 256), base + 232 * kMiB);
    EXPECT_EQ(memory(d, 256), base + 32 * kMiB);
    for (auto gone : {graph, b, c, d}) EXPECT_OK(cuGraphDestroy(gone));
    // Parts of what came back are had again, but nothing that is made of several.
    graph = new_graph();
    EXPECT_EQ(memory(graph, 70 * kMiB), base + 256 * kMiB);
    std::set<CUdeviceptr> again;
    std::vector<CUgraph> eight(8);
    for (auto& one : eight) again.insert(memory(one = new_graph(), 1));
    EXPECT_EQ(again.size(), 8u);
    EXPECT_EQ(*again.begin(), base);
    EXPECT_EQ(*again.rbegin(), base + 224 * kMiB);
    EXPECT_EQ(memory(b = new_graph(), 1), base + 352 * kMiB);
    for (auto gone : eight) EXPECT_OK(cuGraphDestroy(gone));
    device = 1;
    EXPECT_EQ(memory(graph, 256) % (32 * kMiB), 0u);  // a heap for each
    device = 0;
}

TEST_F(Graphs, MemoryHadAgain) {
    constexpr uint64_t kMiB = 1 << 20;
    CUgraphNode first = nullptr, second = nullptr;
    auto p = memory(graph, kMiB, {}, &first);
    auto free = freed(graph, p, memset32(p, 3, {first}));
    EXPECT_EQ(memory(graph, kMiB), p + kMiB);
    EXPECT_EQ(memory(graph, kMiB / 2, {free}, &second), p);
    EXPECT_EQ(memory(graph, kMiB, {free}), p + 2 * kMiB);
    EXPECT_EQ(memory(graph, kMiB / 2, {second}), p + kMiB / 2);
    auto set = memset32(p, 5, {second});
    auto exec = instantiate(CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    CUdeviceptr at = 0;
    size_t size = 0;
    EXPECT_CU(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange(&at, &size, p));
    run(exec);
    run(exec);
    EXPECT_EQ(read<int>(p), 5);
    EXPECT_OK(cuMemGetAddressRange(&at, &size, p + 100));
    EXPECT_EQ(at, p);
    EXPECT_EQ(size, kMiB / 2);
    EXPECT_OK(cuMemFree(p));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemFree(p));
    EXPECT_CU(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange(&at, &size, p));
    EXPECT_OK(cuGraphExecDestroy(exec));

    EXPECT_EQ(memory(graph, kMiB / 2, {freed(graph, p, set)}), p);  // for the third time
    run(instantiate(CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH));
    EXPECT_OK(cuMemGetAddressRange(&at, &size, p));
}

TEST_F(Graphs, CapturedMemory) {
    CUstream stream = nullptr;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CUdeviceptr p[3] = {};
    EXPECT_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    EXPECT_OK(cuMemAllocAsync(&p[0], 1 << 20, stream));
    EXPECT_OK(cuMemAllocAsync(&p[1], 1 << 10, stream));
    EXPECT_OK(cuMemFreeAsync(p[0], stream));
    EXPECT_OK(cuMemAllocAsync(&p[2], 1 << 20, stream));
    EXPECT_OK(cuMemsetD32Async(p[2], 7, 1, stream));
    CUgraph captured = nullptr;
    EXPECT_OK(cuStreamEndCapture(stream, &captured));
    EXPECT_EQ(p[0] % (32 << 20), 0u);
    EXPECT_EQ(p[1], p[0] + (1 << 20));
    EXPECT_EQ(p[2], p[0]);
    CUgraphExec exec = nullptr;
    EXPECT_OK(cuGraphInstantiate(&exec, captured, 0));
    run(exec);
    EXPECT_EQ(read<int>(p[2]), 7);
}

TEST_F(Graphs, MemoryOfAChild) {
    CUgraphNodeParams p = {};
    p.type = CU_GRAPH_NODE_TYPE_GRAPH;
    p.graph.graph = new_graph();
    p.graph.ownership = CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
    CUgraphNode inner = nullptr, node = nullptr;
    auto inside = memory(p.graph.graph, 256, {}, &inner);
    freed(p.graph.graph, inside, inner);
    EXPECT_OK(cuGraphAddNode(&node, graph, nullptr, nullptr, 0, &p));
    auto own = memory(graph, 256);
    EXPECT_EQ(own % (32 << 20), 0u);
    EXPECT_NE(own, inside);
    run(instantiate());
    CUdeviceptr at = 0;
    EXPECT_OK(cuMemGetAddressRange(&at, nullptr, own));
    EXPECT_CU(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange(&at, nullptr, inside));
}

TEST_F(Graphs, Updates) {
    auto words = allocate(16);
    auto a = memset32(words, 1);
    memset32(words + 4, 2, {a});
    auto exec = instantiate();
    CUgraph other = nullptr;
    EXPECT_OK(cuGraphClone(&other, graph));
    CUgraphNode b = nullptr;
    EXPECT_OK(cuGraphNodeFindInClone(&b, a, other));
    CUDA_MEMSET_NODE_PARAMS p = {words, 0, 11, 4, 1, 1};
    EXPECT_OK(cuGraphMemsetNodeSetParams(b, &p));
    CUgraphExecUpdateResultInfo info = {};
    EXPECT_OK(cuGraphExecUpdate(exec, other, &info));
    EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_SUCCESS);
    run(exec);
    EXPECT_EQ(read<int>(words), 11);
    EXPECT_EQ(read<int>(words + 4), 2);
    // The nodes of the first graph still name those of the executable one.
    p.value = 12;
    EXPECT_OK(cuGraphExecMemsetNodeSetParams(exec, a, &p, context));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphExecMemsetNodeSetParams(exec, b, &p, context));

    CUgraphNode extra = nullptr;
    EXPECT_OK(cuGraphAddEmptyNode(&extra, other, nullptr, 0));
    EXPECT_CU(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate(exec, other, &info));
    EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
    CUgraph different = nullptr;
    EXPECT_OK(cuGraphCreate(&different, 0));
    CUgraphNode first = nullptr, second = nullptr;
    EXPECT_OK(cuGraphAddEmptyNode(&first, different, nullptr, 0));
    EXPECT_OK(cuGraphAddMemsetNode(&second, different, &first, 1, &p, context));
    EXPECT_CU(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate(exec, different, &info));
    EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED);
    EXPECT_EQ(info.errorNode, first);
}

TEST_F(Graphs, GenericNodesAndConditions) {
    auto words = allocate(16);
    write(words, uint64_t{0});
    auto module = load("conditional.ptx");
    auto condition = handle_of(graph, 5, context);
    CUgraphExec exec = nullptr;
    CUDA_GRAPH_INSTANTIATE_PARAMS how = {};
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiateWithParams(&exec, graph, &how));
    EXPECT_EQ(how.result_out, CUDA_GRAPH_INSTANTIATE_CONDITIONAL_HANDLE_UNUSED);
    CUgraphNode loop = nullptr;
    auto body = conditional(graph, condition, CU_GRAPH_COND_TYPE_WHILE, CUDA_SUCCESS, &loop);
    // *words counts up, the condition is what is left to five rounds.
    void* params[] = {&words, &condition};
    kernel(body, function(module, "count_down"), params);
    CUgraphNodeParams host = {};
    host.type = CU_GRAPH_NODE_TYPE_HOST;
    int seen = 0;
    host.host = {[](void* data) { ++*static_cast<int*>(data); }, &seen};
    CUgraphNode after = nullptr;
    EXPECT_OK(cuGraphAddNode(&after, graph, &loop, nullptr, 1, &host));
    EXPECT_OK(cuGraphInstantiateWithParams(&exec, graph, &how));
    run(exec);
    EXPECT_EQ(read<int>(words), 5);
    EXPECT_EQ(seen, 1);
}

TEST_F(Graphs, ConditionsAreOfOneGraph) {
    auto module = load("conditional.ptx");
    CUdeviceptr words[2];
    CUgraphExec execs[2] = {};
    for (int i = 0; i < 2; ++i) {
        words[i] = allocate(4);
        write(words[i], 3 * i);
        auto of = new_graph();
        uint64_t handle = handle_of(of, 1, context);
        EXPECT_EQ(handle, 1u);
        void* params[] = {&words[i], &handle};
        kernel(conditional(of, handle, CU_GRAPH_COND_TYPE_WHILE), function(module, "count_down"), params);
        EXPECT_OK(cuGraphInstantiate(&execs[i], of, 0));
    }
    for (int i = 0; i < 2; ++i) {
        run(execs[i]);
        EXPECT_EQ(read<int>(words[i]), 5);
    }
    EXPECT_OK(launch(function(module, "count_down"), nullptr, 1, words[0], uint64_t{1}));  // it is nobody's here
    EXPECT_EQ(read<int>(words[0]), 6);
}

TEST_F(Graphs, ConditionsInside) {
    auto words = allocate(16);
    write(words, uint64_t{0});
    auto module = load("conditional.ptx");
    auto first = handle_of(graph, 1, context);
    auto body = conditional(graph, first, CU_GRAPH_COND_TYPE_WHILE);
    auto second = handle_of(body, 1, context), third = handle_of(graph, 1, context);
    auto inner = conditional(body, second, CU_GRAPH_COND_TYPE_IF);
    auto fourth = handle_of(inner, 0, context);
    EXPECT_EQ(first, 1u);
    EXPECT_EQ(second, 2u);
    EXPECT_EQ(third, 3u);
    EXPECT_EQ(fourth, 4u);
    conditional(graph, second, CU_GRAPH_COND_TYPE_IF, CUDA_ERROR_INVALID_VALUE);  // a body's own
    // Five rounds; what counts them lies two bodies deep, and what is never done hangs on another handle.
    void* params[] = {&words, &first};
    kernel(conditional(inner, third, CU_GRAPH_COND_TYPE_IF), function(module, "count_down"), params);
    CUDA_MEMSET_NODE_PARAMS p = {words + 4, 0, 1, 4, 1, 1};
    CUgraphNode node = nullptr;
    EXPECT_OK(cuGraphAddMemsetNode(&node, conditional(inner, fourth, CU_GRAPH_COND_TYPE_IF), nullptr, 0, &p, context));
    run(instantiate());
    EXPECT_EQ(read<int>(words), 5);
    EXPECT_EQ(read<int>(words + 4), 0);
}

TEST_F(Graphs, UserObjects) {
    static std::atomic<int> destroyed;
    destroyed = 0;
    CUuserObject object = nullptr;
    int value = 3;
    auto destroy = [](void* data) {
        destroyed += *static_cast<int*>(data);
        destroyed.notify_all();
    };
    EXPECT_OK(cuUserObjectCreate(&object, &value, destroy, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    EXPECT_OK(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
    auto exec = instantiate();
    EXPECT_OK(cuGraphDestroy(graph));
    EXPECT_EQ(destroyed, 0);
    EXPECT_OK(cuGraphLaunch(exec, nullptr));
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_OK(cuGraphExecDestroy(exec));
    destroyed.wait(0);
    EXPECT_EQ(destroyed, 3);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuUserObjectRelease(object, 1));
}

TEST_F(Graphs, Dot) {
    empty({empty()});
    std::string path = testing::TempDir() + "/softgpu-graph.dot";
    EXPECT_OK(cuGraphDebugDotPrint(graph, path.c_str(), 0));
    std::ifstream file(path);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(text.rfind("digraph dot {", 0), 0u);
    EXPECT_NE(text.find("\"graph_1_node_0\" -> \"graph_1_node_1\""), std::string::npos);
    remove(path.c_str());
}
