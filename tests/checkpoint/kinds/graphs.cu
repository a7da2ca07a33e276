// SPDX-License-Identifier: MIT
// Graphs and their executables: captured and built, changed, cloned and updated.
#include <atomic>
#include <cstring>

#include "kind.h"

namespace kinds {
namespace {

constexpr unsigned count = 3000, threads = 128, blocks = (count + threads - 1) / threads;

// p[i] = p[i] * m + a
__global__ void affine(unsigned* p, unsigned m, unsigned a, unsigned n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) p[i] = p[i] * m + a;
}

// What most kinds here work on: input and output in pinned memory, values on the device.
struct Place {
    unsigned *in = nullptr, *out = nullptr, *values = nullptr;
    cudaStream_t stream = nullptr, other = nullptr;
    cudaEvent_t forked = nullptr, joined = nullptr;

    void make() {
        RT(cudaMallocHost(&in, count * sizeof *in));
        RT(cudaMallocHost(&out, count * sizeof *out));
        RT(cudaMalloc(&values, count * sizeof *values));
        RT(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        RT(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
        RT(cudaEventCreateWithFlags(&forked, cudaEventDisableTiming));
        RT(cudaEventCreateWithFlags(&joined, cudaEventDisableTiming));
    }
    // out = in * m + a, over two streams; the second adds `more` to the first hundred.
    cudaGraph_t capture(unsigned m, unsigned a, unsigned more) {
        cudaGraph_t graph = nullptr;
        RT(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        RT(cudaMemcpyAsync(values, in, count * sizeof *in, cudaMemcpyHostToDevice, stream));
        affine<<<blocks, threads, 0, stream>>>(values, m, a, count);
        RT(cudaEventRecord(forked, stream));
        RT(cudaStreamWaitEvent(other, forked, 0));
        affine<<<1, 128, 0, other>>>(values, 1, more, 100);
        affine<<<blocks, threads, 0, stream>>>(values + 200, 1, 0, count - 200);
        RT(cudaEventRecord(joined, other));
        RT(cudaStreamWaitEvent(stream, joined, 0));
        RT(cudaMemcpyAsync(out, values, count * sizeof *out, cudaMemcpyDeviceToHost, stream));
        RT(cudaStreamEndCapture(stream, &graph));
        return graph;
    }
    void launch(cudaGraphExec_t exec, unsigned m, unsigned a, unsigned more) {
        static unsigned round = 0;
        ++round;
        for (unsigned i = 0; i < count; ++i) in[i] = i * 7 + round;
        std::memset(out, 0xee, count * sizeof *out);
        RT(cudaGraphLaunch(exec, stream));
        RT(cudaStreamSynchronize(stream));
        for (unsigned i = 0; i < count; ++i) {
            const unsigned should = (i * 7 + round) * m + a + (i < 100 ? more : 0);
            if (out[i] != should) fail(__FILE__, __LINE__, "word %u is %u, should be %u", i, out[i], should);
        }
    }
};

cudaGraphExec_t executable(cudaGraph_t graph) {
    cudaGraphExec_t exec = nullptr;
    RT(cudaGraphInstantiate(&exec, graph, 0));
    return exec;
}

std::vector<CUgraphNode> nodes_of(CUgraph graph) {
    size_t size = 0;
    CU(cuGraphGetNodes(graph, nullptr, &size));
    std::vector<CUgraphNode> nodes(size);
    CU(cuGraphGetNodes(graph, nodes.data(), &size));
    return nodes;
}

// ------------------------------------------------------------------------- a captured graph, not made executable yet
struct {
    Place place;
    cudaGraph_t graph;
    std::vector<CUgraphNode> nodes;
} captured;

void captured_set_up() {
    captured.place.make();
    captured.graph = captured.place.capture(3, 5, 11);
    captured.nodes = nodes_of(captured.graph);
}

void captured_look() {
    CHECK(nodes_of(captured.graph) == captured.nodes);
    size_t edges = 0;
    CU(cuGraphGetEdges(captured.graph, nullptr, nullptr, nullptr, &edges));
    SAME(edges, 5);
    const cudaGraphExec_t exec = executable(captured.graph);
    captured.place.launch(exec, 3, 5, 11);
    RT(cudaGraphExecDestroy(exec));
}

// ------------------------------------------------- an executable whose graph is gone, as PyTorch leaves it, launched once
struct {
    Place place;
    cudaGraphExec_t exec, unlaunched;
} lonely;

void lonely_set_up() {
    lonely.place.make();
    const cudaGraph_t graph = lonely.place.capture(9, 1, 2);
    lonely.exec = executable(graph);
    lonely.unlaunched = executable(graph);
    RT(cudaGraphDestroy(graph));
    lonely.place.launch(lonely.exec, 9, 1, 2);
}

void lonely_look() {
    lonely.place.launch(lonely.exec, 9, 1, 2);
    lonely.place.launch(lonely.unlaunched, 9, 1, 2);
    lonely.place.launch(lonely.exec, 9, 1, 2);
}

// ------------------------------------------------------------------------------------------- built of nodes of each type
std::atomic<unsigned> host_calls{0};
void CUDART_CB host_function(void* data) { host_calls += *static_cast<unsigned*>(data); }

struct {
    Place place;
    CUgraph graph, child;
    CUgraphNode in, kernel, sub, set, host, out, record, wait, flag, start;
    CUfunction function;
    CUevent event;
    CUgraphExec exec;
    unsigned* flag_word;
    unsigned amount = 3;
} built;

CUDA_KERNEL_NODE_PARAMS kernel_params(CUfunction function, void** pointers) {
    CUDA_KERNEL_NODE_PARAMS params{};
    params.func = function;
    params.gridDimX = blocks;
    params.gridDimY = params.gridDimZ = params.blockDimY = params.blockDimZ = 1;
    params.blockDimX = threads;
    params.kernelParams = pointers;
    return params;
}

struct Parameters {
    CUdeviceptr p;
    unsigned m, a, n = count;
    void* pointers[4] = {&p, &m, &a, &n};
    Parameters(unsigned* values, unsigned m_, unsigned a_) : p(device(values)), m(m_), a(a_) {}
    Parameters(const Parameters&) = delete;
};

CUfunction affine_function() {
    cudaFunction_t function = nullptr;
    RT(cudaGetFuncBySymbol(&function, reinterpret_cast<const void*>(affine)));
    return function;
}

CUDA_MEMCPY3D copy_params(const void* from, void* to, bool to_device) {
    CUDA_MEMCPY3D copy{};
    copy.WidthInBytes = count * sizeof(unsigned);
    copy.Height = copy.Depth = 1;
    copy.srcMemoryType = to_device ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
    copy.dstMemoryType = to_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    copy.srcHost = copy.srcMemoryType == CU_MEMORYTYPE_HOST ? from : nullptr;
    copy.srcDevice = copy.srcMemoryType == CU_MEMORYTYPE_DEVICE ? device(from) : 0;
    copy.dstHost = to_device ? nullptr : to;
    copy.dstDevice = to_device ? device(to) : 0;
    return copy;
}

void built_set_up() {
    CUcontext context = nullptr;
    CU(cuCtxGetCurrent(&context));
    built.place.make();
    built.function = affine_function();
    CU(cuEventCreate(&built.event, CU_EVENT_DISABLE_TIMING));
    RT(cudaMalloc(&built.flag_word, sizeof(unsigned)));
    Place& place = built.place;
    CU(cuGraphCreate(&built.child, 0));
    Parameters inner(place.values, 2, 1);
    const CUDA_KERNEL_NODE_PARAMS inner_params = kernel_params(built.function, inner.pointers);
    CUgraphNode ignored = nullptr;
    CU(cuGraphAddKernelNode(&ignored, built.child, nullptr, 0, &inner_params));
    CU(cuGraphCreate(&built.graph, 0));
    const CUgraph graph = built.graph;
    CU(cuGraphAddEmptyNode(&built.start, graph, nullptr, 0));
    const CUDA_MEMCPY3D in = copy_params(place.in, place.values, true), out = copy_params(place.values, place.out, false);
    CU(cuGraphAddMemcpyNode(&built.in, graph, &built.start, 1, &in, context));
    Parameters outer(place.values, 3, 4);
    const CUDA_KERNEL_NODE_PARAMS outer_params = kernel_params(built.function, outer.pointers);
    CU(cuGraphAddKernelNode(&built.kernel, graph, &built.in, 1, &outer_params));
    CU(cuGraphAddEventRecordNode(&built.record, graph, &built.kernel, 1, built.event));
    CU(cuGraphAddEventWaitNode(&built.wait, graph, &built.record, 1, built.event));
    const CUgraphNode both[] = {built.kernel, built.wait};
    CU(cuGraphAddChildGraphNode(&built.sub, graph, both, 2, built.child));
    const CUDA_MEMSET_NODE_PARAMS zeros{device(place.values), 0, 77, 4, 10, 1};
    CU(cuGraphAddMemsetNode(&built.set, graph, &built.sub, 1, &zeros, context));
    CU(cuGraphAddMemcpyNode(&built.out, graph, &built.set, 1, &out, context));
    const CUDA_HOST_NODE_PARAMS host{host_function, &built.amount};
    CU(cuGraphAddHostNode(&built.host, graph, &built.out, 1, &host));
    CUstreamBatchMemOpParams write{};
    write.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    write.writeValue.address = device(built.flag_word);
    write.writeValue.value = 4711;
    CUDA_BATCH_MEM_OP_NODE_PARAMS batch{context, 1, &write, 0};
    CU(cuGraphAddBatchMemOpNode(&built.flag, graph, &built.host, 1, &batch));
    CU(cuGraphInstantiate(&built.exec, graph, 0));
}

void built_run(CUgraphExec exec, unsigned m, unsigned a) {
    Place& place = built.place;
    for (unsigned i = 0; i < count; ++i) place.in[i] = i;
    const unsigned before = host_calls;
    CU(cuMemsetD32(device(built.flag_word), 0, 1));
    CU(cuCtxSynchronize());
    CU(cuGraphLaunch(exec, place.stream));
    CU(cuStreamSynchronize(place.stream));
    for (unsigned i = 0; i < count; ++i) {
        const unsigned should = i < 10 ? 77 : (i * m + a) * 2 + 1;
        if (place.out[i] != should) fail(__FILE__, __LINE__, "word %u is %u, should be %u", i, place.out[i], should);
    }
    SAME(host_calls - before, built.amount);
    SAME(words_of(built.flag_word, 1)[0], 4711);
    CU(cuEventQuery(built.event));
}

void built_look() {
    const std::pair<CUgraphNode, CUgraphNodeType> types[] = {
        {built.start, CU_GRAPH_NODE_TYPE_EMPTY},     {built.in, CU_GRAPH_NODE_TYPE_MEMCPY},
        {built.kernel, CU_GRAPH_NODE_TYPE_KERNEL},   {built.record, CU_GRAPH_NODE_TYPE_EVENT_RECORD},
        {built.wait, CU_GRAPH_NODE_TYPE_WAIT_EVENT}, {built.sub, CU_GRAPH_NODE_TYPE_GRAPH},
        {built.set, CU_GRAPH_NODE_TYPE_MEMSET},      {built.out, CU_GRAPH_NODE_TYPE_MEMCPY},
        {built.host, CU_GRAPH_NODE_TYPE_HOST},       {built.flag, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP}};
    SAME(nodes_of(built.graph).size(), std::size(types));
    for (const auto& [node, should] : types) {
        CUgraphNodeType type;
        CU(cuGraphNodeGetType(node, &type));
        SAME(int(type), int(should));
    }
    CUDA_KERNEL_NODE_PARAMS params{};
    CU(cuGraphKernelNodeGetParams(built.kernel, &params));
    SAME(params.gridDimX, blocks);
    SAME(*static_cast<unsigned*>(params.kernelParams[1]), 3u);
    SAME(*static_cast<CUdeviceptr*>(params.kernelParams[0]), device(built.place.values));
    CUevent event = nullptr;
    CU(cuGraphEventRecordNodeGetEvent(built.record, &event));
    CHECK(event == built.event);
    CUDA_HOST_NODE_PARAMS host{};
    CU(cuGraphHostNodeGetParams(built.host, &host));
    CHECK(host.fn == host_function && host.userData == &built.amount);
    built_run(built.exec, 3, 4);
    // The graph is not its executable: changed through its node, made executable, changed back.
    Parameters other(built.place.values, 5, 6), first(built.place.values, 3, 4);
    CUDA_KERNEL_NODE_PARAMS changed = kernel_params(built.function, other.pointers);
    CU(cuGraphKernelNodeSetParams(built.kernel, &changed));
    CUgraphExec exec = nullptr;
    CU(cuGraphInstantiate(&exec, built.graph, 0));
    built_run(exec, 5, 6);
    CU(cuGraphExecDestroy(exec));
    built_run(built.exec, 3, 4);
    changed = kernel_params(built.function, first.pointers);
    CU(cuGraphKernelNodeSetParams(built.kernel, &changed));
}

// ------------------------------------------------- an executable whose nodes were changed and switched off, its graph alive
struct {
    Place place;
    CUgraph graph;
    CUgraphNode first, second, third;
    CUgraphExec exec;
} changed;

void set_first(unsigned m, unsigned a) {
    Parameters to(changed.place.values, m, a);
    const CUDA_KERNEL_NODE_PARAMS params = kernel_params(affine_function(), to.pointers);
    CU(cuGraphExecKernelNodeSetParams(changed.exec, changed.first, &params));
}

void changed_run(unsigned should) {
    CU(cuMemsetD32(device(changed.place.values), 1, count));
    CU(cuCtxSynchronize());
    CU(cuGraphLaunch(changed.exec, changed.place.stream));
    CU(cuStreamSynchronize(changed.place.stream));
    SAME(words_of(changed.place.values, count)[count - 1], should);
}

void changed_set_up() {
    changed.place.make();
    Parameters one(changed.place.values, 2, 0), two(changed.place.values, 1, 1000), three(changed.place.values, 10, 0);
    CU(cuGraphCreate(&changed.graph, 0));
    CUDA_KERNEL_NODE_PARAMS params = kernel_params(affine_function(), one.pointers);
    CU(cuGraphAddKernelNode(&changed.first, changed.graph, nullptr, 0, &params));
    params.kernelParams = two.pointers;
    CU(cuGraphAddKernelNode(&changed.second, changed.graph, &changed.first, 1, &params));
    params.kernelParams = three.pointers;
    CU(cuGraphAddKernelNode(&changed.third, changed.graph, &changed.second, 1, &params));
    CU(cuGraphInstantiate(&changed.exec, changed.graph, 0));
    changed_run(10020);
    set_first(3, 4);                                                // 7
    CU(cuGraphNodeSetEnabled(changed.exec, changed.second, 0));  // not + 1000
    changed_run(70);
}

void changed_look() {
    changed_run(70);
    unsigned enabled = 1;
    CU(cuGraphNodeGetEnabled(changed.exec, changed.second, &enabled));
    SAME(enabled, 0u);
    set_first(1, 1);
    CU(cuGraphNodeSetEnabled(changed.exec, changed.second, 1));
    changed_run(10020);
    set_first(3, 4);
    CU(cuGraphNodeSetEnabled(changed.exec, changed.second, 0));
}

// ---------------------------------------------------------------------- updated from another graph, both graphs gone since
struct {
    Place place;
    cudaGraphExec_t exec;
} updated;

void update(unsigned m, unsigned a, unsigned more) {
    const cudaGraph_t graph = updated.place.capture(m, a, more);
    cudaGraphExecUpdateResultInfo info{};
    RT(cudaGraphExecUpdate(updated.exec, graph, &info));
    RT(cudaGraphDestroy(graph));
}

void updated_set_up() {
    updated.place.make();
    const cudaGraph_t graph = updated.place.capture(1, 2, 3);
    updated.exec = executable(graph);
    RT(cudaGraphDestroy(graph));
    for (unsigned i = 0; i < 5; ++i) update(4 + i, 5, 6);
}

void updated_look() {
    updated.place.launch(updated.exec, 8, 5, 6);
    update(21, 22, 23);
    updated.place.launch(updated.exec, 21, 22, 23);
    update(8, 5, 6);
}

// ----------------------------------------------------- graphs that were changed after executables were made of them
struct {
    Place place;
    CUgraph graph;
    CUgraphNode first, second;
    CUgraphExec before, between, after;
} since;

void since_run(CUgraphExec exec, unsigned should) {
    CU(cuMemsetD32(device(since.place.values), 1, count));
    CU(cuCtxSynchronize());
    CU(cuGraphLaunch(exec, since.place.stream));
    CU(cuStreamSynchronize(since.place.stream));
    SAME(words_of(since.place.values, count)[count - 1], should);
}

void since_set_up() {
    since.place.make();
    Parameters one(since.place.values, 2, 0), other(since.place.values, 3, 0), two(since.place.values, 1, 50);
    CU(cuGraphCreate(&since.graph, 0));
    CUDA_KERNEL_NODE_PARAMS params = kernel_params(affine_function(), one.pointers);
    CU(cuGraphAddKernelNode(&since.first, since.graph, nullptr, 0, &params));
    CU(cuGraphInstantiate(&since.before, since.graph, 0));
    params.kernelParams = other.pointers;
    CU(cuGraphKernelNodeSetParams(since.first, &params));
    CU(cuGraphInstantiate(&since.between, since.graph, 0));
    params.kernelParams = two.pointers;
    CU(cuGraphAddKernelNode(&since.second, since.graph, &since.first, 1, &params));
    CU(cuGraphInstantiate(&since.after, since.graph, 0));
    CUgraphNode lonely_node = nullptr;
    CU(cuGraphAddEmptyNode(&lonely_node, since.graph, nullptr, 0));
    CU(cuGraphDestroyNode(lonely_node));
}

void since_look() {
    since_run(since.before, 2);
    since_run(since.between, 3);
    since_run(since.after, 53);
    // The executables still know the graph's nodes.
    const auto set = [&](CUgraphExec exec, unsigned m) {
        Parameters to(since.place.values, m, 0);
        const CUDA_KERNEL_NODE_PARAMS params = kernel_params(affine_function(), to.pointers);
        CU(cuGraphExecKernelNodeSetParams(exec, since.first, &params));
    };
    set(since.before, 7);
    set(since.after, 8);
    since_run(since.before, 7);
    since_run(since.between, 3);
    since_run(since.after, 58);
    set(since.before, 2);
    set(since.after, 3);
    CUgraphExec now = nullptr;
    CU(cuGraphInstantiate(&now, since.graph, 0));
    since_run(now, 53);
    CU(cuGraphExecDestroy(now));
}

// --------------------------------------------------------------------------------------------------------------- clones
struct {
    Place place;
    cudaGraph_t graph;
    CUgraph clone;
    CUgraphNode kernel, twin;
} cloned;

void cloned_set_up() {
    cloned.place.make();
    cloned.graph = cloned.place.capture(2, 3, 4);
    CU(cuGraphClone(&cloned.clone, cloned.graph));
    for (CUgraphNode node : nodes_of(cloned.graph)) {
        CUgraphNodeType type;
        CU(cuGraphNodeGetType(node, &type));
        if (type == CU_GRAPH_NODE_TYPE_KERNEL && !cloned.kernel) cloned.kernel = node;
    }
    CU(cuGraphNodeFindInClone(&cloned.twin, cloned.kernel, cloned.clone));
}

void cloned_look() {
    CUgraphNode twin = nullptr;
    CU(cuGraphNodeFindInClone(&twin, cloned.kernel, cloned.clone));
    CHECK(twin == cloned.twin);
    cudaGraphExec_t exec = executable(cloned.clone);
    cloned.place.launch(exec, 2, 3, 4);
    RT(cudaGraphExecDestroy(exec));
}

// --------------------------------------------------------------------------- objects of the application that graphs hold
std::atomic<unsigned> gone{0};
void CUDART_CB object_goes(void* data) { gone += unsigned(reinterpret_cast<uintptr_t>(data)); }

struct {
    CUgraph graph;
    CUgraphExec exec;
    CUuserObject both, of_exec;
} owned;

CUuserObject object_for(CUgraph graph, unsigned value) {
    CUuserObject object = nullptr;
    CU(cuUserObjectCreate(&object, reinterpret_cast<void*>(uintptr_t(value)), object_goes, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    CU(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
    return object;
}

void owned_set_up() {
    gone = 0;
    CUgraphNode node = nullptr;
    CUgraph graph = nullptr;
    CU(cuGraphCreate(&graph, 0));
    CU(cuGraphAddEmptyNode(&node, graph, nullptr, 0));
    owned.of_exec = object_for(graph, 1);
    CU(cuGraphInstantiate(&owned.exec, graph, 0));
    CU(cuGraphDestroy(graph));
    CU(cuGraphCreate(&owned.graph, 0));
    CU(cuGraphAddEmptyNode(&node, owned.graph, nullptr, 0));
    owned.both = object_for(owned.graph, 16);
    CU(cuUserObjectRetain(owned.both, 1));
}

void await_gone(unsigned value) {
    for (int i = 0; gone != value && i < 20000; ++i) usleep(500);
    SAME(unsigned(gone), value);
}

void owned_look() {
    SAME(unsigned(gone), 0u);
    CU(cuGraphExecDestroy(owned.exec));
    await_gone(1);
    CU(cuGraphDestroy(owned.graph));
    usleep(2000);
    SAME(unsigned(gone), 1u);
    CU(cuUserObjectRelease(owned.both, 1));
    await_gone(17);
    owned_set_up();
}

// ------------------------------------------------------------------------------------------------ attributes of nodes
struct {
    Place place;
    CUgraph graph;
    CUgraphNode node;
    CUgraphExec exec;
    int priority;
    cuuint64_t flags;  // as the driver tells them
} attributed;

void attributed_set_up() {
    attributed.place.make();
    int least = 0, greatest = 0;
    CU(cuCtxGetStreamPriorityRange(&least, &greatest));
    attributed.priority = greatest;
    Parameters one(attributed.place.values, 2, 0);
    const CUDA_KERNEL_NODE_PARAMS params = kernel_params(affine_function(), one.pointers);
    CU(cuGraphCreate(&attributed.graph, 0));
    CU(cuGraphAddKernelNode(&attributed.node, attributed.graph, nullptr, 0, &params));
    CUkernelNodeAttrValue value{};
    value.priority = greatest;
    CU(cuGraphKernelNodeSetAttribute(attributed.node, CU_KERNEL_NODE_ATTRIBUTE_PRIORITY, &value));
    CUDA_GRAPH_INSTANTIATE_PARAMS how{};
    how.flags = CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD;
    how.hUploadStream = attributed.place.stream;
    CU(cuGraphInstantiateWithParams(&attributed.exec, attributed.graph, &how));
    CU(cuGraphExecGetFlags(attributed.exec, &attributed.flags));
}

void attributed_look() {
    CUkernelNodeAttrValue value{};
    CU(cuGraphKernelNodeGetAttribute(attributed.node, CU_KERNEL_NODE_ATTRIBUTE_PRIORITY, &value));
    SAME(value.priority, attributed.priority);
    cuuint64_t flags = 0;
    CU(cuGraphExecGetFlags(attributed.exec, &flags));
    SAME(flags, attributed.flags);
    CU(cuMemsetD32(device(attributed.place.values), 21, count));
    CU(cuCtxSynchronize());
    CU(cuGraphLaunch(attributed.exec, attributed.place.stream));
    CU(cuStreamSynchronize(attributed.place.stream));
    SAME(words_of(attributed.place.values, 1)[0], 42u);
}

const Kinds kinds{{"graph-captured", captured_set_up, captured_look},
                  {"graph-executable", lonely_set_up, lonely_look},
                  {"graph-built", built_set_up, built_look},
                  {"graph-executable-changed", changed_set_up, changed_look},
                  {"graph-executable-updated", updated_set_up, updated_look},
                  {"graph-changed-since", since_set_up, since_look},
                  {"graph-clone", cloned_set_up, cloned_look},
                  {"graph-user-object", owned_set_up, owned_look},
                  {"graph-attributes", attributed_set_up, attributed_look}};

}  // namespace
}  // namespace kinds
