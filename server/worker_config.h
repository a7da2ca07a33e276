// SPDX-License-Identifier: MIT
// What the supervisor tells a worker when it starts it, and the worker's main function (worker.cpp).
#pragma once

#include <cstdint>
#include <string>

#include "environment.h"

namespace cricket::server {

struct WorkerConfig {
    uint64_t session_id = 0;
    std::string driver_path;  // absolute path of the libcuda.so.1 to load, already tried by the supervisor
    std::string restore_dir;  // snapshot to begin from; empty for a new session
    std::string devices;      // when restoring: CUDA_VISIBLE_DEVICES in place of the snapshot's; empty: as it was
    bool without_gpu = false; // when restoring: nothing of what was in the GPU
    Variables environment;    // the application's CUDA_* variables; those of the snapshot, when restoring
    bool place = false;       // when restoring once more: the driver is led to where variables were (placement.h)
};

// The variables with CUDA_VISIBLE_DEVICES set to `devices`; as they are when that is empty.
Variables with_devices(Variables of_session, const std::string& devices);

// What the limit of stacks is to be when a worker's program begins (worker_process.cpp), in bytes.
inline constexpr uint64_t room_for_stacks = uint64_t(64) << 30;

// Runs one session until it ends; returns the process's exit status, 0 when it ended in order. `link_fd` is
// for WorkerLink. Runs in a process of its own that was started with address randomization off.
int worker_main(const WorkerConfig& config, int link_fd);

}  // namespace cricket::server
