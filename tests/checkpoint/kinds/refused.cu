// SPDX-License-Identifier: MIT
// What a snapshot refuses by name. Each has a process of its own, which goes on as if nobody had asked.
#include <atomic>
#include <thread>

#include "kind.h"

namespace kinds {
namespace {

__global__ void store(unsigned* to, unsigned value) { *to = value; }

// ------------------------------------------------------------------------------------- memory that a graph has left
struct {
    CUgraphExec exec;
    CUstream stream;
    CUdeviceptr memory;
} graph_memory;

void graph_memory_set_up() {
    CUgraph graph = nullptr;
    CUgraphNode node = nullptr;
    CU(cuStreamCreate(&graph_memory.stream, CU_STREAM_NON_BLOCKING));
    CU(cuGraphCreate(&graph, 0));
    CUDA_MEM_ALLOC_NODE_PARAMS params{};
    params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    params.bytesize = 1 << 20;
    CU(cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params));
    graph_memory.memory = params.dptr;
    CU(cuGraphInstantiate(&graph_memory.exec, graph, 0));
    CU(cuGraphLaunch(graph_memory.exec, graph_memory.stream));
    CU(cuStreamSynchronize(graph_memory.stream));
    CU(cuMemsetD32(graph_memory.memory, 9, 4));
}

void graph_memory_look() {
    SAME(words_of(reinterpret_cast<void*>(graph_memory.memory), 4)[3], 9u);
}

// ---------------------------------------------------------------------------- executables that kernels may launch
struct {
    cudaGraphExec_t exec;
    cudaStream_t stream;
    unsigned* out;
} launchable;

void launchable_set_up() {
    cudaGraph_t graph = nullptr;
    RT(cudaMalloc(&launchable.out, 4));
    RT(cudaStreamCreateWithFlags(&launchable.stream, cudaStreamNonBlocking));
    RT(cudaStreamBeginCapture(launchable.stream, cudaStreamCaptureModeThreadLocal));
    store<<<1, 1, 0, launchable.stream>>>(launchable.out, 17);
    RT(cudaStreamEndCapture(launchable.stream, &graph));
    RT(cudaGraphInstantiate(&launchable.exec, graph, cudaGraphInstantiateFlagDeviceLaunch));
}

void launchable_look() {
    CU(cuMemsetD32(device(launchable.out), 0, 1));
    CU(cuCtxSynchronize());
    RT(cudaGraphLaunch(launchable.exec, launchable.stream));
    RT(cudaStreamSynchronize(launchable.stream));
    SAME(words_of(launchable.out, 1)[0], 17u);
}

// ----------------------------------------------------------------------------------------------- a capture in progress
struct {
    cudaStream_t stream;
    unsigned* out;
    bool ended;
} capture;

void capture_set_up() {
    RT(cudaMalloc(&capture.out, 4));
    RT(cudaMemset(capture.out, 0, 4));
    RT(cudaDeviceSynchronize());
    RT(cudaStreamCreateWithFlags(&capture.stream, cudaStreamNonBlocking));
    RT(cudaStreamBeginCapture(capture.stream, cudaStreamCaptureModeRelaxed));
    store<<<1, 1, 0, capture.stream>>>(capture.out, 23);
}

void capture_look() {
    if (capture.ended) return;  // once
    capture.ended = true;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    RT(cudaStreamEndCapture(capture.stream, &graph));
    RT(cudaGraphInstantiate(&exec, graph, 0));
    RT(cudaGraphLaunch(exec, capture.stream));
    RT(cudaStreamSynchronize(capture.stream));
    SAME(words_of(capture.out, 1)[0], 23u);
}

// ------------------------------------------------------------------------- a host function that has not returned yet
std::atomic<bool> let_go{false}, returned{false};
void CUDART_CB wait_for_it(void*) {
    while (!let_go) usleep(100);
    returned = true;
}

cudaStream_t waiting;

void pending_set_up() {
    RT(cudaStreamCreateWithFlags(&waiting, cudaStreamNonBlocking));
    RT(cudaLaunchHostFunc(waiting, wait_for_it, nullptr));
    CHECK(cudaStreamQuery(waiting) == cudaErrorNotReady);
}

void pending_look() {
    if (returned) return;  // once: nothing is to be left waiting at the end
    let_go = true;  // before any call: one after a plain dump is answered when the host function has returned
    RT(cudaStreamSynchronize(waiting));
    CHECK(returned);
}

// ------------------------------------------------------------------------------------ a context that a fault has broken
void sticky_set_up() {
    store<<<1, 1>>>(reinterpret_cast<unsigned*>(64), 1);
    CHECK(cudaDeviceSynchronize() != cudaSuccess);
}
void sticky_look() { CHECK(cudaDeviceSynchronize() != cudaSuccess); }

// --------------------------------------------------------------------------------- memory that other processes may use
struct {
    unsigned* memory;
    cudaIpcMemHandle_t handle;
} shared;

void shared_set_up() {
    RT(cudaMalloc(&shared.memory, 1 << 20));
    fill(shared.memory, 1000, 8);
    RT(cudaIpcGetMemHandle(&shared.handle, shared.memory));
}
void shared_look() { check_filled(shared.memory, 1000, 8); }

struct {
    CUmemGenericAllocationHandle handle;
    int fd;
} exported;

void exported_set_up() {
    CUmemAllocationProp prop{};
    size_t granule = 0;
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    CU(cuMemCreate(&exported.handle, granule, &prop, 0));
    CU(cuMemExportToShareableHandle(&exported.fd, exported.handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
}
void exported_look() {
    CUmemAllocationProp prop{};
    CU(cuMemGetAllocationPropertiesFromHandle(&prop, exported.handle));
}

CUevent shared_event;
void shared_event_set_up() {
    CUipcEventHandle handle;
    CU(cuEventCreate(&shared_event, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
    CU(cuIpcGetEventHandle(&handle, shared_event));
}
void shared_event_look() {
    CU(cuEventRecord(shared_event, nullptr));
    CU(cuEventSynchronize(shared_event));
}

const Kinds kinds{{"graph-memory-left", graph_memory_set_up, graph_memory_look, true},
                  {"graph-device-launch", launchable_set_up, launchable_look, true},
                  {"capture", capture_set_up, capture_look, true},
                  {"host-function-pending", pending_set_up, pending_look, true},
                  {"sticky-error", sticky_set_up, sticky_look, true},
                  {"shared-memory", shared_set_up, shared_look, true},
                  {"exported-memory", exported_set_up, exported_look, true},
                  {"shared-event", shared_event_set_up, shared_event_look, true}};

}  // namespace
}  // namespace kinds
