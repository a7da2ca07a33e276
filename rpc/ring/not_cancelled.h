// SPDX-License-Identifier: MIT
// Puts off the cancellation of a thread (pthread_cancel) for as long as it lives: calls of CUDA are no cancellation points, and
// code without exceptions lets no lock go when its thread is cancelled in one.
#pragma once

#include <pthread.h>

namespace cricket::ring {

class NotCancelled {
  public:
    NotCancelled() { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
    ~NotCancelled() { ::pthread_setcancelstate(before_, nullptr); }
    NotCancelled(const NotCancelled&) = delete;
    NotCancelled& operator=(const NotCancelled&) = delete;

  private:
    int before_ = 0;
};

}  // namespace cricket::ring
