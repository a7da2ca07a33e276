// SPDX-License-Identifier: MIT
#include "client/captures.h"

#include <stdlib.h>

#include <cstring>
#include <map>
#include <mutex>

#include "client/contexts.h"
#include "client/reply_guard.h"
#include "custom.h"
#include "handle_kinds.h"

namespace cricket::client {
namespace captures {

constinit std::atomic<uint64_t> state{0};
constinit thread_local uint32_t thread_mode __attribute__((tls_model("initial-exec"))) = CU_STREAM_CAPTURE_MODE_GLOBAL;

void told(uint64_t now) {
    uint64_t known = state.load(std::memory_order_relaxed);
    while (now > known && !state.compare_exchange_weak(known, now, std::memory_order_acq_rel)) {
    }
}

void forget() {
    state.store(0);
    thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
}

static CUresult ask(uint64_t stream, uint32_t call_flags, int32_t* status) {
    cuStreamIsCapturing_args args{};
    cuStreamIsCapturing_res res{};
    args.hStream = stream;
    ReplyGuard guard;
    const CUresult result = call(args, res, {call_flags});
    told(res.captures);
    *status = res.captureStatus;
    return result;
}

bool capturing(uint64_t stream, uint32_t call_flags) {
    int32_t status = CU_STREAM_CAPTURE_STATUS_NONE;
    return active() && ask(stream, call_flags, &status) == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

}  // namespace captures

namespace {

// What cuStreamGetCaptureInfo handed out for a stream: valid until it is asked again, or its capture ends.
struct Arrays {
    CUgraphNode* nodes = nullptr;
    CUgraphEdgeData* edges = nullptr;
};
struct Handed {
    std::mutex mutex;
    std::map<uint64_t, Arrays> arrays;  // by stream
};
Handed& handed() {
    static auto* all = new Handed;  // never destroyed: see Session::start
    return *all;
}

void hand_out(uint64_t stream, Arrays arrays) {
    std::lock_guard lock(handed().mutex);
    Arrays& place = handed().arrays[stream];
    ::free(place.nodes);
    ::free(place.edges);
    place = arrays;
    if (!arrays.nodes) handed().arrays.erase(stream);
}

bool is_stream(uint64_t number) {
    return number <= 2 || number >> 36 == static_cast<uint64_t>(HandleKind::Stream);
}

// The answer while nothing captures: no stream does.
CUresult none_captures(CUstream stream, CUstreamCaptureStatus* status) {
    if (!status) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) return Session::absent();
    const uint64_t number = to_number(stream);
    if (!is_stream(number)) return CUDA_ERROR_INVALID_HANDLE;
    if (number <= 2 && !current_context()) return need_context();
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

enum InfoVersion : uint32_t { v1 = 1, v2 = 2, v3 = 3 };

CUresult capture_info(uint32_t call_flags, InfoVersion version, CUstream stream, CUstreamCaptureStatus* status,
                      cuuint64_t* id, CUgraph* graph, const CUgraphNode** nodes, const CUgraphEdgeData** edges,
                      size_t* count) {
    if (!captures::active()) return none_captures(stream, status);
    if (!status) return CUDA_ERROR_INVALID_VALUE;
    cricketCaptureInfo_args args{};
    args.stream = to_number(stream);
    args.version = version;
    args.want_edges = edges != nullptr;
    for (args.room = 256;;) {
        cricketCaptureInfo_res res{};
        ReplyGuard guard;
        const CUresult result = call(args, res, {call_flags, args.room * (sizeof(CUgraphNode) + sizeof(CUgraphEdgeData)) + 64});
        if (result != CUDA_SUCCESS) return result;
        *status = static_cast<CUstreamCaptureStatus>(res.capture);
        if (res.capture != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
        if (res.count > args.room) {
            if (res.count > UINT32_MAX / 2) return CUDA_ERROR_OUT_OF_MEMORY;
            args.room = static_cast<uint32_t>(res.count);
            continue;
        }
        if (id) *id = res.id;
        if (graph) *graph = from_number<CUgraph>(res.graph);
        if (count) *count = res.count;
        if (!nodes && !edges) return CUDA_SUCCESS;
        Arrays arrays;
        arrays.nodes = static_cast<CUgraphNode*>(::malloc(res.nodes.size + 1));
        arrays.edges = static_cast<CUgraphEdgeData*>(::malloc(res.edges.size + 1));
        if (!arrays.nodes || !arrays.edges) {
            ::free(arrays.nodes);
            ::free(arrays.edges);
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
        if (res.nodes.size) std::memcpy(arrays.nodes, res.nodes.data, res.nodes.size);
        if (res.edges.size) std::memcpy(arrays.edges, res.edges.data, res.edges.size);
        if (nodes) *nodes = res.count ? arrays.nodes : nullptr;
        if (edges) *edges = res.edges.size ? arrays.edges : nullptr;
        hand_out(args.stream, arrays);
        return CUDA_SUCCESS;
    }
}

rpc::Blob array_blob(const void* data, size_t count, size_t element) {
    return {data, data ? static_cast<uint32_t>(count * element) : 0, data != nullptr, false};
}

constexpr size_t most_dependencies = rpc::max_blob_bytes / sizeof(CUgraphNode);

}  // namespace

CUresult impl_cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    if (!initialized()) return Session::absent();
    if (!mode || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
    const uint32_t before = captures::thread_mode;
    captures::thread_mode = *mode;
    *mode = static_cast<CUstreamCaptureMode>(before);
    return CUDA_SUCCESS;
}

CUresult impl_cuStreamBeginCapture(uint32_t call_flags, CUstream hStream) {
    return impl_cuStreamBeginCapture_v2(call_flags, hStream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult impl_cuStreamBeginCapture_v2(uint32_t call_flags, CUstream hStream, CUstreamCaptureMode mode) {
    cuStreamBeginCapture_v2_args args{};
    cuStreamBeginCapture_v2_res res{};
    args.hStream = to_number(hStream);
    args.mode = mode;
    ReplyGuard guard;
    const CUresult result = call(args, res, {call_flags});
    captures::told(res.captures);
    return result;
}

CUresult impl_cuStreamBeginCaptureToGraph(uint32_t call_flags, CUstream hStream, CUgraph hGraph,
                                          const CUgraphNode* dependencies, const CUgraphEdgeData* dependencyData,
                                          size_t numDependencies, CUstreamCaptureMode mode) {
    if (numDependencies > most_dependencies || (numDependencies && !dependencies)) return CUDA_ERROR_INVALID_VALUE;
    cuStreamBeginCaptureToGraph_args args{};
    cuStreamBeginCaptureToGraph_res res{};
    args.hStream = to_number(hStream);
    args.hGraph = to_number(hGraph);
    args.dependencies = array_blob(dependencies, numDependencies, sizeof *dependencies);
    args.dependencyData = array_blob(dependencyData, numDependencies, sizeof *dependencyData);
    args.numDependencies = numDependencies;
    args.mode = mode;
    ReplyGuard guard;
    const CUresult result = call(args, res, {call_flags});
    captures::told(res.captures);
    return result;
}

CUresult impl_cuStreamEndCapture(uint32_t call_flags, CUstream hStream, CUgraph* phGraph) {
    cuStreamEndCapture_args args{};
    cuStreamEndCapture_res res{};
    args.hStream = to_number(hStream);
    ReplyGuard guard;
    const CUresult result = call(args, res, {call_flags});
    captures::told(res.captures);
    if (phGraph) *phGraph = from_number<CUgraph>(res.phGraph);  // a capture to a graph may be ended without
    hand_out(args.hStream, {});
    return result;
}

CUresult impl_cuStreamIsCapturing(uint32_t call_flags, CUstream hStream, CUstreamCaptureStatus* captureStatus) {
    if (!captures::active()) return none_captures(hStream, captureStatus);
    if (!captureStatus) return CUDA_ERROR_INVALID_VALUE;
    int32_t status = CU_STREAM_CAPTURE_STATUS_NONE;
    const CUresult result = captures::ask(to_number(hStream), call_flags, &status);
    if (result == CUDA_SUCCESS) *captureStatus = static_cast<CUstreamCaptureStatus>(status);
    return result;
}

CUresult impl_cuStreamGetCaptureInfo(uint32_t call_flags, CUstream hStream, CUstreamCaptureStatus* captureStatus_out,
                                     cuuint64_t* id_out) {
    return capture_info(call_flags, v1, hStream, captureStatus_out, id_out, nullptr, nullptr, nullptr, nullptr);
}

CUresult impl_cuStreamGetCaptureInfo_v2(uint32_t call_flags, CUstream hStream, CUstreamCaptureStatus* captureStatus_out,
                                        cuuint64_t* id_out, CUgraph* graph_out, const CUgraphNode** dependencies_out,
                                        size_t* numDependencies_out) {
    return capture_info(call_flags, v2, hStream, captureStatus_out, id_out, graph_out, dependencies_out, nullptr,
                        numDependencies_out);
}

CUresult impl_cuStreamGetCaptureInfo_v3(uint32_t call_flags, CUstream hStream, CUstreamCaptureStatus* captureStatus_out,
                                        cuuint64_t* id_out, CUgraph* graph_out, const CUgraphNode** dependencies_out,
                                        const CUgraphEdgeData** edgeData_out, size_t* numDependencies_out) {
    return capture_info(call_flags, v3, hStream, captureStatus_out, id_out, graph_out, dependencies_out, edgeData_out,
                        numDependencies_out);
}

}  // namespace cricket::client
