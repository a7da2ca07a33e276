// SPDX-License-Identifier: MIT
// Stream capture: begun and ended in the driver, with what it needs to know of the application's threads (captures.h).
#include <cstring>
#include <vector>

#include "dispatch.h"
#include "graph_nodes.h"
#include "session.h"

namespace cricket::server {
namespace {

bool nodes_of(Call& call, const rpc::Blob& numbers, uint64_t count, std::vector<CUgraphNode>* out) {
    if (count > rpc::max_blob_bytes / sizeof(uint64_t) || numbers.size != (numbers.present ? count * sizeof(uint64_t) : 0)) return false;
    out->resize(numbers.size / sizeof(uint64_t));
    for (size_t i = 0; i < out->size(); ++i) {
        uint64_t number = 0;
        std::memcpy(&number, static_cast<const std::byte*>(numbers.data) + i * sizeof number, sizeof number);
        if (!driver_handle(call.objects, HandleKind::GraphNode, number, &(*out)[i])) return false;
    }
    return true;
}

Captures::Capture capture_of(const Call& call, uint64_t stream, int32_t mode) {
    return {call.credential.thread, static_cast<CUstreamCaptureMode>(mode), stream, nullptr, false};
}

}  // namespace

void serve_cuStreamBeginCapture_v2(Call& call, const cuStreamBeginCapture_v2_args& args, cuStreamBeginCapture_v2_res& res) {
    CUstream stream = nullptr;
    Captures& captures = call.session.captures;
    if (!call.driver.cuStreamBeginCapture) res.status = CUDA_ERROR_NOT_SUPPORTED;
    else if (!call.stream(args.hStream, &stream)) res.status = CUDA_ERROR_INVALID_HANDLE;
    else res.status = call.driver.cuStreamBeginCapture(stream, static_cast<CUstreamCaptureMode>(args.mode));
    if (res.status == CUDA_SUCCESS) captures.began(stream, capture_of(call, args.hStream, args.mode));
    res.captures = captures.state(call.credential);
}

void serve_cuStreamBeginCaptureToGraph(Call& call, const cuStreamBeginCaptureToGraph_args& args,
                                       cuStreamBeginCaptureToGraph_res& res) {
    CUstream stream = nullptr;
    CUgraph graph = nullptr;
    std::vector<CUgraphNode> nodes;
    std::vector<CUgraphEdgeData> edges(args.dependencyData.size / sizeof(CUgraphEdgeData));
    Captures& captures = call.session.captures;
    res.captures = captures.state(call.credential);
    if (!call.driver.cuStreamBeginCaptureToGraph) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    if (!call.stream(args.hStream, &stream)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    if (!driver_handle(call.objects, HandleKind::Graph, args.hGraph, &graph) ||
        !nodes_of(call, args.dependencies, args.numDependencies, &nodes) ||
        (args.dependencyData.present && args.dependencyData.size != args.numDependencies * sizeof(CUgraphEdgeData))) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    if (!edges.empty()) std::memcpy(edges.data(), args.dependencyData.data, args.dependencyData.size);
    res.status = call.driver.cuStreamBeginCaptureToGraph(stream, graph, nodes.empty() ? nullptr : nodes.data(),
                                                         edges.empty() ? nullptr : edges.data(), args.numDependencies,
                                                         static_cast<CUstreamCaptureMode>(args.mode));
    if (res.status == CUDA_SUCCESS) {
        Captures::Capture capture = capture_of(call, args.hStream, args.mode);
        capture.graph = graph;
        capture.to_graph = true;
        captures.began(stream, capture);
    }
    res.captures = captures.state(call.credential);
}

void serve_cuStreamEndCapture(Call& call, const cuStreamEndCapture_args& args, cuStreamEndCapture_res& res) {
    CUstream stream = nullptr;
    Captures& captures = call.session.captures;
    res.captures = captures.state(call.credential);
    if (!call.driver.cuStreamEndCapture || !call.stream(args.hStream, &stream)) {
        res.status = call.driver.cuStreamEndCapture ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    const Captures::Capture* capture = captures.find(stream);
    const bool wrong_thread =
        capture && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != call.credential.thread;
    const bool into_graph = capture && capture->to_graph;
    // A capture that fails takes its graph with it, whose number the application may have been told.
    const CUgraph told = capture && !capture->to_graph ? capture->graph : nullptr;
    DroppedNumbers dropped(call);
    if (told) dropped.graph(told);
    CUgraph graph = nullptr;
    res.status = call.driver.cuStreamEndCapture(stream, &graph);
    if (res.status == CUDA_SUCCESS && wrong_thread) {
        // The driver, for which one thread captures, would refuse, and end the capture nevertheless.
        if (graph && !into_graph) call.driver.cuGraphDestroy(graph);
        graph = nullptr;
        res.status = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    if (res.status == CUDA_SUCCESS && graph) {
        res.phGraph = call.objects.add(HandleKind::Graph, graph);
    }
    const bool ended = captures.look_for_ended();
    if (ended && told && graph != told) {
        dropped.drop();
        call.session.graph_history.destroyed(told);
        call.objects.remove(HandleKind::Graph, call.objects.find(HandleKind::Graph, told));
    }
    if (ended) call.session.captures_ended();
    res.captures = captures.state(call.credential);
}

void serve_cuStreamIsCapturing(Call& call, const cuStreamIsCapturing_args& args, cuStreamIsCapturing_res& res) {
    CUstream stream = nullptr;
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    call.session.captures.look_for_ended();
    if (!call.stream(args.hStream, &stream)) res.status = CUDA_ERROR_INVALID_HANDLE;
    else res.status = call.driver.cuStreamIsCapturing ? call.driver.cuStreamIsCapturing(stream, &status) : CUDA_SUCCESS;
    res.captureStatus = status;
    res.captures = call.session.captures.state(call.credential);
}

void serve_cricketCaptureInfo(Call& call, const cricketCaptureInfo_args& args, cricketCaptureInfo_res& res) {
    CUstream stream = nullptr;
    if (!call.stream(args.stream, &stream)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    cuuint64_t id = 0;
    CUgraph graph = nullptr;
    const CUgraphNode* nodes = nullptr;
    const CUgraphEdgeData* edges = nullptr;
    size_t count = 0;
    const DriverTable& driver = call.driver;
    if (args.version == 3 && driver.cuStreamGetCaptureInfo_v3)
        res.status = driver.cuStreamGetCaptureInfo_v3(stream, &status, &id, &graph, &nodes, args.want_edges ? &edges : nullptr, &count);
    else if (args.version == 2 && driver.cuStreamGetCaptureInfo_v2)
        res.status = driver.cuStreamGetCaptureInfo_v2(stream, &status, &id, &graph, &nodes, &count);
    else if (args.version == 1 && driver.cuStreamGetCaptureInfo_v1)
        res.status = driver.cuStreamGetCaptureInfo_v1(stream, &status, &id);
    else
        res.status = CUDA_ERROR_NOT_SUPPORTED;
    if (res.status != CUDA_SUCCESS) return;
    res.capture = status;
    if (status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return;
    res.id = id;
    if (graph) {
        res.graph = call.objects.add(HandleKind::Graph, graph);
        call.session.captures.told(id, graph);
    }
    res.count = count;
    if (count > args.room) return;
    std::vector<uint64_t> numbers;
    for (size_t i = 0; i < count; ++i) numbers.push_back(call.objects.add(HandleKind::GraphNode, nodes[i]));
    if (!give_bytes(&res.nodes, numbers.data(), count * sizeof(uint64_t)) ||
        !give_bytes(&res.edges, edges, edges ? count * sizeof *edges : 0))
        res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

void serve_cricketSharePages(Call& call, const cricketSharePages_args& args, cricketSharePages_res& res) {
    const Captures::OwnWork own(call.session.captures);
    res.status = call.session.host_memory.share(args.address, args.bytes, args.offset);
}

}  // namespace cricket::server
