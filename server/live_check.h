// SPDX-License-Identifier: MIT
// Proves a session valid, above all after a restore: its memory is compared with a snapshot, and each of its
// contexts runs a kernel of ours and answers on all its streams and events.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "executor.h"
#include "session.h"

namespace cricket::server {

// `directory`: of the snapshot; empty: memory is not compared. The session's device work is over and nothing
// is executed meanwhile.
//   contexts: number, device, streams and events that answered, failed (what did not, in words)
//   snapshot, calls_then, calls_now: what it was compared with, and calls executed at both times
//   bytes, ranges: compared; differ: what, address, bytes of each stretch that is not as it was, at 4 KiB;
//   stretches: how many there are, since differ names only the first; gone: what the session does not have
//   any more
// Throws std::runtime_error when the snapshot cannot be read or is another session's.
nlohmann::json check_live(Session& session, Executor& executor, const std::string& directory);

}  // namespace cricket::server
