// SPDX-License-Identifier: MIT
// Ctrl-C and the like (SIGINT, SIGTERM, SIGHUP) end what takes long in order: as a failure, with everything as it was before.
#pragma once

#include <signal.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "control_client.h"
#include "cricket/unique_fd.h"

namespace cricket::ctl {

// While one lives, these signals are noted instead of ending the process. One that was blocked before is left to whoever did
// that. A thread takes them, since libtirpc blocks all signals in a thread that waits for an answer.
class Interrupts {
  public:
    Interrupts();
    ~Interrupts();
    Interrupts(const Interrupts&) = delete;
    bool any() const { return count_ > 0; }
    void check() const;  // throws CommandError
    void wait(std::chrono::milliseconds time);  // until then; throws CommandError at once when interrupted

    // While this lives, the wait for an answer over `connection` is ended by the first interrupt or by the second: the call
    // throws. From any thread.
    enum When { First, Second };
    class Ends {
      public:
        Ends(Interrupts& interrupts, When when, const server::ControlClient& connection);
        ~Ends();
        Ends(const Ends&) = delete;

      private:
        Interrupts& interrupts_;
        std::vector<int>& sockets_;
        const int socket_;
    };

  private:
    void watch();

    std::atomic<int> count_{0};
    std::mutex mutex_;
    std::condition_variable counted_;
    std::vector<int> first_, second_;  // sockets, under the mutex
    sigset_t before_;
    UniqueFd signals_, over_;
    std::thread thread_;
};

}  // namespace cricket::ctl
