// SPDX-License-Identifier: MIT
// What sessions of one server share: the driver's descriptors of memory. Applications hold and pass nothing of the GPU,
// only a random name (cricket/shared_names.h); a worker leaves the descriptor with the supervisor under that name, and
// another worker fetches it there.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>

#include "cricket/shared_names.h"
#include "cricket/unique_fd.h"
#include "link_message.h"

namespace cricket::server {

class Exchange {
  public:
    // `link`: the worker's, -1 for a worker that shares nothing (tests, plain runs).
    explicit Exchange(int link = -1) : link_(link) {}

    // Leaves a duplicate of `fd` under a new name. False when the supervisor does not take it. Waits for its answer.
    bool publish(int fd, SharedName* name);
    void withdraw(const SharedName& name);
    // Empty when nobody left anything under that name.
    UniqueFd fetch(const SharedName& name);

    // The link's thread: an answer of the supervisor came; the link is gone.
    void deliver(LinkMessage message, UniqueFd fd);
    void close();

  private:
    struct Answer {
        bool ok = false;
        UniqueFd fd;
    };
    bool ask(LinkMessage message, int fd, Answer* answer);

    int link_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<uint64_t, Answer> answers_;  // by request
    uint64_t next_request_ = 1;
    bool closed_ = false;
};

}  // namespace cricket::server
