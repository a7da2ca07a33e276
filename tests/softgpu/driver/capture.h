// SPDX-License-Identifier: MIT
// Stream capture: which streams put their work into a graph, and what is refused meanwhile.
#pragma once

#include "graph.h"

namespace softgpu {

class Stream;

struct Capture {
    uint64_t id = 0;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    pthread_t thread = {};
    std::shared_ptr<Graph> graph;
    bool own_graph = true;  // made by the capture
    Stream* origin = nullptr;
    bool invalid = false;
    std::vector<std::weak_ptr<Stream>> streams;  // that take part, the origin first
};

// A stream's part in a capture; guarded by graph_mutex().
struct StreamCapture {
    std::shared_ptr<Capture> sequence;
    std::vector<Dependency> tail;    // what the next node depends on
    std::vector<CUgraphNode> shown;  // what cuStreamGetCaptureInfo answered with
    std::vector<CUgraphEdgeData> shown_data;
};

// An event that was last recorded in a capturing stream; guarded by graph_mutex().
struct EventCapture {
    std::weak_ptr<Capture> sequence;
    std::vector<Dependency> tail;
    bool recorded = false;
};

// For whatever hands work to a stream. True when the stream captures, and the step has become a node. Fails
// when the capture is broken, or a legacy stream would have to wait for a capturing one.
bool captured(const std::shared_ptr<Stream>& stream, const Step& step);
// The same for a step that is costly to make.
bool capturing(Stream& stream);

// Fails, and breaks the capture, when the stream captures: what it is asked for cannot be captured.
void refuse_if_capturing(Stream& stream);
// For functions that may synchronize or the like: fails when a capture under way forbids them to this thread.
void potentially_unsafe();

// Event record and wait; true when that was all there is to do.
bool captured_record(const std::shared_ptr<Stream>& stream, Event& event, CUevent handle, unsigned flags);
bool captured_wait(const std::shared_ptr<Stream>& stream, Event& event, CUevent handle, unsigned flags);
// Fails when the event was last recorded in a capture.
void refuse_if_captured(Event& event);
// The stream ends: a capture in it is broken.
void abandon_capture(Stream& stream);

}  // namespace softgpu
