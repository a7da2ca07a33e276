// SPDX-License-Identifier: MIT
// Stream captures of the session, and the capture mode of the application's threads.
//
// The driver ties a capture's rules to the thread that began it, but all calls come from the executor's thread. So that
// thread is kept in RELAXED mode, in which the worker's own work (events, registrations, freeing what is due) neither
// breaks a capture nor is refused because of one; only around a call which the driver would refuse its application
// thread for the captures there are is the mode GLOBAL, in which the driver refuses it and invalidates them.
//
// Work of the worker must not go into a capturing stream, nor into the legacy stream while there are captures
// (all_work() answers null then).
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <string>

#include "driver_table.h"
#include "rpc/values.h"

namespace cricket::server {

class Captures {
  public:
    explicit Captures(const DriverTable& driver) : driver_(driver) {}

    struct Capture {
        uint32_t thread = 0;
        CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
        uint64_t stream_number = 0;
        CUgraph graph = nullptr;  // of cuStreamBeginCaptureToGraph, or told by cuStreamGetCaptureInfo; null: not known
        bool to_graph = false;
        cuuint64_t id = 0;        // the driver's
    };

    // The executor's thread begins, after cuInit.
    void begin_thread();

    bool any() const { return !all_.empty(); }
    // Whether work in the stream would become part of a capture, or break one.
    bool capturing(CUstream stream) const;
    // Whether it is captured. Not: a stream that must be left alone because of other streams' captures.
    bool captured(CUstream stream) const;
    Capture* find(CUstream stream);
    // After the driver began a capture; when one may have ended, by whatever call: asks the driver about all.
    void began(CUstream stream, const Capture& capture);
    bool look_for_ended();
    // The application was told which graph the capture with this id makes.
    void told(cuuint64_t id, CUgraph graph);
    void forget(uint64_t stream_number);  // the stream is gone
    // For the client, in the answer to a call: its sequence number in front of 16 bits of how many captures there are.
    uint64_t state(const rpc::Credential& credential) const { return credential.seq << 16 | (all_.size() & 0xffff); }
    std::string describe() const;

    // Before and after a call of the application is executed.
    void enter(const rpc::Credential& credential);
    void leave();
    // Between the two: whether the driver would refuse the call, which is executed by other means than its function.
    bool refuses(uint32_t procedure) const;

    // Around work of our own within a call.
    class OwnWork {
      public:
        explicit OwnWork(Captures& captures) : captures_(captures), was_refusing_(captures.refusing_) {
            if (was_refusing_) captures_.set_refusing(false);
        }
        ~OwnWork() {
            if (was_refusing_) captures_.set_refusing(true);
        }
        OwnWork(const OwnWork&) = delete;

      private:
        Captures& captures_;
        bool was_refusing_;
    };

  private:
    bool refused(uint32_t thread, CUstreamCaptureMode mode) const;
    void set_refusing(bool on);

    const DriverTable& driver_;
    std::map<CUstream, Capture> all_;
    bool refusing_ = false;
};

}  // namespace cricket::server
