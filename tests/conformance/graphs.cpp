// SPDX-License-Identifier: MIT
// Graphs built by hand and by capture, instantiated, updated, launched; user objects.
#include <vector>

#include "conform.h"

namespace {

// Memory of 1024 words with its contents told.
struct Words {
    CUdeviceptr memory = 0;
    bool ready() { return CHECK(cuMemAlloc(&memory, 4096)) == CUDA_SUCCESS && CHECK(cuMemsetD8(memory, 0, 4096)) == CUDA_SUCCESS; }
    void show(const char* what) const {
        std::vector<unsigned> back(1024);
        CHECK(cuCtxSynchronize());
        CHECK(cuMemcpyDtoH(back.data(), memory, 4096));
        conform::bytes(what, back.data(), 4096);
    }
    ~Words() { cuMemFree(memory); }
};

int destroyed;
void CUDA_CB count_destroyed(void* by) { destroyed += *static_cast<int*>(by); }

}  // namespace

CASE(graph_nodes) {
    Words words;
    CUfunction fill = conform::kernel("fill");
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    if (!fill || !words.ready()) return;
    CHECK(cuGraphCreate(nullptr, 0));
    CHECK(cuGraphCreate(&graph, 5));
    NEED(cuGraphCreate(&graph, 0));
    CUcontext context = nullptr;
    CHECK(cuCtxGetCurrent(&context));
    CUgraphNode set = nullptr, kernel = nullptr, copy = nullptr, empty = nullptr;
    CUDA_MEMSET_NODE_PARAMS memset_params{};
    memset_params.dst = words.memory;
    memset_params.value = 7;
    memset_params.elementSize = 4;
    memset_params.width = 1024;
    memset_params.height = 1;
    CHECK(cuGraphAddMemsetNode(&set, graph, nullptr, 0, &memset_params, context));
    unsigned value = 100, count = 512;
    void* parameters[] = {&words.memory, &value, &count};
    CUDA_KERNEL_NODE_PARAMS kernel_params{};
    kernel_params.func = fill;
    kernel_params.gridDimX = 4;
    kernel_params.gridDimY = kernel_params.gridDimZ = 1;
    kernel_params.blockDimX = 128;
    kernel_params.blockDimY = kernel_params.blockDimZ = 1;
    kernel_params.kernelParams = parameters;
    CHECK(cuGraphAddKernelNode(&kernel, graph, &set, 1, &kernel_params));
    CUDA_MEMCPY3D copy_params{};
    copy_params.srcMemoryType = copy_params.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy_params.srcDevice = words.memory;
    copy_params.dstDevice = words.memory + 2048;
    copy_params.srcPitch = copy_params.dstPitch = 1024;
    copy_params.srcHeight = copy_params.dstHeight = 1;
    copy_params.WidthInBytes = 1024;
    copy_params.Height = copy_params.Depth = 1;
    CHECK(cuGraphAddMemcpyNode(&copy, graph, &kernel, 1, &copy_params, context));
    CHECK(cuGraphAddEmptyNode(&empty, graph, &copy, 1));
    size_t nodes = 0, edges = 0, roots = 0;
    CHECK(cuGraphGetNodes(graph, nullptr, &nodes));
    VALUE(nodes);
    CHECK(cuGraphGetRootNodes(graph, nullptr, &roots));
    VALUE(roots);
    CHECK(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
    VALUE(edges);
    CUgraphNodeType type{};
    for (CUgraphNode node : {set, kernel, copy, empty}) {
        CHECK(cuGraphNodeGetType(node, &type));
        VALUE(type);
    }
    CUDA_KERNEL_NODE_PARAMS told{};
    CHECK(cuGraphKernelNodeGetParams(kernel, &told));
    VALUE(told.gridDimX * 1000 + told.blockDimX);
    CUDA_MEMSET_NODE_PARAMS told_set{};
    CHECK(cuGraphMemsetNodeGetParams(set, &told_set));
    VALUE(told_set.value);
    CHECK(cuGraphAddDependencies(graph, &set, &empty, nullptr, 1));
    CHECK(cuGraphAddDependencies(graph, &set, &empty, nullptr, 1));
    CHECK(cuGraphAddDependencies(graph, &empty, &set, nullptr, 1));
    CHECK(cuGraphInstantiate(&exec, graph, 0));
    CHECK(cuGraphRemoveDependencies(graph, &empty, &set, nullptr, 1));
    NEED(cuGraphInstantiate(&exec, graph, 0));
    cuuint64_t flags = 99;
    CHECK(cuGraphExecGetFlags(exec, &flags));
    VALUE(flags);
    CHECK(cuGraphUpload(exec, nullptr));
    CHECK(cuGraphLaunch(exec, nullptr));
    words.show("launched");
    value = 5000;
    CHECK(cuGraphExecKernelNodeSetParams(exec, kernel, &kernel_params));
    memset_params.value = 9;
    CHECK(cuGraphExecMemsetNodeSetParams(exec, set, &memset_params, context));
    CHECK(cuGraphLaunch(exec, nullptr));
    words.show("changed");
    CHECK(cuGraphNodeSetEnabled(exec, kernel, 0));
    unsigned enabled = 9;
    CHECK(cuGraphNodeGetEnabled(exec, kernel, &enabled));
    VALUE(enabled);
    CHECK(cuGraphLaunch(exec, nullptr));
    words.show("without the kernel");
    CUgraph clone = nullptr;
    CUgraphNode in_clone = nullptr;
    CHECK(cuGraphClone(&clone, graph));
    CHECK(cuGraphNodeFindInClone(&in_clone, kernel, clone));
    CHECK(cuGraphDestroyNode(empty));
    CUgraphExecUpdateResultInfo info{};
    CHECK(cuGraphExecUpdate(exec, clone, &info));
    VALUE(info.result);
    CHECK(cuGraphExecUpdate(exec, graph, &info));
    VALUE(info.result);
    CUgraph parent = nullptr;
    CUgraphNode child = nullptr;
    CUgraphExec of_parent = nullptr;
    CHECK(cuGraphCreate(&parent, 0));
    CHECK(cuGraphAddChildGraphNode(&child, parent, nullptr, 0, graph));
    CHECK(cuGraphInstantiate(&of_parent, parent, 0));
    CHECK(cuGraphLaunch(of_parent, nullptr));
    words.show("as a child");
    CHECK(cuGraphExecDestroy(of_parent));
    CHECK(cuGraphDestroy(parent));
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphDestroy(clone));
    CHECK(cuGraphDestroy(graph));
    FAULT(cuGraphLaunch(nullptr, nullptr));
    CHECK(cuGraphDestroy(nullptr));
}

CASE(capture) {
    Words words;
    CUfunction fill = conform::kernel("fill");
    CUstream stream = nullptr, side = nullptr;
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    if (!fill || !words.ready()) return;
    NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    NEED(cuStreamCreate(&side, CU_STREAM_NON_BLOCKING));
    CHECK(cuStreamBeginCapture(nullptr, CU_STREAM_CAPTURE_MODE_RELAXED));
    CHECK(cuStreamBeginCapture(stream, static_cast<CUstreamCaptureMode>(9)));
    CHECK(cuStreamEndCapture(stream, &graph));
    NEED(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    CUstreamCaptureStatus status{};
    CHECK(cuStreamIsCapturing(stream, &status));
    VALUE(status);
    unsigned value = 3, count = 1000;
    void* parameters[] = {&words.memory, &value, &count};
    CHECK(cuLaunchKernel(fill, 8, 1, 1, 128, 1, 1, 0, stream, parameters, nullptr));
    CHECK(cuMemsetD32Async(words.memory, 42, 100, stream));
    CUevent fork = nullptr, join = nullptr;
    CHECK(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
    CHECK(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
    CHECK(cuEventRecord(fork, stream));
    CHECK(cuStreamWaitEvent(side, fork, 0));
    CHECK(cuMemsetD32Async(words.memory + 2048, 43, 100, side));
    CHECK(cuEventRecord(join, side));
    CHECK(cuStreamWaitEvent(stream, join, 0));
    CHECK(cuMemcpyDtoDAsync(words.memory + 1024, words.memory, 256, stream));
    cuuint64_t id = 0;
    const CUgraphNode* dependencies = nullptr;
    size_t number = 0;
    CUgraph capturing = nullptr;
    CHECK(cuStreamGetCaptureInfo(stream, &status, &id, &capturing, &dependencies, nullptr, &number));
    VALUE(status);
    VALUE(number);
    VALUE(capturing != nullptr);
    CHECK(cuEventQuery(fork));
    NEED(cuStreamEndCapture(stream, &graph));
    size_t nodes = 0;
    CHECK(cuGraphGetNodes(graph, nullptr, &nodes));
    VALUE(nodes);
    NEED(cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int turn = 0; turn < 3; ++turn) CHECK(cuGraphLaunch(exec, stream));
    CHECK(cuStreamSynchronize(stream));
    words.show("replayed");
    // What must not happen while capturing ends it.
    CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuStreamIsCapturing(stream, &status));
    VALUE(status);
    CHECK(cuMemsetD32Async(words.memory, 1, 1, stream));
    CHECK(cuStreamEndCapture(stream, &graph));
    VALUE(graph == nullptr);
    // A stream that was not joined.
    CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    CHECK(cuEventRecord(fork, stream));
    CHECK(cuStreamWaitEvent(side, fork, 0));
    CHECK(cuMemsetD32Async(words.memory, 1, 1, side));
    CHECK(cuStreamEndCapture(stream, &graph));
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    CHECK(cuThreadExchangeStreamCaptureMode(&mode));
    VALUE(mode);
    CHECK(cuThreadExchangeStreamCaptureMode(&mode));
    VALUE(mode);
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuEventDestroy(fork));
    CHECK(cuEventDestroy(join));
    CHECK(cuStreamDestroy(side));
    CHECK(cuStreamDestroy(stream));
}

CASE(user_objects) {
    CUuserObject object = nullptr;
    CUgraph graph = nullptr;
    int one = 1;
    destroyed = 0;
    NEED(cuGraphCreate(&graph, 0));
    NEED(cuUserObjectCreate(&object, &one, count_destroyed, 2, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    CHECK(cuUserObjectRetain(object, 1));
    CHECK(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
    CHECK(cuUserObjectRelease(object, 2));
    CHECK(cuGraphReleaseUserObject(graph, object, 1));
    CHECK(cuGraphDestroy(graph));
    CHECK(cuUserObjectCreate(&object, &one, nullptr, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    CHECK(cuUserObjectCreate(&object, &one, count_destroyed, 0, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    CHECK(cuUserObjectCreate(&object, &one, count_destroyed, 1, 0));
}

CASE(graph_memory) {
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    CUgraphNode allocate = nullptr, set = nullptr, release = nullptr;
    CUcontext context = nullptr;
    CHECK(cuCtxGetCurrent(&context));
    NEED(cuGraphCreate(&graph, 0));
    CUDA_MEM_ALLOC_NODE_PARAMS wish{};
    wish.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    wish.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    wish.bytesize = 1 << 20;
    NEED(cuGraphAddMemAllocNode(&allocate, graph, nullptr, 0, &wish));
    VALUE(wish.dptr != 0);
    CUDA_MEMSET_NODE_PARAMS fill{};
    fill.dst = wish.dptr;
    fill.value = 1;
    fill.elementSize = 1;
    fill.width = 1 << 20;
    fill.height = 1;
    CHECK(cuGraphAddMemsetNode(&set, graph, &allocate, 1, &fill, context));
    CHECK(cuGraphAddMemFreeNode(&release, graph, &set, 1, wish.dptr));
    CHECK(cuGraphAddMemFreeNode(&release, graph, &set, 1, 0x1234));
    CHECK(cuGraphInstantiate(&exec, graph, 0));
    CHECK(cuGraphLaunch(exec, nullptr));
    CHECK(cuGraphLaunch(exec, nullptr));
    CHECK(cuStreamSynchronize(nullptr));
    cuuint64_t used = 99;
    CHECK(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used));
    VALUE(used);
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphDestroy(graph));
    CHECK(cuDeviceGraphMemTrim(0));
}
