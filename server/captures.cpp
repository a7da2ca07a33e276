// SPDX-License-Identifier: MIT
#include "captures.h"

#include "cricket/wire.h"
#include "procedures.h"

namespace cricket::server {
namespace {

// Calls that the driver refuses while a capture forbids them, and that are executed here by other means than the
// driver's function of that name.
bool unsafe_by_hand(uint32_t procedure) {
    switch (static_cast<Proc>(procedure)) {
        case Proc::cuMemAlloc_v2:
        case Proc::cuMemAllocManaged:
        case Proc::cuMemAllocPitch_v2:
        case Proc::cuMemFree_v2:
        case Proc::cuMemHostAlloc:
        case Proc::cuMemFreeHost:
        case Proc::cuMemHostRegister_v2:
        case Proc::cuMemHostUnregister:
            return true;
        default:
            return false;
    }
}

}  // namespace

void Captures::begin_thread() {
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    if (driver_.cuThreadExchangeStreamCaptureMode) driver_.cuThreadExchangeStreamCaptureMode(&mode);
}

bool Captures::capturing(CUstream stream) const {
    if (!any()) return false;
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    return driver_.cuStreamIsCapturing(stream, &status) != CUDA_SUCCESS || status != CU_STREAM_CAPTURE_STATUS_NONE;
}

bool Captures::captured(CUstream stream) const {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    return any() && driver_.cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

Captures::Capture* Captures::find(CUstream stream) {
    auto found = all_.find(stream);
    return found == all_.end() ? nullptr : &found->second;
}

void Captures::began(CUstream stream, const Capture& capture) {
    if (!refusing_) begin_thread();
    Capture& place = all_[stream] = capture;
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    if (driver_.cuStreamGetCaptureInfo_v1) driver_.cuStreamGetCaptureInfo_v1(stream, &status, &place.id);
}

void Captures::told(cuuint64_t id, CUgraph graph) {
    for (auto& [stream, capture] : all_)
        if (capture.id == id) capture.graph = graph;
}

void Captures::forget(uint64_t stream_number) {
    std::erase_if(all_, [&](const auto& entry) { return entry.second.stream_number == stream_number; });
}

bool Captures::look_for_ended() {
    const size_t before = all_.size();
    std::erase_if(all_, [&](const auto& entry) {
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        return driver_.cuStreamIsCapturing(entry.first, &status) == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_NONE;
    });
    return all_.size() != before;
}

std::string Captures::describe() const {
    return std::to_string(all_.size()) + (all_.size() == 1 ? " stream is" : " streams are") +
           " being captured (cuStreamBeginCapture without cuStreamEndCapture)";
}

// The rules of cuThreadExchangeStreamCaptureMode.
bool Captures::refused(uint32_t thread, CUstreamCaptureMode mode) const {
    if (mode == CU_STREAM_CAPTURE_MODE_RELAXED) return false;
    for (const auto& [stream, capture] : all_) {
        if (capture.mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
        if (capture.thread == thread) return true;
        if (mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL) return true;
    }
    return false;
}

void Captures::set_refusing(bool on) {
    CUstreamCaptureMode mode = on ? CU_STREAM_CAPTURE_MODE_GLOBAL : CU_STREAM_CAPTURE_MODE_RELAXED;
    driver_.cuThreadExchangeStreamCaptureMode(&mode);
    refusing_ = on;
}

void Captures::enter(const rpc::Credential& credential) {
    const auto mode = static_cast<CUstreamCaptureMode>(credential.flags >> wire::capture_mode_shift & 3);
    if (refused(credential.thread, mode)) set_refusing(true);
}

bool Captures::refuses(uint32_t procedure) const { return refusing_ && unsafe_by_hand(procedure); }

void Captures::leave() {
    if (refusing_) set_refusing(false);
}

}  // namespace cricket::server
