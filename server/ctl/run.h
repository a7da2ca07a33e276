// SPDX-License-Identifier: MIT
// One command for a long job on a machine that may be taken away: a server, the program under the shim, a series of
// checkpoints, and, when the same command is given again, the program goes on from the newest of them.
#pragma once

#include <string>
#include <vector>

namespace cricket::ctl {

// Everything is in `directory`: output (the program's stdout and stderr), checkpoints/, server.sock, server.log, and once the
// program has ended well, finished.
struct RunOptions {
    std::string directory;
    unsigned every = 600;  // seconds from checkpoint to checkpoint
    unsigned keep = 2;
    std::string driver = "real";  // of cricket-server
    std::string devices;          // CUDA_VISIBLE_DEVICES for the program; empty: as it is, or was
    std::vector<std::string> criu_arguments;  // of its dumps and its restores
    std::vector<std::string> program;
};

inline constexpr int saved_and_stopped = 75;  // EX_TEMPFAIL: the same command goes on

// The libcudashim.so that goes with this cricketctl, in the build folder or where meson install put it. Throws CommandError, also
// where LD_PRELOAD could not name it.
std::string shim_path();

// Returns the exit status: the program's own (128 and the signal's number where one ended it), or saved_and_stopped after
// SIGTERM or SIGINT. Throws CommandError.
int run(const RunOptions& options);

}  // namespace cricket::ctl
