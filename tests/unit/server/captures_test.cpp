// SPDX-License-Identifier: MIT
// Which of the application's threads a capture binds, though one thread executes all their calls: shown by the mode in which
// the driver would see each call.
#include "captures.h"

#include <gtest/gtest.h>

#include <map>

#include "cricket/wire.h"
#include "procedures.h"

using namespace cricket;
using namespace cricket::server;

namespace {

CUstreamCaptureMode thread_mode;
std::map<CUstream, CUstreamCaptureStatus> streams;

CUresult exchange(CUstreamCaptureMode* mode) {
    std::swap(*mode, thread_mode);
    return CUDA_SUCCESS;
}
CUresult is_capturing(CUstream stream, CUstreamCaptureStatus* status) {
    if (stream == CU_STREAM_LEGACY && !streams.empty()) return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    const auto found = streams.find(stream);
    *status = found == streams.end() ? CU_STREAM_CAPTURE_STATUS_NONE : found->second;
    return CUDA_SUCCESS;
}

class CapturesTest : public testing::Test {
  protected:
    CapturesTest() {
        thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
        streams.clear();
        driver.cuThreadExchangeStreamCaptureMode = exchange;
        driver.cuStreamIsCapturing = is_capturing;
        captures.begin_thread();
    }
    void begin(uint64_t number, uint32_t thread, CUstreamCaptureMode mode) {
        streams[stream(number)] = CU_STREAM_CAPTURE_STATUS_ACTIVE;
        captures.began(stream(number), {.thread = thread, .mode = mode, .stream_number = number});
    }
    // The mode in which the driver sees a call of `thread`, which is in `mode`.
    CUstreamCaptureMode seen(uint32_t thread, CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL,
                             Proc procedure = Proc::cuStreamQuery, bool* refused = nullptr) {
        rpc::Credential credential;
        credential.thread = thread;
        credential.flags = mode << wire::capture_mode_shift | wire::wants_reply;
        captures.enter(credential);
        const CUstreamCaptureMode during = thread_mode;
        if (refused) *refused = captures.refuses(static_cast<uint32_t>(procedure));
        {
            const Captures::OwnWork own(captures);
            EXPECT_EQ(thread_mode, CU_STREAM_CAPTURE_MODE_RELAXED);
        }
        EXPECT_EQ(thread_mode, during);
        captures.leave();
        EXPECT_EQ(thread_mode, CU_STREAM_CAPTURE_MODE_RELAXED);
        return during;
    }
    static CUstream stream(uint64_t number) { return reinterpret_cast<CUstream>(number << 8); }

    DriverTable driver;
    Captures captures{driver};
};

constexpr auto global = CU_STREAM_CAPTURE_MODE_GLOBAL, local = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
               relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;

}  // namespace

TEST_F(CapturesTest, NothingIsRefusedWithoutCaptures) {
    EXPECT_FALSE(captures.any());
    EXPECT_EQ(seen(1), relaxed);
    EXPECT_FALSE(captures.capturing(CU_STREAM_LEGACY));
}

TEST_F(CapturesTest, AGlobalCaptureBindsAllThreadsThatAreGlobalThemselves) {
    begin(5, 1, global);
    EXPECT_EQ(seen(1), global);
    EXPECT_EQ(seen(1, local), global);
    EXPECT_EQ(seen(1, relaxed), relaxed);
    EXPECT_EQ(seen(2), global);
    EXPECT_EQ(seen(2, local), relaxed);
    EXPECT_EQ(seen(2, relaxed), relaxed);
}

TEST_F(CapturesTest, AThreadsOwnCaptureBindsThatThread) {
    begin(5, 1, local);
    EXPECT_EQ(seen(1), global);
    EXPECT_EQ(seen(1, local), global);
    EXPECT_EQ(seen(2), relaxed);
}

TEST_F(CapturesTest, ARelaxedCaptureBindsNobody) {
    begin(5, 1, relaxed);
    EXPECT_EQ(seen(1), relaxed);
    EXPECT_EQ(seen(2), relaxed);
    begin(6, 2, global);
    EXPECT_EQ(seen(1), global);
}

TEST_F(CapturesTest, WhatTheWorkerDoesByOtherMeansIsRefusedByIt) {
    begin(5, 1, global);
    bool refused = false;
    seen(1, global, Proc::cuMemAlloc_v2, &refused);
    EXPECT_TRUE(refused);
    seen(1, relaxed, Proc::cuMemAlloc_v2, &refused);
    EXPECT_FALSE(refused);
    seen(1, global, Proc::cuEventRecord, &refused);
    EXPECT_FALSE(refused);
}

TEST_F(CapturesTest, StreamsToLeaveAlone) {
    begin(5, 1, global);
    EXPECT_TRUE(captures.capturing(stream(5)));
    EXPECT_TRUE(captures.captured(stream(5)));
    EXPECT_TRUE(captures.capturing(CU_STREAM_LEGACY));
    EXPECT_FALSE(captures.captured(CU_STREAM_LEGACY));
    EXPECT_FALSE(captures.capturing(stream(6)));
    streams[stream(5)] = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    EXPECT_TRUE(captures.capturing(stream(5)));
}

TEST_F(CapturesTest, TheClientIsToldInTheOrderOfCalls) {
    rpc::Credential credential;
    credential.seq = 7;
    begin(5, 1, global);
    begin(6, 1, global);
    EXPECT_EQ(captures.state(credential), 7u << 16 | 2);
    streams.erase(stream(5));
    EXPECT_TRUE(captures.look_for_ended());
    EXPECT_FALSE(captures.look_for_ended());
    credential.seq = 8;
    EXPECT_EQ(captures.state(credential), 8u << 16 | 1);
    captures.forget(6);  // the stream is gone
    EXPECT_FALSE(captures.any());
}
