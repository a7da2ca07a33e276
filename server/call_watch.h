// SPDX-License-Identifier: MIT
// A control call may rightly take minutes, and libtirpc waits for its answer alone. Meanwhile this looks whether waiting still
// makes sense, and ends the call where it does not.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "cricket/unique_fd.h"

namespace cricket::server {

class CallWatch {
  public:
    // `connection`: of the call, duplicated here; shut down, so that the call fails, as soon as `why_not` answers with
    // a reason. `why_not` is asked from a thread of the watch and may wait. Throws std::system_error without a thread.
    CallWatch(int connection, std::function<std::string()> why_not);
    ~CallWatch();
    CallWatch(const CallWatch&) = delete;
    // Ends the watch. Why it has ended the call; empty when it has not.
    std::string end();

  private:
    void watch();

    UniqueFd connection_;
    const std::function<std::string()> why_not_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool over_ = false;
    std::string why_;
    std::thread thread_;
};

// Whether the other end of a connected socket is closed, or was shut down both ways.
bool hung_up(int fd);

}  // namespace cricket::server
