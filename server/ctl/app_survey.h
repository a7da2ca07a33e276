// SPDX-License-Identifier: MIT
// The application's processes as criu will find them, without stopping them: what they hold that it would
// have to write, and what is known to make it refuse (it has the last word).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cricket::ctl {

struct AppSurvey {
    unsigned processes = 0;
    uint64_t private_bytes = 0;  // anonymous memory, and what was changed of files that are mapped privately
    uint64_t shared_bytes = 0;   // of memfds and shared anonymous memory, once each: all that exists
    std::vector<std::string> in_the_way;
    uint64_t bytes() const { return private_bytes + shared_bytes; }
};

// Of `pid` and all that descend from it. `criu_arguments` may allow what criu refuses otherwise. Throws
// CommandError.
AppSurvey survey_app(pid_t pid, const std::vector<std::string>& criu_arguments);

}  // namespace cricket::ctl
