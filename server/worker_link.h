// SPDX-License-Identifier: MIT
// The worker's end of its link to the supervisor: hellos come in as messages with fds, control calls as
// connections of their own (passed over the link too), each served by a thread, so that a long snapshot keeps
// nothing else waiting.
#pragma once

#include <atomic>
#include <list>
#include <mutex>
#include <thread>

#include "cricket/unique_fd.h"
#include "exchange.h"
#include "worker_ops.h"

namespace cricket::server {

class WorkerLink {
  public:
    // Owns `fd`. `ops` must outlive the link; its operations are called from several threads, attach() from
    // run()'s.
    // `exchange`: who waits for the supervisor's answers, if anybody.
    WorkerLink(int fd, WorkerOps& ops, Exchange* exchange = nullptr);
    ~WorkerLink();
    WorkerLink(const WorkerLink&) = delete;

    // To be called once: the session is ready for its client (parked, when it was restored), or cannot be,
    // and why. What came over the link before waits until run().
    void started(const OpResult& result);
    // Before that, of a session that is restored: what it needs is there.
    void checked();
    // Serves until the supervisor closes the link, a drop has been answered, or stop(). Then every control
    // call has ended.
    void run();
    // Makes run() return; from any thread, at any time.
    void stop();

  private:
    struct Connection {
        UniqueFd fd;
        std::atomic<bool> ended{false};
        std::thread thread;
    };
    void serve(Connection& connection);
    void collect(bool all);

    UniqueFd fd_;
    WorkerOps& ops_;
    Exchange* exchange_;
    std::atomic<bool> stopping_{false};
    std::list<Connection> connections_;  // of run()'s thread only
};

}  // namespace cricket::server
