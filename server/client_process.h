// SPDX-License-Identifier: MIT
// The process at the other end, as /proc shows it to the worker, which holds no connection to it.
#pragma once

#include <sys/types.h>

#include <string>

#include "cricket/unique_fd.h"

namespace cricket::server {

class ClientProcess {
  public:
    // Follows the process that has just attached. False when it is gone already.
    bool follow(pid_t pid);
    void forget();

    bool exited() const;   // false when none is followed
    bool stopped() const;  // stopped, traced (as by criu) or gone
    uint64_t started() const { return started_; }  // process_start_time(), kept when it has exited
    bool maps(int channel) const;  // whether it maps this memfd; true when that cannot be told
    // Whether it has called exec since, and does not map the memfd `channel` any more. Cheap where nothing has changed.
    bool became_another(int channel);

  private:
    std::string signature() const;

    pid_t pid_ = 0;
    uint64_t started_ = 0;
    UniqueFd pidfd_;
    std::string signature_;  // changes with exec
};

}  // namespace cricket::server
