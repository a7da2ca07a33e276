// SPDX-License-Identifier: MIT
// What the shim says to the user, on stderr through write(2). Runs inside somebody else's process: no
// allocation, no stdio of the application, errno kept. CRICKET_LOG=error|warn|info|debug chooses how much
// (default: warn).
#pragma once

#include <atomic>

namespace cricket::client {

enum class LogLevel : int { Error = 0, Warn = 1, Info = 2, Debug = 3 };

bool log_enabled(LogLevel level);

// One line of at most 511 bytes, without a newline; longer ones end in "...".
[[gnu::format(printf, 2, 3)]] void log(LogLevel level, const char* format, ...);

// Says it the first time only; `said` is the caller's, one a message, and may be hit by several threads at
// once.
[[gnu::format(printf, 3, 4)]] void log_once(std::atomic<bool>& said, LogLevel level, const char* format, ...);

// The 36 characters of a uuid and a NUL, from its bytes as they lie in memory.
void format_uuid(const void* bytes, char (&text)[37]);

}  // namespace cricket::client
