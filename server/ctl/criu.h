// SPDX-License-Identifier: MIT
// Running criu: found and tried before anything is stopped, its output kept, its errors quoted.
#pragma once

#include <string>
#include <vector>

namespace cricket::ctl {

// $CRICKET_CRIU, else criu from PATH and the sbin folders. Throws CommandError when there is none, or when
// `criu check` says that it does not work on this kernel.
std::string find_criu();

struct CriuResult {
    int status = 0;      // as from waitpid
    std::string errors;  // the Error lines of the log, or what it printed, on one line
    bool ok() const { return status == 0; }
};

// Runs criu in a process group of its own, so that a Ctrl-C meant for us does not end it half way. `log` is
// the path given to it with -o. `environment`: NAME=VALUE to add. `hold`: a descriptor that it gets, to be held as long as it
// runs; -1: none. Where it writes, writes that are refused are an error to it, not its end.
CriuResult run_criu(const std::string& criu, const std::vector<std::string>& arguments,
                    const std::string& log, const std::string& environment = {}, int hold = -1);

}  // namespace cricket::ctl
