// SPDX-License-Identifier: MIT
// While a stream is captured, loading code is one of the calls that only a relaxed thread may make.
#pragma once

#include "driver_table.h"

namespace cricket::server {

class Relaxed {
  public:
    explicit Relaxed(const DriverTable& driver) : driver_(driver) {
        if (driver_.cuThreadExchangeStreamCaptureMode)
            exchanged_ = driver_.cuThreadExchangeStreamCaptureMode(&mode_) == CUDA_SUCCESS;
    }
    ~Relaxed() {
        if (exchanged_) driver_.cuThreadExchangeStreamCaptureMode(&mode_);
    }
    Relaxed(const Relaxed&) = delete;
    Relaxed& operator=(const Relaxed&) = delete;

  private:
    const DriverTable& driver_;
    CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
    bool exchanged_ = false;
};

}  // namespace cricket::server
