// SPDX-License-Identifier: MIT
// Lines to stderr, each written whole so that supervisor and workers may share the stream.
// CRICKET_LOG=error|warn|info| debug says how much; info by default.
#pragma once

#include <string>

namespace cricket::server {

enum class LogLevel { Error, Warn, Info, Debug };

// Where lines go: the process's stderr, unless told otherwise.
void log_to(int fd);
int log_descriptor();
// `name` goes before each line. Reads CRICKET_LOG; without a call the name is "cricket-server".
void log_setup(const std::string& name);
bool log_wanted(LogLevel level);

// Whether there may be another line about what a stranger said: a flood of nonsense must not fill the disk. So many a second, then a
// count of those left out.
bool log_of_strangers();
// The same, and false for a line that was written a minute ago or less: programs that wait ask again and again.
bool log_of_strangers(const std::string& line);

[[gnu::format(printf, 1, 2)]] void log_error(const char* format, ...);
[[gnu::format(printf, 1, 2)]] void log_warn(const char* format, ...);
[[gnu::format(printf, 1, 2)]] void log_info(const char* format, ...);
[[gnu::format(printf, 1, 2)]] void log_debug(const char* format, ...);

}  // namespace cricket::server
