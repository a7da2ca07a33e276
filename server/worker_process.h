// SPDX-License-Identifier: MIT
// Starts a worker: this executable anew, with address randomization off (the driver then puts modules where
// it put them before, facts/cuda-driver.md), and dying with the supervisor.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "cricket/unique_fd.h"
#include "worker_config.h"

namespace cricket::server {

struct WorkerProcess {
    pid_t pid = -1;
    UniqueFd link;  // the supervisor's end
};

// To be called from the supervisor's main thread: a worker gets its signal when the *thread* that made it
// ends. Throws std::system_error.
WorkerProcess start_worker(const WorkerConfig& config);

// The same for any process of ours: `words` is its command line, `inherited` the descriptor that it gets, `of_session` what
// stands in place of the server's own CUDA_* variables.
pid_t start_process(std::vector<std::string> words, int inherited, const Variables& of_session = {});

// Takes back what start_process() did to the limit of stacks; first of all in main().
void usual_stacks();

// What start_worker() put on the command line, in main().
int run_worker(const WorkerConfig& config, int link_fd);

}  // namespace cricket::server
