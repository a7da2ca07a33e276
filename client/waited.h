// SPDX-License-Identifier: MIT
// How long something has been awaited by a process that may have been dumped meanwhile and restored where, or when, the
// clock says something quite different: each look counts for what passes between two looks at most.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cricket/clock.h"

namespace cricket::client {

class Waited {
  public:
    // Milliseconds since it was made; to be asked every few moments.
    int64_t ms() {
        const int64_t now = clock_ms();
        total_ += std::clamp<int64_t>(now - last_, 0, longest_step);
        last_ = now;
        return total_;
    }

  private:
    static constexpr int64_t longest_step = 2000;
    static int64_t clock_ms() {
        return static_cast<int64_t>(now_ns() / 1'000'000);
    }
    int64_t last_ = clock_ms();
    int64_t total_ = 0;
};

}  // namespace cricket::client
