// SPDX-License-Identifier: MIT
// criu that somebody else drives, as its action script's server sees it: what it decides about a program, nobody says. The
// kernel shows whom it traces, and who is about to end.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

#include "cricket/unique_fd.h"

namespace cricket::server {

pid_t tracer_of(pid_t pid);  // 0: none
// Gone, or about to be: giving back a large memory takes a process seconds between its last instruction and its end.
bool is_ending(pid_t pid);

// A dump whose images are complete: criu holds the program still, and ends it or lets it go on.
class HeldByCriu {
  public:
    // `stays`: criu was told to let it go on. None, and why, when criu does not hold that program.
    static std::optional<HeldByCriu> look(pid_t criu, pid_t program, bool stays, std::string* error);
    enum class End { Ended, GoesOn, Unknown };
    // Unknown once `give_up` says so. A program that goes on although it was to end: criu has failed, or was killed.
    End wait(const std::function<bool()>& give_up) const;
    bool stays() const { return stays_; }

  private:
    HeldByCriu() = default;
    pid_t criu_ = 0, program_ = 0;
    bool stays_ = false;
    UniqueFd criu_fd_, program_fd_;
};

// Waits until a process has ended; false once `give_up` says so.
bool wait_end(int pidfd, const std::function<bool()>& give_up);
UniqueFd open_process(pid_t pid);

}  // namespace cricket::server
