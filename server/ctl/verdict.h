// SPDX-License-Identifier: MIT
// criu runs an action script when a dump or a restore is complete and its tasks still stand still; when the script fails,
// dumped tasks go on, and restored ones are ended. Here the script is cricketctl itself, which asks the cricketctl that
// started criu, over an abstract socket. When that one has died there is nobody to say yes, which is a no.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "cricket/unique_fd.h"

namespace cricket::ctl {

class Verdict {
  public:
    // `decide` runs once, in a thread, when criu is that far.
    explicit Verdict(std::function<bool()> decide);
    ~Verdict() { close(); }
    std::string script() const;       // what to give to --action-script
    std::string environment() const;  // what criu must have in its environment
    void close();                     // waits for a decision under way

  private:
    void serve();
    std::function<bool()> decide_;
    std::string name_;
    UniqueFd listener_;
    std::thread thread_;
};

// To be called first in main(): true when this process is the action script; `status` is then its exit
// status.
bool is_action_script(int* status);

}  // namespace cricket::ctl
