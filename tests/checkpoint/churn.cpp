// SPDX-License-Identifier: MIT
// Makes and ends objects of one kind again and again, as it is told: a line "KIND ROUNDS" in the pipe that it is given is answered
// by the same line on stdout; without a pipe it prints the kinds. What remains afterwards is what was there before, so a snapshot
// must not have grown either (bounded.py).
#include <cuda.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

void check(CUresult result, int line, const char* what) {
    if (result == CUDA_SUCCESS) return;
    const char* name = nullptr;
    cuGetErrorName(result, &name);
    std::printf("FAIL churn: line %d: %s: %s\n", line, what, name ? name : "?");
    std::fflush(stdout);
    std::exit(EXIT_FAILURE);
}
#define CHECK(call) check(call, __LINE__, #call)

constexpr char ptx[] = R"(
.version 6.4
.target sm_75
.address_size 64
.visible .global .u32 variable[16];
.visible .entry add(.param .u64 at, .param .u32 value)
{
    .reg .b32 %v, %n;
    .reg .b64 %at;
    ld.param.u64 %at, [at];
    ld.param.u32 %n, [value];
    ld.global.u32 %v, [%at];
    add.u32 %v, %v, %n;
    st.global.u32 [%at], %v;
    ret;
}
.visible .entry nothing() { ret; }
)";

constexpr size_t bytes = 64 << 10;

CUdevice device;
CUcontext context;
CUmodule module;
CUfunction add, nothing;
CUstream stream;
CUdeviceptr words, managed;
CUevent event;
CUgraph graph;            // of one kernel node
CUgraphNode graph_node;
CUgraphExec executable;
alignas(4096) std::array<char, 2 << 20> host;

// An `add` with its parameters.
struct Add {
    CUdeviceptr at = words;
    unsigned value;
    void* parameters[2] = {&at, &value};
    explicit Add(long n) : value(static_cast<unsigned>(n)) {}
    Add(const Add&) = delete;
    CUDA_KERNEL_NODE_PARAMS node() {
        CUDA_KERNEL_NODE_PARAMS p{};
        p.func = add;
        p.gridDimX = p.gridDimY = p.gridDimZ = p.blockDimX = p.blockDimY = p.blockDimZ = 1;
        p.kernelParams = parameters;
        return p;
    }
};

CUdeviceptr address(CUdeviceptr at) { return at; }
CUDA_MEMCPY3D upload(CUdeviceptr to, const void* from, size_t size) {
    CUDA_MEMCPY3D p{};
    p.srcMemoryType = CU_MEMORYTYPE_HOST;
    p.srcHost = from;
    p.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    p.dstDevice = to;
    p.WidthInBytes = size;
    p.Height = p.Depth = 1;
    return p;
}

void streams(long round) {
    CUstream one;
    CHECK(cuStreamCreateWithPriority(&one, round % 2 ? CU_STREAM_NON_BLOCKING : CU_STREAM_DEFAULT, -static_cast<int>(round % 3)));
    CUstreamAttrValue value{};
    value.syncPolicy = CU_SYNC_POLICY_YIELD;
    CHECK(cuStreamSetAttribute(one, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
    CHECK(cuStreamCopyAttributes(one, stream));
    CHECK(cuMemsetD32Async(words, 0, 16, one));
    CHECK(cuStreamDestroy(one));
}

void events(long round) {
    CUevent one;
    CHECK(cuEventCreate(&one, round % 2 ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING));
    CHECK(cuEventRecord(one, stream));
    CHECK(cuStreamWaitEvent(nullptr, one, 0));
    CHECK(cuEventDestroy(one));
}

void memory(long round) {
    CUdeviceptr one, two, three;
    size_t pitch;
    CHECK(cuMemAlloc(&one, 100 + static_cast<size_t>(round % 1000) * 1000));
    CHECK(cuMemAllocPitch(&two, &pitch, 100, 100, 4));
    CHECK(cuMemAllocAsync(&three, bytes, stream));
    CHECK(cuMemsetD8Async(three, 1, bytes, stream));
    CHECK(cuMemFreeAsync(three, stream));
    CHECK(cuMemFree(one));
    CHECK(cuMemFree(two));
}

void host_memory(long round) {
    void *one, *two;
    CHECK(cuMemHostAlloc(&one, bytes, CU_MEMHOSTALLOC_DEVICEMAP));
    CHECK(cuMemAllocHost(&two, 100));
    CHECK(cuMemcpyDtoHAsync(one, words, 64, stream));
    CHECK(cuMemHostRegister(host.data(), host.size(), round % 2 ? CU_MEMHOSTREGISTER_PORTABLE : 0));
    CHECK(cuMemcpyHtoDAsync(words, host.data(), 64, stream));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuMemHostUnregister(host.data()));
    CHECK(cuMemFreeHost(one));
    CHECK(cuMemFreeHost(two));
}

void managed_memory(long round) {
    CUdeviceptr one;
    CHECK(cuMemAllocManaged(&one, bytes, CU_MEM_ATTACH_GLOBAL));
    const CUmemLocation there{CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    CHECK(cuMemAdvise(one, bytes, round % 2 ? CU_MEM_ADVISE_SET_READ_MOSTLY : CU_MEM_ADVISE_SET_PREFERRED_LOCATION, there));
    CHECK(cuMemAdvise(managed + static_cast<size_t>(round % 16) * 4096, 4096,
                      round % 3 ? CU_MEM_ADVISE_SET_READ_MOSTLY : CU_MEM_ADVISE_UNSET_READ_MOSTLY, there));
    CHECK(cuStreamAttachMemAsync(stream, managed, 0, round % 2 ? CU_MEM_ATTACH_GLOBAL : CU_MEM_ATTACH_HOST));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuMemFree(one));
}

void pools(long round) {
    CUmemPoolProps props{};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    CUmemoryPool pool, standard;
    CUdeviceptr one, two;
    CHECK(cuMemPoolCreate(&pool, &props));
    cuuint64_t threshold = static_cast<cuuint64_t>(round) << 20;
    CHECK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
    CHECK(cuMemAllocFromPoolAsync(&one, bytes, pool, stream));
    CHECK(cuMemAllocFromPoolAsync(&two, 3 * bytes, pool, stream));
    CHECK(cuMemFreeAsync(one, stream));
    CHECK(cuMemFreeAsync(two, stream));
    CHECK(cuMemPoolTrimTo(pool, 0));
    CHECK(cuDeviceSetMemPool(device, pool));
    CHECK(cuDeviceGetDefaultMemPool(&standard, device));
    CHECK(cuDeviceSetMemPool(device, standard));
    CHECK(cuMemPoolSetAttribute(standard, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuMemPoolDestroy(pool));
}

void virtual_memory(long) {
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    const CUmemAccessDesc access{prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    constexpr size_t size = 2 << 20;
    CUdeviceptr at;
    CUmemGenericAllocationHandle handle;
    CHECK(cuMemAddressReserve(&at, 2 * size, 0, 0, 0));
    CHECK(cuMemCreate(&handle, size, &prop, 0));
    CHECK(cuMemMap(at + size, size, 0, handle, 0));
    CHECK(cuMemSetAccess(at + size, size, &access, 1));
    CHECK(cuMemsetD8Async(at + size, 1, 100, stream));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuMemUnmap(at + size, size));
    CHECK(cuMemRelease(handle));
    CHECK(cuMemAddressFree(at, 2 * size));
}

void arrays(long round) {
    CUDA_ARRAY3D_DESCRIPTOR desc{};
    desc.Width = 16 + static_cast<size_t>(round % 16);
    desc.Height = 8;
    desc.Format = CU_AD_FORMAT_FLOAT;
    desc.NumChannels = 1;
    desc.Flags = CUDA_ARRAY3D_SURFACE_LDST;
    CUarray array, level;
    CUmipmappedArray mipmapped;
    CHECK(cuArray3DCreate(&array, &desc));
    CHECK(cuMipmappedArrayCreate(&mipmapped, &desc, 2));
    CHECK(cuMipmappedArrayGetLevel(&level, mipmapped, 1));
    CUDA_RESOURCE_DESC resource{};
    resource.resType = CU_RESOURCE_TYPE_ARRAY;
    resource.res.array.hArray = array;
    CUDA_TEXTURE_DESC sampling{};
    CUtexObject texture;
    CUsurfObject surface;
    CHECK(cuTexObjectCreate(&texture, &resource, &sampling, nullptr));
    CHECK(cuSurfObjectCreate(&surface, &resource));
    CHECK(cuTexObjectDestroy(texture));
    CHECK(cuSurfObjectDestroy(surface));
    CHECK(cuMipmappedArrayDestroy(mipmapped));
    CHECK(cuArrayDestroy(array));
}

// Built node by node, of every simple type; changed, cloned, launched.
void graphs(long round) {
    CUgraph one, clone, child;
    CUgraphExec exec;
    std::array<CUgraphNode, 7> node{};
    Add first(round), second(round + 1);
    CUDA_KERNEL_NODE_PARAMS kernel = first.node();
    const CUDA_MEMSET_NODE_PARAMS set{address(words), 0, 7, 4, 1, 1};
    const CUDA_MEMCPY3D copy = upload(words + 64, host.data(), 64);
    const CUDA_HOST_NODE_PARAMS call{[](void*) {}, nullptr};
    CHECK(cuGraphCreate(&one, 0));
    CHECK(cuGraphCreate(&child, 0));
    CHECK(cuGraphAddKernelNode(&node[0], child, nullptr, 0, &kernel));
    CHECK(cuGraphAddKernelNode(&node[1], one, nullptr, 0, &kernel));
    CHECK(cuGraphAddMemsetNode(&node[2], one, &node[1], 1, &set, context));
    CHECK(cuGraphAddMemcpyNode(&node[3], one, &node[2], 1, &copy, context));
    CHECK(cuGraphAddChildGraphNode(&node[4], one, &node[3], 1, child));
    CHECK(cuGraphAddEventRecordNode(&node[5], one, nullptr, 0, event));
    CHECK(cuGraphAddHostNode(&node[6], one, nullptr, 0, &call));
    CHECK(cuGraphClone(&clone, one));
    CHECK(cuGraphInstantiate(&exec, one, 0));
    CHECK(cuGraphLaunch(exec, stream));
    kernel = second.node();
    CHECK(cuGraphExecKernelNodeSetParams(exec, node[1], &kernel));
    CHECK(cuGraphKernelNodeSetParams(node[1], &kernel));
    CHECK(cuGraphNodeSetEnabled(exec, node[1], 0));
    CHECK(cuGraphDestroyNode(node[2]));
    CHECK(cuGraphAddEmptyNode(&node[2], one, &node[1], 1));
    CHECK(cuGraphLaunch(exec, stream));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuGraphDestroy(one));
    if (round % 2) CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphDestroy(clone));
    CHECK(cuGraphDestroy(child));
    if (round % 2 == 0) CHECK(cuGraphExecDestroy(exec));
}

CUgraph captured(long round) {
    CUgraph one;
    Add first(round);
    CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    CHECK(cuMemcpyHtoDAsync(words, host.data(), 64, stream));
    CHECK(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, first.parameters, nullptr));
    CHECK(cuStreamEndCapture(stream, &one));
    return one;
}

void captures(long round) {
    CUgraph one = captured(round);
    CUgraphExec exec;
    CHECK(cuGraphInstantiate(&exec, one, 0));
    CHECK(cuGraphDestroy(one));
    CHECK(cuGraphLaunch(exec, stream));
    CHECK(cuGraphExecDestroy(exec));
}

// One executable that lives on: updated, its nodes changed, and nodes coming and going in the graph it was made of.
void updates(long round) {
    CUgraph one;
    CUgraphNode node;
    CUgraphExecUpdateResultInfo info{};
    Add first(round), second(round + 1);
    CUDA_KERNEL_NODE_PARAMS kernel = first.node();
    CHECK(cuGraphCreate(&one, 0));
    CHECK(cuGraphAddKernelNode(&node, one, nullptr, 0, &kernel));
    CHECK(cuGraphExecUpdate(executable, one, &info));
    kernel = second.node();
    CHECK(cuGraphExecKernelNodeSetParams(executable, graph_node, &kernel));
    CHECK(cuGraphLaunch(executable, stream));
    CHECK(cuGraphDestroy(one));
    CHECK(cuGraphKernelNodeSetParams(graph_node, &kernel));
    CHECK(cuGraphAddEmptyNode(&node, graph, nullptr, 0));
    CHECK(cuGraphDestroyNode(node));
    CHECK(cuGraphExecUpdate(executable, graph, &info));
    CHECK(cuStreamSynchronize(stream));
}

// One executable and its graph that live on, and neither is updated.
void node_changes(long round) {
    static CUgraph one;
    static CUgraphNode node;
    static CUgraphExec exec;
    Add first(round);
    CUDA_KERNEL_NODE_PARAMS kernel = first.node();
    if (!one) {
        CHECK(cuGraphCreate(&one, 0));
        CHECK(cuGraphAddKernelNode(&node, one, nullptr, 0, &kernel));
        CHECK(cuGraphInstantiate(&exec, one, 0));
    }
    CHECK(cuGraphExecKernelNodeSetParams(exec, node, &kernel));
    CHECK(cuGraphNodeSetEnabled(exec, node, static_cast<unsigned>(round % 2)));
    CHECK(cuGraphKernelNodeSetParams(node, &kernel));
    CHECK(cuGraphLaunch(exec, stream));
    CHECK(cuStreamSynchronize(stream));
}

void user_objects(long) {
    CUuserObject object;
    CUgraph one;
    CUgraphExec exec;
    CHECK(cuUserObjectCreate(&object, &host, [](void*) {}, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    CHECK(cuGraphCreate(&one, 0));
    CHECK(cuGraphRetainUserObject(one, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
    CHECK(cuGraphInstantiate(&exec, one, 0));
    CHECK(cuGraphDestroy(one));
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuStreamSynchronize(stream));
}

void callbacks(long) {
    CHECK(cuLaunchHostFunc(stream, [](void*) {}, nullptr));
    CHECK(cuStreamAddCallback(stream, [](CUstream, CUresult, void*) {}, nullptr, 0));
    CHECK(cuStreamSynchronize(stream));
}

void log_callbacks(long) {
    CUlogsCallbackHandle handle;
    const CUresult status = cuLogsRegisterCallback([](void*, CUlogLevel, char*, size_t) {}, &handle, nullptr);
    if (status == CUDA_ERROR_NOT_SUPPORTED) return;  // by the software GPU
    CHECK(status);
    CHECK(cuLogsUnregisterCallback(handle));
}

void links(long) {
    CUlinkState state;
    void* image;
    size_t size;
    CHECK(cuLinkCreate(0, nullptr, nullptr, &state));
    CHECK(cuLinkAddData(state, CU_JIT_INPUT_PTX, const_cast<char*>(ptx), sizeof ptx, "churn", 0, nullptr, nullptr));
    CHECK(cuLinkComplete(state, &image, &size));
    CHECK(cuLinkDestroy(state));
}

// What is set again and again in what lives on.
void settings(long round) {
    CHECK(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 1024 + static_cast<size_t>(round % 64) * 16));
    CHECK(cuCtxSetCacheConfig(round % 2 ? CU_FUNC_CACHE_PREFER_L1 : CU_FUNC_CACHE_PREFER_SHARED));
    CHECK(cuFuncSetAttribute(add, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(round % 1024)));
    CHECK(cuFuncSetCacheConfig(add, round % 2 ? CU_FUNC_CACHE_PREFER_L1 : CU_FUNC_CACHE_PREFER_NONE));
    CUstreamAttrValue value{};
    value.syncPolicy = round % 2 ? CU_SYNC_POLICY_YIELD : CU_SYNC_POLICY_AUTO;
    CHECK(cuStreamSetAttribute(stream, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
    int on = static_cast<int>(round % 2);
    CHECK(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, words));
}

// Questions whose answers are objects.
void questions(long) {
    CUfunction function;
    CUdeviceptr at;
    size_t size;
    CHECK(cuModuleGetFunction(&function, module, "nothing"));
    CHECK(cuModuleGetGlobal(&at, &size, module, "variable"));
    CHECK(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuDevicePrimaryCtxRelease(device));
    CUipcMemHandle handle;
    CUdeviceptr one;
    CHECK(cuMemAlloc(&one, bytes));
    CHECK(cuIpcGetMemHandle(&handle, one));
    CHECK(cuMemFree(one));
    float ms;
    CHECK(cuEventElapsedTime(&ms, event, event));
}

// Threads that come and go, each with work in a stream of its own.
void threads(long) {
    std::thread([] {
        CHECK(cuCtxSetCurrent(context));
        CHECK(cuLaunchKernel(nothing, 1, 1, 1, 1, 1, 1, 0, CU_STREAM_PER_THREAD, nullptr, nullptr));
        CHECK(cuStreamSynchronize(CU_STREAM_PER_THREAD));
    }).join();
}

// Where the driver puts variables depends on all code that was ever loaded: these stay in the journal.
void modules(long) {
    CUmodule one;
    CUfunction function;
    CHECK(cuModuleLoadData(&one, ptx));
    CHECK(cuModuleGetFunction(&function, one, "nothing"));
    CHECK(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuModuleUnload(one));
}

void libraries(long) {
    CUlibrary one;
    CUkernel kernel;
    CHECK(cuLibraryLoadData(&one, ptx, nullptr, nullptr, 0, nullptr, nullptr, 0));
    CHECK(cuLibraryGetKernel(&kernel, one, "nothing"));
    CHECK(cuLaunchKernel(reinterpret_cast<CUfunction>(kernel), 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuLibraryUnload(one));
}

void contexts(long) {
    CUcontext one, old;
    CUstream in_it;
    CHECK(cuCtxCreate(&one, nullptr, 0, device));
    CHECK(cuStreamCreate(&in_it, 0));
    CHECK(cuCtxPopCurrent(&old));
    CHECK(cuCtxDestroy(one));
}

struct Kind {
    const char* name;
    void (*round)(long);
};
constexpr Kind kinds[] = {
    {"streams", streams},         {"events", events},     {"memory", memory},
    {"host-memory", host_memory}, {"managed-memory", managed_memory}, {"pools", pools},
    {"virtual-memory", virtual_memory}, {"arrays", arrays}, {"graphs", graphs},
    {"captures", captures},       {"updates", updates},   {"node-changes", node_changes},
    {"user-objects", user_objects}, {"callbacks", callbacks}, {"log-callbacks", log_callbacks},
    {"links", links},             {"settings", settings}, {"questions", questions},
    {"threads", threads},         {"modules", modules},   {"libraries", libraries},
    {"contexts", contexts},
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        for (const Kind& kind : kinds) std::puts(kind.name);
        return EXIT_SUCCESS;
    }
    std::FILE* told = std::fopen(argv[1], "r");
    if (!told) return EXIT_FAILURE;
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, ptx));
    CHECK(cuModuleGetFunction(&add, module, "add"));
    CHECK(cuModuleGetFunction(&nothing, module, "nothing"));
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventCreate(&event, CU_EVENT_DEFAULT));
    CHECK(cuMemAlloc(&words, bytes));
    CHECK(cuMemAllocManaged(&managed, bytes, CU_MEM_ATTACH_GLOBAL));
    CHECK(cuMemsetD8(words, 0, bytes));
    CHECK(cuEventRecord(event, stream));
    CHECK(cuGraphCreate(&graph, 0));
    Add first(1);
    CUDA_KERNEL_NODE_PARAMS kernel = first.node();
    CHECK(cuGraphAddKernelNode(&graph_node, graph, nullptr, 0, &kernel));
    CHECK(cuGraphInstantiate(&executable, graph, 0));
    char name[100];
    for (long rounds; std::fscanf(told, "%99s %ld", name, &rounds) == 2;) {
        const Kind* found = nullptr;
        for (const Kind& kind : kinds)
            if (!std::strcmp(kind.name, name)) found = &kind;
        if (!found) return EXIT_FAILURE;
        for (long round = 0; round < rounds; ++round) found->round(round);
        CHECK(cuCtxSynchronize());
        std::printf("%s %ld\n", name, rounds);
        std::fflush(stdout);
    }
    std::puts("PASS churn");
    return EXIT_SUCCESS;
}
