// SPDX-License-Identifier: MIT
#include "capture.h"

#include <pthread.h>

#include <algorithm>

#include "event.h"

namespace softgpu {
namespace {

std::atomic<int> under_way = 0;  // captures; most calls look no further

std::vector<std::weak_ptr<Capture>>& captures() {
    return immortal<std::vector<std::weak_ptr<Capture>>>();
}

thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

uint64_t next_id() {
    static uint64_t last = 0;
    return ++last;
}

// A legacy stream waits for all blocking ones, which a capturing one cannot allow.
void refuse_legacy_beside_capture(const Stream& stream) {
    if (stream.kind != Stream::Kind::Legacy) return;
    bool conflict = false;
    for (auto& weak : captures()) {
        auto sequence = weak.lock();
        if (!sequence) continue;
        for (auto& member : sequence->streams) {
            auto other = member.lock();
            if (!other || other->context != stream.context || !other->waits_for_legacy()) continue;
            sequence->invalid = conflict = true;
        }
    }
    require(!conflict, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
}

Capture* live_capture(Stream& stream) {
    auto sequence = stream.capture.sequence.get();
    if (sequence) require(!sequence->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    return sequence;
}

void add_tail(std::vector<Dependency>& tail, const std::vector<Dependency>& more) {
    for (auto& dependency : more)
        if (std::none_of(tail.begin(), tail.end(), [&](auto& d) { return d.node == dependency.node; }))
            tail.push_back(dependency);
}

void join(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Capture>& sequence) {
    stream->capture.sequence = sequence;
    stream->capture.tail.clear();
    sequence->streams.push_back(stream);
}

void finish(Capture& sequence) {
    for (auto& weak : sequence.streams)
        if (auto stream = weak.lock()) stream->capture = {};
    sequence.graph->capturing = false;
    --under_way;
    std::erase_if(captures(), [&](auto& weak) { return weak.expired() || weak.lock().get() == &sequence; });
}

// A kernel that may start before the one before it has ended.
CUgraphEdgeData edge_before(const Step& step, const std::vector<Dependency>& tail) {
    CUgraphEdgeData data = {};
    auto kernel = std::get_if<KernelStep>(&step);
    if (!kernel || tail.size() != 1 || !std::holds_alternative<KernelStep>(tail[0].node->step)) return data;
    auto found = kernel->attributes.find(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
    if (found == kernel->attributes.end() || !found->second.programmaticStreamSerializationAllowed)
        return data;
    data.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC;
    data.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
    return data;
}

}  // namespace

bool capturing(Stream& stream) {
    if (under_way == 0) return false;
    std::unique_lock lock(graph_mutex());
    refuse_legacy_beside_capture(stream);
    return live_capture(stream) != nullptr;
}

bool captured(const std::shared_ptr<Stream>& stream, const Step& step) {
    if (!capturing(*stream)) return false;
    std::unique_lock lock(graph_mutex());
    auto& own = stream->capture;
    if (!own.sequence) return false;
    auto before = own.tail;
    auto data = edge_before(step, before);
    if (data.type)
        for (auto& dependency : before) dependency.data = data;
    auto made = own.sequence->graph->add(step, std::move(before));
    own.tail = {{made.get(), {}}};
    return true;
}

void refuse_if_capturing(Stream& stream) {
    if (under_way == 0) return;
    std::unique_lock lock(graph_mutex());
    refuse_legacy_beside_capture(stream);
    if (auto sequence = live_capture(stream)) {
        sequence->invalid = true;
        fail(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
}

void potentially_unsafe() {
    if (under_way == 0 || thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return;
    std::unique_lock lock(graph_mutex());
    bool forbidden = false;
    for (auto& weak : captures()) {
        auto sequence = weak.lock();
        if (!sequence) continue;
        bool own = pthread_equal(sequence->thread, pthread_self());
        bool counts = own ? sequence->mode != CU_STREAM_CAPTURE_MODE_RELAXED
                          : thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                                sequence->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
        if (counts) sequence->invalid = forbidden = true;
    }
    require(!forbidden, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

bool captured_record(const std::shared_ptr<Stream>& stream, Event& event, CUevent handle, unsigned flags) {
    if (under_way == 0) {
        if (event.capture.recorded) {
            std::unique_lock lock(graph_mutex());
            event.capture = {};
        }
        return false;
    }
    std::unique_lock lock(graph_mutex());
    if (!capturing(*stream)) {
        event.capture = {};
        return false;
    }
    if (flags & CU_EVENT_RECORD_EXTERNAL) return captured(stream, record_step(handle));
    event.capture = {stream->capture.sequence, stream->capture.tail, true};
    return true;
}

bool captured_wait(const std::shared_ptr<Stream>& stream, Event& event, CUevent handle, unsigned flags) {
    std::unique_lock lock(graph_mutex());
    auto from = event.capture.sequence.lock();
    if (!event.capture.recorded) {
        if (under_way == 0 || !capturing(*stream)) return false;
        if (flags & CU_EVENT_WAIT_EXTERNAL) return captured(stream, wait_step(handle));
        stream->capture.sequence->invalid = true;
        fail(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    }
    require(from != nullptr, CUDA_ERROR_CAPTURED_EVENT);  // of a capture that has ended
    require(!from->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    if (stream->kind == Stream::Kind::Legacy) {
        from->invalid = true;
        fail(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    }
    auto into = live_capture(*stream);
    if (into && into != from.get()) {
        into->invalid = from->invalid = true;
        fail(CUDA_ERROR_STREAM_CAPTURE_MERGE);
    }
    if (!into) join(stream, from);
    add_tail(stream->capture.tail, event.capture.tail);
    return true;
}

void refuse_if_captured(Event& event) {
    if (!event.capture.recorded) return;
    std::unique_lock lock(graph_mutex());
    if (!event.capture.recorded) return;
    if (auto sequence = event.capture.sequence.lock()) sequence->invalid = true;
    fail(CUDA_ERROR_CAPTURED_EVENT);
}

void abandon_capture(Stream& stream) {
    if (under_way == 0) return;
    std::unique_lock lock(graph_mutex());
    auto sequence = stream.capture.sequence;
    if (!sequence) return;
    // A stream that has been joined again is not missed.
    const auto& joined = sequence->origin->capture.tail;
    for (auto& last : stream.capture.tail)
        if (sequence->origin == &stream || std::none_of(joined.begin(), joined.end(), [&](auto& d) {
                return d.node == last.node || d.node->depends_on(last.node);
            }))
            sequence->invalid = true;
    if (sequence->origin == &stream) {
        sequence->invalid = true;
        finish(*sequence);
        if (sequence->own_graph) forget(*sequence->graph);
    }
    stream.capture = {};
}

}  // namespace softgpu

using namespace softgpu;

namespace {

void begin(CUstream handle, CUstreamCaptureMode mode, std::shared_ptr<Graph> into,
           std::vector<Dependency> tail) {
    require(mode >= CU_STREAM_CAPTURE_MODE_GLOBAL && mode <= CU_STREAM_CAPTURE_MODE_RELAXED);
    auto s = stream(handle);
    require(s->kind != Stream::Kind::Legacy, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    require(!s->capture.sequence, CUDA_ERROR_ILLEGAL_STATE);
    auto sequence = std::make_shared<Capture>();
    sequence->id = next_id();
    sequence->mode = mode;
    sequence->thread = pthread_self();
    sequence->own_graph = !into;
    sequence->graph = into ? into : new_graph();
    sequence->graph->capturing = true;
    sequence->origin = s.get();
    join(s, sequence);
    s->capture.tail = std::move(tail);
    captures().push_back(sequence);
    ++under_way;
}

// Whether `node` is one of these or comes before one of them.
bool covered(const Node* node, const std::vector<Dependency>& tail) {
    return std::any_of(tail.begin(), tail.end(),
                       [&](auto& d) { return d.node == node || d.node->depends_on(node); });
}

CUresult end(const std::shared_ptr<Capture>& sequence, CUgraph* out) {
    auto tail = sequence->origin->capture.tail;
    CUresult result = sequence->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
    // Measured: another thread may not end it, and it is over nevertheless.
    if (sequence->mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(sequence->thread, pthread_self()))
        result = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    for (auto& weak : sequence->streams) {
        auto stream = weak.lock();
        if (!stream || result != CUDA_SUCCESS) continue;
        for (auto& last : stream->capture.tail)
            if (!covered(last.node, tail)) result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    }
    finish(*sequence);
    if (result == CUDA_SUCCESS)
        *out = sequence->graph->handle;
    else if (sequence->own_graph)
        forget(*sequence->graph);
    return result;
}

// The stream, when asking about captures in it makes sense at all.
std::shared_ptr<Stream> asked(CUstream handle) {
    auto s = stream(handle);
    if (s->kind != Stream::Kind::Legacy) return s;
    for (auto& weak : captures())
        if (auto sequence = weak.lock())
            for (auto& member : sequence->streams)
                if (auto other = member.lock())
                    require(other->context != s->context || !other->waits_for_legacy(),
                            CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    return s;
}

CUstreamCaptureStatus status_of(const Stream& stream) {
    if (!stream.capture.sequence) return CU_STREAM_CAPTURE_STATUS_NONE;
    return stream.capture.sequence->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                            : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

CUresult info(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph_out,
              const CUgraphNode** nodes_out, const CUgraphEdgeData** data_out, size_t* count, bool lossy) {
    return graph_api([&] {
        require(status);
        auto s = asked(handle);
        *status = status_of(*s);
        if (*status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return;
        auto& own = s->capture;
        if (id) *id = own.sequence->id;
        if (graph_out) *graph_out = own.sequence->graph->handle;
        own.shown.clear();
        own.shown_data.clear();
        bool plain = true;
        for (auto& dependency : own.tail) {
            own.shown.push_back(dependency.node->handle);
            own.shown_data.push_back(dependency.data);
            plain = plain && dependency.data.type == 0 && dependency.data.from_port == 0;
        }
        require(plain || !lossy || !nodes_out, CUDA_ERROR_LOSSY_QUERY);
        if (nodes_out) *nodes_out = own.shown.data();
        if (data_out) *data_out = own.shown_data.data();
        if (count) *count = own.tail.size();
    });
}

}  // namespace

CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
    return graph_api([&] { begin(handle, mode, nullptr, {}); });
}

CUresult cuStreamBeginCapture(CUstream handle) {
    return cuStreamBeginCapture_v2(handle, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult cuStreamBeginCaptureToGraph(CUstream handle, CUgraph into, const CUgraphNode* list,
                                     const CUgraphEdgeData* data, size_t count, CUstreamCaptureMode mode) {
    return graph_api([&] {
        auto target = graph(into);
        require(!target->capturing);
        begin(handle, mode, target, dependencies(*target, list, data, count));
    });
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* out) {
    return graph_api([&] {
        require(out);
        auto s = stream(handle);
        auto sequence = s->capture.sequence;
        require(sequence != nullptr, CUDA_ERROR_ILLEGAL_STATE);
        require(sequence->origin == s.get(), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
        *out = nullptr;
        if (auto result = end(sequence, out)) fail(result);
    });
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
    return graph_api([&] {
        require(status);
        *status = status_of(*asked(handle));
    });
}

CUresult cuStreamGetCaptureInfo_v3(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                                   CUgraph* graph_out, const CUgraphNode** nodes_out,
                                   const CUgraphEdgeData** data_out, size_t* count) {
    return info(handle, status, id, graph_out, nodes_out, data_out, count, data_out == nullptr);
}

CUresult cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                                   CUgraph* graph_out, const CUgraphNode** nodes_out, size_t* count) {
    return info(handle, status, id, graph_out, nodes_out, nullptr, count, true);
}

CUresult cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id) {
    return info(handle, status, id, nullptr, nullptr, nullptr, nullptr, false);
}

CUresult cuStreamUpdateCaptureDependencies_v2(CUstream handle, CUgraphNode* list, const CUgraphEdgeData* data,
                                              size_t count, unsigned flags) {
    return graph_api([&] {
        require(flags <= CU_STREAM_SET_CAPTURE_DEPENDENCIES);
        auto s = stream(handle);
        auto sequence = s->capture.sequence;
        require(sequence != nullptr, CUDA_ERROR_ILLEGAL_STATE);
        require(!sequence->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        auto wanted = dependencies(*sequence->graph, list, data, count);
        if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) s->capture.tail.clear();
        add_tail(s->capture.tail, wanted);
    });
}

CUresult cuStreamUpdateCaptureDependencies(CUstream handle, CUgraphNode* list, size_t count, unsigned flags) {
    return cuStreamUpdateCaptureDependencies_v2(handle, list, nullptr, count, flags);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    return api([&] {
        require(mode && *mode >= CU_STREAM_CAPTURE_MODE_GLOBAL && *mode <= CU_STREAM_CAPTURE_MODE_RELAXED);
        std::swap(*mode, thread_mode);
    });
}
