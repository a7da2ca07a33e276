// SPDX-License-Identifier: MIT
// What is asked of a snapshot, and what becomes of it. It has two moments: when its content is secured, the session may go
// on; when it is complete, it is under its name.
#pragma once

#include <cstdint>
#include <string>

namespace cricket::server {

struct SnapshotRequest {
    std::string directory;   // absolute, as the server sees it
    std::string checkpoint;  // of which it is a half; empty: a snapshot of its own
    std::string base;        // an earlier snapshot, whose unchanged chunks are shared; empty: none
    bool series = false;     // can be the base of later ones
    bool live = false;       // of a running session, which is stopped until its content is secured
    uint32_t compress = 0;   // level of zstd; 0: none
    bool frozen = false;     // of a session that criu holds still and whose images are made: host memory is saved here, too
    bool without_gpu = false;  // what lets the application attach again, and nothing of what it had in the GPU
};

// Why there is none `without_gpu` of a session that was parked with its host memory, until its program is attached again.
inline constexpr char host_memory_is_here[] =
    "the newest host memory is the session's until its program has called CUDA again: it cannot be saved without the GPU";

enum class SnapshotPhase : uint32_t { None = 0, Securing = 1, Writing = 2, Complete = 3, Failed = 4 };

struct SnapshotState {
    uint64_t id = 0;  // of the session's snapshots, from 1 on
    SnapshotPhase phase = SnapshotPhase::None;
    std::string error;  // of one that failed
    // Bytes. `total` are all that the snapshot describes; `done` of them are dealt with.
    uint64_t total = 0, done = 0;
    uint64_t zeros = 0, shared = 0, written = 0;
    uint64_t aside_device = 0, aside_host = 0, streamed = 0;  // how they were secured
    // Microseconds. `secured` is all that the session stood for, of which the next four are parts.
    uint64_t secured = 0, captured = 0, hashed = 0, copied = 0, stream = 0;
    uint64_t complete = 0;  // from the beginning to the end
};

}  // namespace cricket::server
