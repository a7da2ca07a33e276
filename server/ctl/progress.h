// SPDX-License-Identifier: MIT
// How far long work is, on stderr: one line that changes on a terminal, now and then a line of its own elsewhere. Nothing
// for work that is over at once.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace cricket::ctl {

class Progress {
  public:
    explicit Progress(std::string what);
    ~Progress() { end(); }
    Progress(const Progress&) = delete;
    // `of` may grow; 0: not known yet. One thread at a time.
    void update(uint64_t done, uint64_t of);
    void end();  // the line is over; errors and results come after it

  private:
    using Clock = std::chrono::steady_clock;
    const std::string what_;
    const bool terminal_;
    const Clock::time_point began_ = Clock::now();
    Clock::time_point shown_{};
    size_t width_ = 0;  // of what stands on the line
};

}  // namespace cricket::ctl
