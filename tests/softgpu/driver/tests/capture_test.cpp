// SPDX-License-Identifier: MIT
#include <thread>

#include "fixture.h"

class Captures : public Gpu {
  protected:
    CUstream make(unsigned flags = CU_STREAM_NON_BLOCKING) {
        CUstream stream = nullptr;
        EXPECT_OK(cuStreamCreate(&stream, flags));
        return stream;
    }

    CUevent event() {
        CUevent made = nullptr;
        EXPECT_OK(cuEventCreate(&made, CU_EVENT_DISABLE_TIMING));
        return made;
    }

    CUstream begin(unsigned flags = CU_STREAM_NON_BLOCKING,
                   CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL) {
        auto stream = make(flags);
        EXPECT_OK(cuStreamBeginCapture(stream, mode));
        return stream;
    }

    size_t count(CUgraph graph) {
        size_t number = 0;
        EXPECT_OK(cuGraphGetNodes(graph, nullptr, &number));
        return number;
    }

    size_t edges(CUgraph graph) {
        size_t number = 0;
        EXPECT_OK(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &number));
        return number;
    }

    CUstreamCaptureStatus status(CUstream stream) {
        CUstreamCaptureStatus value = CU_STREAM_CAPTURE_STATUS_NONE;
        EXPECT_OK(cuStreamIsCapturing(stream, &value));
        return value;
    }

    // The capture must be broken, and end with that error.
    void expect_broken(CUstream stream, CUresult error = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED) {
        CUgraph graph = reinterpret_cast<CUgraph>(1);
        EXPECT_EQ(status(stream), CU_STREAM_CAPTURE_STATUS_INVALIDATED);
        EXPECT_CU(error, cuStreamEndCapture(stream, &graph));
        EXPECT_EQ(graph, nullptr);
        EXPECT_EQ(status(stream), CU_STREAM_CAPTURE_STATUS_NONE);
    }
};

TEST_F(Captures, WorkIsDoneAtLaunches) {
    auto module = load();
    auto words = allocate(16);
    write(words, uint64_t{0});
    auto stream = begin();
    CUdeviceptr more;
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc(&more, 16));  // GLOBAL forbids it
    expect_broken(stream);

    EXPECT_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    EXPECT_EQ(status(stream), CU_STREAM_CAPTURE_STATUS_ACTIVE);
    EXPECT_OK(cuMemsetD32Async(words, 20, 2, stream));
    EXPECT_OK(launch(function(module, "add_one"), stream, 1, words));
    EXPECT_OK(cuMemcpyDtoDAsync(words + 8, words, 8, stream));
    int seen = 0;
    struct Data {
        int* seen;
    } data{&seen};
    EXPECT_OK(cuLaunchHostFunc(
        stream, [](void* p) { ++*static_cast<Data*>(p)->seen; }, &data));
    CUgraph graph = nullptr;
    EXPECT_OK(cuStreamEndCapture(stream, &graph));
    EXPECT_EQ(read<int>(words), 0);
    EXPECT_EQ(count(graph), 4u);
    EXPECT_EQ(edges(graph), 3u);

    CUgraphExec exec = nullptr;
    EXPECT_OK(cuGraphInstantiate(&exec, graph, 0));
    for (int i = 1; i <= 3; ++i) {
        EXPECT_OK(cuGraphLaunch(exec, stream));
        EXPECT_OK(cuStreamSynchronize(stream));
        EXPECT_EQ(seen, i);
        EXPECT_EQ(read<int>(words), 21);
        EXPECT_EQ(read<int>(words + 8), 21);
        EXPECT_EQ(read<int>(words + 12), 20);
    }
    EXPECT_OK(cuGraphDestroy(graph));
    EXPECT_OK(cuGraphLaunch(exec, nullptr));
    EXPECT_OK(cuGraphExecDestroy(exec));  // the launch goes on
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_EQ(seen, 4);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(exec, stream));
}

TEST_F(Captures, EventsBringOtherStreamsIn) {
    auto words = allocate(16);
    auto origin = begin(), side = make();
    auto fork = event(), join = event();
    EXPECT_OK(cuMemsetD32Async(words, 1, 1, origin));
    EXPECT_OK(cuEventRecord(fork, origin));
    EXPECT_OK(cuStreamWaitEvent(side, fork, 0));
    EXPECT_EQ(status(side), CU_STREAM_CAPTURE_STATUS_ACTIVE);
    EXPECT_OK(cuMemsetD32Async(words + 4, 2, 1, side));
    EXPECT_OK(cuMemsetD32Async(words + 8, 3, 1, origin));
    EXPECT_CU(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(fork));
    expect_broken(origin);
    EXPECT_EQ(status(side), CU_STREAM_CAPTURE_STATUS_NONE);

    EXPECT_OK(cuStreamBeginCapture(origin, CU_STREAM_CAPTURE_MODE_GLOBAL));
    EXPECT_OK(cuMemsetD32Async(words, 1, 1, origin));
    EXPECT_OK(cuEventRecord(fork, origin));
    EXPECT_OK(cuStreamWaitEvent(side, fork, 0));
    EXPECT_OK(cuMemsetD32Async(words + 4, 2, 1, side));
    EXPECT_OK(cuMemsetD32Async(words + 8, 3, 1, origin));
    EXPECT_OK(cuEventRecord(join, side));
    CUgraph graph = nullptr;
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, cuStreamEndCapture(side, &graph));
    EXPECT_OK(cuStreamWaitEvent(origin, join, 0));
    EXPECT_OK(cuMemsetD32Async(words + 12, 4, 1, origin));
    EXPECT_OK(cuStreamEndCapture(origin, &graph));
    EXPECT_EQ(count(graph), 4u);
    EXPECT_EQ(edges(graph), 4u);
    size_t roots = 0;
    EXPECT_OK(cuGraphGetRootNodes(graph, nullptr, &roots));
    EXPECT_EQ(roots, 1u);
    CUgraphExec exec = nullptr;
    EXPECT_OK(cuGraphInstantiate(&exec, graph, 0));
    EXPECT_OK(cuGraphLaunch(exec, side));
    EXPECT_OK(cuStreamSynchronize(side));
    for (int i = 0; i < 4; ++i) EXPECT_EQ(read<int>(words + 4u * static_cast<unsigned>(i)), i + 1);
}

TEST_F(Captures, UnjoinedStreams) {
    auto origin = begin(), side = make();
    auto fork = event();
    EXPECT_OK(cuEventRecord(fork, origin));
    EXPECT_OK(cuStreamWaitEvent(side, fork, 0));
    EXPECT_OK(cuLaunchHostFunc(
        side, [](void*) {}, nullptr));
    CUgraph graph = reinterpret_cast<CUgraph>(1);
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(origin, &graph));
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(status(side), CU_STREAM_CAPTURE_STATUS_NONE);
}

TEST_F(Captures, TwoCapturesDoNotMerge) {
    auto first = begin(), second = begin();
    auto mark = event();
    EXPECT_OK(cuEventRecord(mark, first));
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_MERGE, cuStreamWaitEvent(second, mark, 0));
    expect_broken(first);
    expect_broken(second);
}

TEST_F(Captures, EventsFromOutside) {
    auto mark = event();
    EXPECT_OK(cuEventRecord(mark, nullptr));
    auto stream = begin();
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, cuStreamWaitEvent(stream, mark, 0));
    expect_broken(stream);
    EXPECT_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    EXPECT_OK(cuStreamWaitEvent(stream, mark, CU_EVENT_WAIT_EXTERNAL));
    EXPECT_OK(cuEventRecordWithFlags(mark, stream, CU_EVENT_RECORD_EXTERNAL));
    CUgraph graph = nullptr;
    EXPECT_OK(cuStreamEndCapture(stream, &graph));
    CUgraphNode nodes[2] = {};
    size_t number = 2;
    EXPECT_OK(cuGraphGetNodes(graph, nodes, &number));
    ASSERT_EQ(number, 2u);
    CUgraphNodeType type;
    EXPECT_OK(cuGraphNodeGetType(nodes[0], &type));
    EXPECT_EQ(type, CU_GRAPH_NODE_TYPE_WAIT_EVENT);
    EXPECT_OK(cuGraphNodeGetType(nodes[1], &type));
    EXPECT_EQ(type, CU_GRAPH_NODE_TYPE_EVENT_RECORD);
    CUevent seen = nullptr;
    EXPECT_OK(cuGraphEventRecordNodeGetEvent(nodes[1], &seen));
    EXPECT_EQ(seen, mark);
}

TEST_F(Captures, SynchronizingBreaksThem) {
    auto stream = begin();
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(stream));
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuMemsetD32Async(0x1000, 1, 1, stream));
    expect_broken(stream);
    EXPECT_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamQuery(stream));
    expect_broken(stream);
    EXPECT_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuCtxSynchronize());
    expect_broken(stream);
    // A relaxed one is none of the other calls' business.
    EXPECT_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    EXPECT_OK(cuCtxSynchronize());
    CUgraph graph = nullptr;
    EXPECT_OK(cuStreamEndCapture(stream, &graph));
    EXPECT_EQ(count(graph), 0u);
}

TEST_F(Captures, TheLegacyStreamBesideBlockingOnes) {
    auto blocking = begin(CU_STREAM_DEFAULT);
    CUstreamCaptureStatus value;
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuStreamIsCapturing(nullptr, &value));
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuLaunchHostFunc(
                                                      nullptr, [](void*) {}, nullptr));
    expect_broken(blocking);
    EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
              cuStreamBeginCapture(CU_STREAM_LEGACY, CU_STREAM_CAPTURE_MODE_GLOBAL));
    auto other = begin();  // a non-blocking one is no obstacle
    EXPECT_OK(cuLaunchHostFunc(
        nullptr, [](void*) {}, nullptr));
    CUgraph graph = nullptr;
    EXPECT_OK(cuStreamEndCapture(other, &graph));
}

TEST_F(Captures, ModesOfThreads) {
    auto stream = begin();
    std::thread([&] {
        EXPECT_OK(cuCtxSetCurrent(context));
        CUdeviceptr pointer = 0;
        CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        EXPECT_OK(cuThreadExchangeStreamCaptureMode(&mode));
        EXPECT_EQ(mode, CU_STREAM_CAPTURE_MODE_GLOBAL);
        EXPECT_OK(cuMemAlloc(&pointer, 16));  // others' captures are ignored
        mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
        EXPECT_OK(cuThreadExchangeStreamCaptureMode(&mode));
        EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc(&pointer, 16));
    }).join();
    expect_broken(stream);
    auto ended_elsewhere = begin();
    std::thread([&] {
        EXPECT_OK(cuCtxSetCurrent(context));
        CUgraph graph = nullptr;
        EXPECT_CU(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, cuStreamEndCapture(ended_elsewhere, &graph));
        EXPECT_EQ(graph, nullptr);
    }).join();
    EXPECT_EQ(status(ended_elsewhere), CU_STREAM_CAPTURE_STATUS_NONE);
    auto local = begin(CU_STREAM_NON_BLOCKING, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    std::thread([&] {
        EXPECT_OK(cuCtxSetCurrent(context));
        CUdeviceptr pointer = 0;
        EXPECT_OK(cuMemAlloc(&pointer, 16));
    }).join();
    CUgraph graph = nullptr;
    EXPECT_OK(cuStreamEndCapture(local, &graph));
    EXPECT_CU(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(local, &graph));
    begin();
    EXPECT_CU(CUDA_ERROR_ILLEGAL_STATE, [&] {
        auto twice = begin();
        return cuStreamBeginCapture(twice, CU_STREAM_CAPTURE_MODE_GLOBAL);
    }());
}

TEST_F(Captures, InfoAndDependencies) {
    auto words = allocate(8);
    auto stream = begin();
    EXPECT_OK(cuMemsetD32Async(words, 1, 1, stream));
    CUstreamCaptureStatus state;
    cuuint64_t id = 0;
    CUgraph graph = nullptr;
    const CUgraphNode* last = nullptr;
    size_t number = 0;
    EXPECT_OK(cuStreamGetCaptureInfo(stream, &state, &id, &graph, &last, nullptr, &number));
    EXPECT_NE(id, 0u);
    ASSERT_EQ(number, 1u);
    CUgraphNode added = nullptr;
    EXPECT_OK(cuGraphAddEmptyNode(&added, graph, last, 1));
    EXPECT_OK(
        cuStreamUpdateCaptureDependencies(stream, &added, nullptr, 1, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
    EXPECT_OK(cuMemsetD32Async(words, 1, 1, stream));
    CUgraph ended = nullptr;
    EXPECT_OK(cuStreamEndCapture(stream, &ended));
    EXPECT_EQ(ended, graph);
    EXPECT_EQ(count(graph), 3u);
    EXPECT_EQ(edges(graph), 2u);
    CUgraphNode none = nullptr;
    EXPECT_CU(CUDA_ERROR_ILLEGAL_STATE, cuStreamUpdateCaptureDependencies(stream, &none, nullptr, 0, 0));
}

TEST_F(Captures, IntoAGraph) {
    CUgraph graph = nullptr;
    EXPECT_OK(cuGraphCreate(&graph, 0));
    CUgraphNode first = nullptr;
    EXPECT_OK(cuGraphAddEmptyNode(&first, graph, nullptr, 0));
    auto stream = make();
    EXPECT_OK(cuStreamBeginCaptureToGraph(stream, graph, &first, nullptr, 1, CU_STREAM_CAPTURE_MODE_GLOBAL));
    EXPECT_OK(cuLaunchHostFunc(
        stream, [](void*) {}, nullptr));
    CUgraphExec exec = nullptr;
    EXPECT_CU(CUDA_ERROR_ILLEGAL_STATE, cuGraphInstantiate(&exec, graph, 0));
    CUgraph ended = nullptr;
    EXPECT_OK(cuStreamEndCapture(stream, &ended));
    EXPECT_EQ(ended, graph);
    EXPECT_EQ(count(graph), 2u);
    EXPECT_EQ(edges(graph), 1u);
    EXPECT_OK(cuGraphInstantiate(&exec, graph, 0));
}

TEST_F(Captures, GraphLaunchesBecomeChildren) {
    CUgraph inner = nullptr, outer = nullptr;
    EXPECT_OK(cuGraphCreate(&inner, 0));
    int seen = 0;
    CUDA_HOST_NODE_PARAMS host = {[](void* p) { ++*static_cast<int*>(p); }, &seen};
    CUgraphNode node = nullptr;
    EXPECT_OK(cuGraphAddHostNode(&node, inner, nullptr, 0, &host));
    CUgraphExec exec = nullptr, both = nullptr;
    EXPECT_OK(cuGraphInstantiate(&exec, inner, 0));
    auto stream = begin();
    EXPECT_OK(cuGraphLaunch(exec, stream));
    EXPECT_OK(cuGraphLaunch(exec, stream));
    EXPECT_OK(cuStreamEndCapture(stream, &outer));
    EXPECT_EQ(seen, 0);
    EXPECT_OK(cuGraphInstantiate(&both, outer, 0));
    EXPECT_OK(cuGraphLaunch(both, stream));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT_EQ(seen, 2);
}
