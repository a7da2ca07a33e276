// SPDX-License-Identifier: MIT
// Graphs of the driver API: captured from streams and built node by node, changed, cloned, updated, launched again and again
// while the memory they copy from and to (pageable, on the stack too) changes under them; and what a capture forbids.
#include <cuda.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include "example.h"

using namespace example;

static const char* name_of(CUresult result) {
    const char* name = nullptr;
    cuGetErrorName(result, &name);
    return name ? name : "?";
}
#define EXPECT(expected, call)                                                                                        \
    do {                                                                                                              \
        const CUresult expect_result = (call);                                                                        \
        if (expect_result != (expected))                                                                              \
            fail("%s:%d: %s: %s, should be %s", __FILE__, __LINE__, #call, name_of(expect_result), name_of(expected)); \
    } while (false)
#define CU_CHECK(call) EXPECT(CUDA_SUCCESS, call)
#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) fail("%s:%d: %s", __FILE__, __LINE__, #condition);   \
    } while (false)

// p[i] = p[i] * m + a for i < n
static const char* const kPtx = R"(.version 7.0
.target sm_75
.address_size 64
.visible .entry affine(.param .u64 p, .param .u32 m, .param .u32 a, .param .u32 n)
{
    .reg .pred %p1;
    .reg .b32 %r<9>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [p];
    ld.param.u32 %r1, [m];
    ld.param.u32 %r2, [a];
    ld.param.u32 %r3, [n];
    mov.u32 %r4, %ctaid.x;
    mov.u32 %r5, %ntid.x;
    mov.u32 %r6, %tid.x;
    mad.lo.s32 %r7, %r4, %r5, %r6;
    setp.ge.u32 %p1, %r7, %r3;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r7, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.u32 %r8, [%rd4];
    mad.lo.u32 %r8, %r8, %r1, %r2;
    st.global.u32 [%rd4], %r8;
DONE:
    ret;
}
.visible .entry linger(.param .u64 ns)
{
    .reg .pred %p1;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [ns];
    mov.u64 %rd2, %globaltimer;
AGAIN:
    mov.u64 %rd3, %globaltimer;
    sub.s64 %rd4, %rd3, %rd2;
    setp.lt.u64 %p1, %rd4, %rd1;
    @%p1 bra AGAIN;
    ret;
}
)";

constexpr unsigned kCount = 5000, kThreads = 128, kBlocks = (kCount + kThreads - 1) / kThreads;

static CUcontext context;
static CUfunction affine, linger;
static CUstream stream, other;
static CUevent forked, joined;
static CUdeviceptr values;

// Parameters of one launch of the kernel.
struct Affine {
    CUdeviceptr p = values;
    unsigned m, a, n = kCount;
    void* pointers[4] = {&p, &m, &a, &n};
    Affine(unsigned m_, unsigned a_) : m(m_), a(a_) {}
    Affine(const Affine&) = delete;
    void launch(CUstream s) { CU_CHECK(cuLaunchKernel(affine, kBlocks, 1, 1, kThreads, 1, 1, 0, s, pointers, nullptr)); }
    CUDA_KERNEL_NODE_PARAMS node() {
        CUDA_KERNEL_NODE_PARAMS params{};
        params.func = affine;
        params.gridDimX = kBlocks;
        params.gridDimY = params.gridDimZ = params.blockDimY = params.blockDimZ = 1;
        params.blockDimX = kThreads;
        params.kernelParams = pointers;
        return params;
    }
};

static CUDA_MEMCPY3D linear_copy(CUmemorytype to, void* host, CUdeviceptr device, size_t bytes) {
    CUDA_MEMCPY3D copy{};
    copy.WidthInBytes = bytes;
    copy.Height = copy.Depth = 1;
    copy.srcMemoryType = to == CU_MEMORYTYPE_HOST ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    copy.dstMemoryType = to;
    (to == CU_MEMORYTYPE_HOST ? copy.srcDevice : copy.dstDevice) = device;
    if (to == CU_MEMORYTYPE_HOST) copy.dstHost = host;
    else copy.srcHost = host;
    return copy;
}

static CUstreamCaptureStatus status_of(CUstream s) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CU_CHECK(cuStreamIsCapturing(s, &status));
    return status;
}

static unsigned device_value(unsigned index) {
    unsigned value = 0;
    CU_CHECK(cuMemcpyDtoH(&value, values + index * sizeof value, sizeof value));
    return value;
}

// A capture over two streams, of copies from and to pageable memory: a vector of the heap, and a variable of this stack.
static std::vector<unsigned> kept(kCount);

// Memory of a graph's copies is the child's own after a fork, like all other.
static void forked_child(volatile unsigned* on_stack) {
    volatile unsigned* on_heap = kept.data();
    *on_stack = 17;
    on_heap[0] = 18;
    on_heap[kCount - 1] = 18;
    const pid_t child = fork();
    if (child == 0) {
        const bool same = *on_stack == 17 && on_heap[0] == 18 && on_heap[kCount - 1] == 18;
        for (unsigned i = 0; i < 1000000; ++i) {
            on_heap[i % kCount] = i;
            *on_stack = i;
        }
        _exit(same ? 5 : 6);
    }
    for (unsigned i = 0; i < 1000; ++i) on_heap[1] = i;
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    CHECK(*on_stack == 17 && on_heap[0] == 18 && on_heap[1] == 999 && on_heap[kCount - 1] == 18);
}

static void captured(unsigned round) {
    std::vector<unsigned> fresh(kCount);
    std::vector<unsigned>& source = round % 2 ? kept : fresh;
    volatile unsigned last = 0;
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    size_t nodes = 0;
    CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_NONE);
    CU_CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
    CHECK(status_of(other) == CU_STREAM_CAPTURE_STATUS_NONE);
    CU_CHECK(cuMemcpyHtoDAsync(values, source.data(), kCount * sizeof(unsigned), stream));
    Affine first(3, round), second(5, 7);
    first.launch(stream);
    CU_CHECK(cuEventRecord(forked, stream));
    CU_CHECK(cuStreamWaitEvent(other, forked, 0));
    CHECK(status_of(other) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
    second.launch(other);
    CU_CHECK(cuEventRecord(joined, other));
    CU_CHECK(cuStreamWaitEvent(stream, joined, 0));
    CU_CHECK(cuMemsetD32Async(values, 42, 1, stream));
    CU_CHECK(cuMemcpyDtoHAsync(const_cast<unsigned*>(&last), values + (kCount - 1) * sizeof(unsigned), sizeof last, stream));
    CUstreamCaptureStatus status;
    cuuint64_t id = 0;
    CUgraph told = nullptr;
    const CUgraphNode* dependencies = nullptr;
    size_t count = 0;
    CU_CHECK(cuStreamGetCaptureInfo(stream, &status, &id, &told, &dependencies, nullptr, &count));
    CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && id && told && count == 1);
    CUgraphNodeType type;
    CU_CHECK(cuGraphNodeGetType(dependencies[0], &type));
    CHECK(type == CU_GRAPH_NODE_TYPE_MEMCPY);
    CU_CHECK(cuStreamEndCapture(stream, &graph));
    CHECK(graph == told && status_of(stream) == CU_STREAM_CAPTURE_STATUS_NONE);
    CU_CHECK(cuGraphGetNodes(graph, nullptr, &nodes));
    CHECK(nodes == 5);
    CU_CHECK(cuGraphInstantiate(&exec, graph, 0));
    CU_CHECK(cuGraphDestroy(graph));
    if (round == 1) forked_child(&last);
    for (unsigned launch = 0; launch < 3; ++launch) {
        for (unsigned i = 0; i < kCount; ++i) source[i] = i + launch + round;
        CU_CHECK(cuGraphLaunch(exec, stream));
        CU_CHECK(cuStreamSynchronize(stream));
        const unsigned expected = ((kCount - 1 + launch + round) * 3 + round) * 5 + 7;
        if (last != expected) fail("captured: launch %u brought %u, should be %u", launch, unsigned(last), expected);
        CHECK(device_value(0) == 42 && device_value(1) == ((1 + launch + round) * 3 + round) * 5 + 7);
    }
    CU_CHECK(cuGraphExecDestroy(exec));
}

static unsigned host_calls, host_seen;
static volatile unsigned* host_word;
static void CUDA_CB host_function(void* data) {
    host_calls += static_cast<unsigned>(reinterpret_cast<uintptr_t>(data));
    host_seen = *host_word;
}

// Node by node: kernels, copies, memset, empty, events, a host function, a child graph.
static void built(unsigned round) {
    std::vector<unsigned> words(kCount), back(kCount);
    CUgraph graph = nullptr, child = nullptr, clone = nullptr, inside = nullptr;
    CUgraphExec exec = nullptr;
    CU_CHECK(cuGraphCreate(&graph, 0));
    CU_CHECK(cuGraphCreate(&child, 0));
    Affine one(2, 1), two(1, 100), changed(1, round);

    CUgraphNode up = nullptr, kernel = nullptr, empty = nullptr, down = nullptr, host = nullptr, sub = nullptr, set = nullptr, record = nullptr;
    CUDA_MEMCPY3D copy = linear_copy(CU_MEMORYTYPE_DEVICE, words.data(), values, kCount * sizeof(unsigned));
    CU_CHECK(cuGraphAddMemcpyNode(&up, graph, nullptr, 0, &copy, context));
    CUDA_KERNEL_NODE_PARAMS params = one.node();
    CU_CHECK(cuGraphAddKernelNode(&kernel, graph, &up, 1, &params));
    CUgraphNode in_child = nullptr;
    params = two.node();
    CU_CHECK(cuGraphAddKernelNode(&in_child, child, nullptr, 0, &params));
    CU_CHECK(cuGraphAddChildGraphNode(&sub, graph, &kernel, 1, child));
    CUDA_MEMSET_NODE_PARAMS memset{};
    memset.dst = values + 2 * sizeof(unsigned);
    memset.elementSize = 4;
    memset.width = 3;
    memset.height = 1;
    memset.value = 9;
    CU_CHECK(cuGraphAddMemsetNode(&set, graph, &sub, 1, &memset, context));
    CU_CHECK(cuGraphAddEmptyNode(&empty, graph, &set, 1));
    copy = linear_copy(CU_MEMORYTYPE_HOST, back.data(), values, kCount * sizeof(unsigned));
    CU_CHECK(cuGraphAddMemcpyNode(&down, graph, &empty, 1, &copy, context));
    CU_CHECK(cuGraphAddEventRecordNode(&record, graph, &down, 1, forked));
    host_word = &back[4999];
    CUDA_HOST_NODE_PARAMS function{host_function, reinterpret_cast<void*>(uintptr_t(1))};
    CU_CHECK(cuGraphAddHostNode(&host, graph, &down, 1, &function));

    // What was told is what is there.
    size_t count = 0, edges = 0;
    CU_CHECK(cuGraphGetNodes(graph, nullptr, &count));
    CHECK(count == 8);
    std::vector<CUgraphNode> nodes(count);
    CU_CHECK(cuGraphGetNodes(graph, nodes.data(), &count));
    CHECK(count == 8);
    for (CUgraphNode node : {up, kernel, sub, set, empty, down, record, host}) {
        size_t found = 0;
        for (CUgraphNode known : nodes) found += known == node;
        CHECK(found == 1);
    }
    CU_CHECK(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
    CHECK(edges == 7);
    CU_CHECK(cuGraphGetRootNodes(graph, nullptr, &count));
    CHECK(count == 1);
    CUgraphNode root = nullptr;
    CU_CHECK(cuGraphGetRootNodes(graph, &root, &count));
    CHECK(root == up && count == 1);
    nodes.assign(12, up);
    count = nodes.size();
    CU_CHECK(cuGraphGetNodes(graph, nodes.data(), &count));
    CHECK(count == 8 && nodes[7] && !nodes[8] && !nodes[11]);
    CUgraphNode before = nullptr;
    count = 1;
    CU_CHECK(cuGraphNodeGetDependencies(empty, &before, nullptr, &count));
    CHECK(before == set && count == 1);
    CUDA_KERNEL_NODE_PARAMS got{};
    CU_CHECK(cuGraphKernelNodeGetParams(kernel, &got));
    CHECK(got.gridDimX == kBlocks && got.kernelParams && !got.extra && got.kernelParams != params.kernelParams);
    CHECK(*static_cast<CUdeviceptr*>(got.kernelParams[0]) == values && *static_cast<unsigned*>(got.kernelParams[1]) == 2 &&
          *static_cast<unsigned*>(got.kernelParams[2]) == 1 && *static_cast<unsigned*>(got.kernelParams[3]) == kCount);
    CUDA_KERNEL_NODE_PARAMS again{};
    CU_CHECK(cuGraphKernelNodeGetParams(kernel, &again));
    CHECK(again.kernelParams == got.kernelParams);
    CUDA_MEMCPY3D copied{};
    CU_CHECK(cuGraphMemcpyNodeGetParams(down, &copied));
    CHECK(copied.dstHost == back.data() && copied.WidthInBytes == kCount * sizeof(unsigned));
    CUDA_MEMSET_NODE_PARAMS filled{};
    CU_CHECK(cuGraphMemsetNodeGetParams(set, &filled));
    CHECK(filled.dst == memset.dst && filled.value == 9 && filled.width == 3);
    CUDA_HOST_NODE_PARAMS called{};
    CU_CHECK(cuGraphHostNodeGetParams(host, &called));
    CHECK(called.fn == host_function && called.userData == function.userData);
    CUevent event = nullptr;
    CU_CHECK(cuGraphEventRecordNodeGetEvent(record, &event));
    CHECK(event == forked);
    CU_CHECK(cuGraphChildGraphNodeGetGraph(sub, &inside));
    CHECK(inside && inside != child);
    CUgraphNode twin = nullptr;
    CU_CHECK(cuGraphClone(&clone, graph));
    CU_CHECK(cuGraphNodeFindInClone(&twin, kernel, clone));
    CHECK(twin && twin != kernel);

    const auto run = [&](CUgraphExec what, unsigned expected_m, unsigned expected_a, unsigned host_value) {
        for (unsigned i = 0; i < kCount; ++i) words[i] = i * 3 + round;
        host_calls = 0;
        CU_CHECK(cuGraphLaunch(what, stream));
        CU_CHECK(cuStreamSynchronize(stream));
        for (unsigned i = 0; i < kCount; ++i) {
            const unsigned expected = i >= 2 && i < 5 ? 9 : (i * 3 + round) * expected_m + expected_a;
            if (back[i] != expected) fail("built: word %u is %u, should be %u", i, back[i], expected);
        }
        if (host_calls != host_value || host_seen != back[4999]) fail("built: host function: %u calls, saw %u", host_calls, host_seen);
    };
    CUDA_GRAPH_INSTANTIATE_PARAMS how{};
    CU_CHECK(cuGraphInstantiateWithParams(&exec, graph, &how));
    CHECK(how.result_out == CUDA_GRAPH_INSTANTIATE_SUCCESS && !how.hErrNode_out);
    run(exec, 2, 101, 1);
    CU_CHECK(cuEventQuery(forked));

    // Parameters of the executable graph alone, then an update from the graph, which still has the old ones.
    CUDA_KERNEL_NODE_PARAMS other_params = changed.node();
    CU_CHECK(cuGraphExecKernelNodeSetParams(exec, kernel, &other_params));
    run(exec, 1, round + 100, 1);
    CUgraphExecUpdateResultInfo info{};
    CU_CHECK(cuGraphExecUpdate(exec, graph, &info));
    CHECK(info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS);
    run(exec, 2, 101, 1);
    CU_CHECK(cuGraphNodeSetEnabled(exec, kernel, 0));
    unsigned enabled = 1;
    CU_CHECK(cuGraphNodeGetEnabled(exec, kernel, &enabled));
    CHECK(enabled == 0);
    run(exec, 1, 100, 1);
    CU_CHECK(cuGraphNodeSetEnabled(exec, kernel, 1));

    // A graph of another shape does not fit.
    CUgraph wrong = nullptr;
    CUgraphNode lonely = nullptr;
    CU_CHECK(cuGraphCreate(&wrong, 0));
    CU_CHECK(cuGraphAddEmptyNode(&lonely, wrong, nullptr, 0));
    EXPECT(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate(exec, wrong, &info));
    CHECK(info.result != CU_GRAPH_EXEC_UPDATE_SUCCESS);
    CU_CHECK(cuGraphDestroy(wrong));
    CU_CHECK(cuGraphExecDestroy(exec));

    // The clone is a graph of its own.
    CU_CHECK(cuGraphKernelNodeSetParams(twin, &other_params));
    CUDA_HOST_NODE_PARAMS twice{host_function, reinterpret_cast<void*>(uintptr_t(2))};
    CUgraphNode host_twin = nullptr;
    CU_CHECK(cuGraphNodeFindInClone(&host_twin, host, clone));
    CU_CHECK(cuGraphHostNodeSetParams(host_twin, &twice));
    CU_CHECK(cuGraphInstantiate(&exec, clone, 0));
    run(exec, 1, round + 100, 2);
    CU_CHECK(cuGraphExecDestroy(exec));
    CU_CHECK(cuGraphInstantiate(&exec, graph, 0));
    run(exec, 2, 101, 1);
    CU_CHECK(cuGraphExecDestroy(exec));
    CU_CHECK(cuGraphDestroyNode(record));
    EXPECT(CUDA_ERROR_INVALID_VALUE, cuGraphDestroyNode(nullptr));
    CU_CHECK(cuGraphDestroy(clone));
    CU_CHECK(cuGraphDestroy(child));
    CU_CHECK(cuGraphDestroy(graph));
}

// What a capture forbids, and to whom.
static void forbidden() {
    CUgraph graph = nullptr;
    CUdeviceptr memory = 0;
    Affine kernel(1, 1);
    CU_CHECK(cuCtxSynchronize());
    CU_CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    kernel.launch(stream);
    EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(stream));
    CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuLaunchKernel(affine, 1, 1, 1, 1, 1, 1, 0, stream, kernel.pointers, nullptr));
    graph = reinterpret_cast<CUgraph>(1);
    EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
    CHECK(!graph && status_of(stream) == CU_STREAM_CAPTURE_STATUS_NONE);

    CU_CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc(&memory, 1024));
    EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));

    // Relaxed for this thread: memory comes and goes, and the capture does not notice.
    CU_CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    CU_CHECK(cuThreadExchangeStreamCaptureMode(&mode));
    CHECK(mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
    CU_CHECK(cuMemAlloc(&memory, 1024));
    CU_CHECK(cuMemFree(memory));
    CU_CHECK(cuThreadExchangeStreamCaptureMode(&mode));
    CHECK(mode == CU_STREAM_CAPTURE_MODE_RELAXED);
    kernel.launch(stream);
    // Another thread may not end it, and it is over nevertheless.
    std::thread([&] {
        CU_CHECK(cuCtxSetCurrent(context));
        CUgraph none = nullptr;
        EXPECT(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, cuStreamEndCapture(stream, &none));
    }).join();
    CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_NONE);
    EXPECT(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(stream, &graph));

    // A capture of the thread alone does not bind other threads.
    CU_CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    std::thread([&] {
        CUdeviceptr own = 0;
        CU_CHECK(cuCtxSetCurrent(context));
        CU_CHECK(cuMemAlloc(&own, 1024));
        Affine(1, 0).launch(other);
        CU_CHECK(cuStreamSynchronize(other));
        CU_CHECK(cuMemFree(own));
    }).join();
    kernel.launch(stream);
    CU_CHECK(cuStreamEndCapture(stream, &graph));
    CU_CHECK(cuGraphDestroy(graph));

    // Events of a capture stand for nothing outside it, and what was not joined does not end.
    CU_CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    kernel.launch(stream);
    CU_CHECK(cuEventRecord(forked, stream));
    EXPECT(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(forked));
    cuStreamEndCapture(stream, &graph);
    if (graph) CU_CHECK(cuGraphDestroy(graph));
    CU_CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    kernel.launch(stream);
    CU_CHECK(cuEventRecord(forked, stream));
    CU_CHECK(cuStreamWaitEvent(other, forked, 0));
    Affine(1, 0).launch(other);
    EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(stream, &graph));
    EXPECT(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(stream, &graph));
    CU_CHECK(cuStreamSynchronize(other));
    CU_CHECK(cuCtxSynchronize());
}

// Captured into a graph that exists, its dependencies changed on the way; the generic way to add nodes.
static void appended(unsigned round) {
    CUgraph graph = nullptr, told = nullptr, ended = nullptr;
    CUgraphExec exec = nullptr;
    CUgraphNode start = nullptr, extra = nullptr;
    CU_CHECK(cuMemsetD32(values, 1, kCount));
    CU_CHECK(cuCtxSynchronize());  // the stream does not wait for the default one
    CU_CHECK(cuGraphCreate(&graph, 0));
    CU_CHECK(cuGraphAddEmptyNode(&start, graph, nullptr, 0));
    CU_CHECK(cuStreamBeginCaptureToGraph(stream, graph, &start, nullptr, 1, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    Affine first(4, round), second(2, 3);
    first.launch(stream);
    CUstreamCaptureStatus status;
    const CUgraphNode* dependencies = nullptr;
    size_t count = 0;
    CU_CHECK(cuStreamGetCaptureInfo(stream, &status, nullptr, &told, &dependencies, nullptr, &count));
    CHECK(told == graph && count == 1);
    CUgraphNodeParams params{};
    const CUDA_KERNEL_NODE_PARAMS kernel = second.node();
    params.type = CU_GRAPH_NODE_TYPE_KERNEL;
    params.kernel = {kernel.func, kernel.gridDimX, 1, 1, kernel.blockDimX, 1, 1, 0, kernel.kernelParams, nullptr, nullptr, nullptr};
    CU_CHECK(cuGraphAddNode(&extra, graph, dependencies, nullptr, count, &params));
    CU_CHECK(cuStreamUpdateCaptureDependencies(stream, &extra, nullptr, 1, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
    Affine(1, 5).launch(stream);
    CU_CHECK(cuStreamEndCapture(stream, &ended));
    CHECK(ended == graph);
    CU_CHECK(cuGraphInstantiate(&exec, graph, 0));
    CU_CHECK(cuGraphUpload(exec, stream));
    CU_CHECK(cuGraphLaunch(exec, stream));
    CU_CHECK(cuStreamSynchronize(stream));
    CHECK(device_value(kCount - 1) == (4 + round) * 2 + 3 + 5);
    Affine exchanged(3, 0);
    params.kernel.kernelParams = exchanged.pointers;
    CU_CHECK(cuGraphExecNodeSetParams(exec, extra, &params));
    CU_CHECK(cuMemsetD32(values, 1, kCount));
    CU_CHECK(cuCtxSynchronize());  // the stream does not wait for the default one
    CU_CHECK(cuGraphLaunch(exec, stream));
    CU_CHECK(cuStreamSynchronize(stream));
    CHECK(device_value(7) == (4 + round) * 3 + 5);
    CU_CHECK(cuGraphExecDestroy(exec));
    CU_CHECK(cuGraphDestroy(graph));
}

// No graph at all, over memory that graphs have used.
static void plain(unsigned round) {
    unsigned last = 0;
    const bool pinned = round % 3 == 2;
    if (pinned) CU_CHECK(cuMemHostRegister(kept.data(), kCount * sizeof(unsigned), 0));
    for (unsigned turn = 0; turn < 50; ++turn) {
        for (unsigned i = 0; i < kCount; ++i) kept[i] = i ^ turn;
        CU_CHECK(cuMemcpyHtoDAsync(values, kept.data(), kCount * sizeof(unsigned), stream));
        Affine(3, round).launch(stream);
        CU_CHECK(cuMemcpyDtoHAsync(kept.data(), values, kCount * sizeof(unsigned), stream));
        CU_CHECK(cuMemcpyDtoHAsync(&last, values + 4 * sizeof last, sizeof last, stream));
        CU_CHECK(cuStreamSynchronize(stream));
        CHECK(last == (4 ^ turn) * 3 + round);
        for (unsigned i = 0; i < kCount; ++i)
            if (kept[i] != (i ^ turn) * 3 + round) fail("plain: word %u is %u, should be %u", i, kept[i], (i ^ turn) * 3 + round);
    }
    if (pinned) CU_CHECK(cuMemHostUnregister(kept.data()));
}

static std::atomic<unsigned> destroyed{0};
static void CUDA_CB destroy(void* data) { destroyed += static_cast<unsigned>(reinterpret_cast<uintptr_t>(data)); }

// Objects that live as long as a graph; a graph's picture.
static void owned() {
    CUgraph graph = nullptr;
    CUuserObject object = nullptr;
    CUgraphNode node = nullptr;
    destroyed = 0;
    CU_CHECK(cuGraphCreate(&graph, 0));
    CU_CHECK(cuGraphAddEmptyNode(&node, graph, nullptr, 0));
    CU_CHECK(cuUserObjectCreate(&object, reinterpret_cast<void*>(uintptr_t(3)), destroy, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    CU_CHECK(cuUserObjectRetain(object, 1));
    CU_CHECK(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
    CU_CHECK(cuUserObjectRelease(object, 1));
    CHECK(destroyed == 0);
    char path[] = "/tmp/cricket-graphs-XXXXXX";
    const int made = ::mkstemp(path);
    CHECK(made >= 0 && ::close(made) == 0);
    CU_CHECK(cuGraphDebugDotPrint(graph, path, 0));
    FILE* file = std::fopen(path, "r");
    char text[64] = {};
    CHECK(file && std::fgets(text, sizeof text, file) && std::strstr(text, "digraph"));
    std::fclose(file);
    ::unlink(path);
    CU_CHECK(cuGraphDestroy(graph));
    for (int i = 0; destroyed == 0 && i < 5000; ++i) usleep(1000);
    CHECK(destroyed == 3);
}

// A graph whose copies come some time after its launch, while the program waits with its stack in use: what they bring is
// there when the wait is over, and before that for the host function behind them.
static volatile unsigned* late_stack;
static unsigned late_seen, late_word;
static void CUDA_CB late_function(void*) {
    late_seen = *late_stack;
    late_word = kept[kCount - 1];
    usleep(20000);
}

static void late(unsigned round, long ms, long delay_ms) {
    const bool with_function = round % 2;
    volatile unsigned on_stack = 0;
    late_stack = &on_stack;
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    uint64_t ns = uint64_t(ms) * 1000000;
    void* parameters[] = {&ns};
    CU_CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    CU_CHECK(cuLaunchKernel(linger, 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr));
    CU_CHECK(cuMemsetD32Async(values, round + 1, kCount, stream));
    CU_CHECK(cuMemcpyDtoHAsync(const_cast<unsigned*>(&on_stack), values, sizeof on_stack, stream));
    CU_CHECK(cuMemcpyDtoHAsync(kept.data(), values, kCount * sizeof(unsigned), stream));
    if (with_function) CU_CHECK(cuLaunchHostFunc(stream, late_function, nullptr));
    CU_CHECK(cuStreamEndCapture(stream, &graph));
    CU_CHECK(cuGraphInstantiate(&exec, graph, 0));
    CU_CHECK(cuGraphDestroy(graph));
    for (unsigned launch = 0; launch < 2; ++launch) {
        if (launch && delay_ms) {  // a while without a call, before one that is posted
            std::printf("pause %u\n", round);
            std::fflush(stdout);
            usleep(unsigned(delay_ms) * 1000);
        }
        on_stack = late_seen = late_word = 0;
        kept.assign(kCount, 0);
        CU_CHECK(cuGraphLaunch(exec, stream));
        CU_CHECK(cuStreamSynchronize(stream));
        if (on_stack != round + 1) fail("late: the word on the stack is %u, should be %u", unsigned(on_stack), round + 1);
        for (unsigned i = 0; i < kCount; ++i)
            if (kept[i] != round + 1) fail("late: word %u is %u, should be %u", i, kept[i], round + 1);
        if (with_function && (late_seen != round + 1 || late_word != round + 1))
            fail("late: the host function saw %u and %u, should be %u", late_seen, late_word, round + 1);
    }
    CU_CHECK(cuGraphExecDestroy(exec));
}

int main(int argc, char** argv) {
    Common common = {.steps = 20};
    long late_ms = 0;
    parse(argc, argv, common, {{"late-ms", "nothing but graphs whose copies come this long after their launch", &late_ms}});
    CUdevice device = 0;
    CUmodule module = nullptr;
    CU_CHECK(cuInit(0));
    CU_CHECK(cuDeviceGet(&device, 0));
    CU_CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CU_CHECK(cuCtxSetCurrent(context));
    CU_CHECK(cuModuleLoadData(&module, kPtx));
    CU_CHECK(cuModuleGetFunction(&affine, module, "affine"));
    CU_CHECK(cuModuleGetFunction(&linger, module, "linger"));
    CU_CHECK(cuMemAlloc(&values, kCount * sizeof(unsigned)));
    CU_CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CU_CHECK(cuStreamCreate(&other, CU_STREAM_DEFAULT));
    CU_CHECK(cuEventCreate(&forked, CU_EVENT_DEFAULT));
    CU_CHECK(cuEventCreate(&joined, CU_EVENT_DISABLE_TIMING));
    long step = 0;
    for (; !done(common, step); ++step) {
        late(unsigned(step), late_ms, common.delay_ms);
        if (late_ms) {
            std::printf("step %ld\n", step);
            std::fflush(stdout);
            continue;
        }
        captured(unsigned(step));
        built(unsigned(step));
        forbidden();
        appended(unsigned(step));
        owned();
        plain(unsigned(step));
        if (time_to_report(common)) {
            std::printf("step %ld\n", step);
            std::fflush(stdout);
        }
        example::pause(common);
    }
    CU_CHECK(cuEventDestroy(joined));
    CU_CHECK(cuEventDestroy(forked));
    CU_CHECK(cuStreamDestroy(other));
    CU_CHECK(cuStreamDestroy(stream));
    CU_CHECK(cuMemFree(values));
    CU_CHECK(cuModuleUnload(module));
    CU_CHECK(cuDevicePrimaryCtxRelease(device));
    return pass("graphs: %ld steps", step);
}
