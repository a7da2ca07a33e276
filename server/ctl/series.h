// SPDX-License-Identifier: MIT
// Which earlier snapshot a new one may share chunks with, and how one is asked for.
#pragma once

#include <string>

#include "command.h"

namespace cricket::ctl {

// The folder of a session's half in a checkpoint (of its first session's, if it has none of this one), or the snapshot itself.
// Throws CommandError when it is neither.
std::string gpu_half(const std::string& directory, const std::string& session_token);

// What the server is asked for: `directory` is where the snapshot goes, `result` what the user named, beside which the others
// of its series are.
server::SnapshotRequest snapshot_request(const StoreOptions& options, const std::string& session_token,
                                         const std::string& directory, const std::string& result);

// Begins, and waits until it is complete. Throws CommandError.
void snapshot(const std::string& socket, const std::string& target, const std::string& directory, const StoreOptions& options,
              bool live);

// One line of figures: bytes, times and the pause.
std::string describe(const server::SnapshotState& state);

}  // namespace cricket::ctl
