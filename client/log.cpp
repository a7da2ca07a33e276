// SPDX-License-Identifier: MIT
#include "client/log.h"

#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "rpc/ring/not_cancelled.h"

namespace cricket::client {
namespace {

constexpr const char* level_names[] = {"error", "warn", "info", "debug"};

// -1 until the first message: getenv in a constructor would be work that most processes never need.
std::atomic<int> threshold{-1};

int read_threshold() {
    const char* wish = std::getenv("CRICKET_LOG");
    int level = static_cast<int>(LogLevel::Warn);
    bool known = !wish || !*wish;
    for (int i = 0; wish && i < 4; ++i)
        if (std::strcmp(wish, level_names[i]) == 0) {
            level = i;
            known = true;
        }
    threshold.store(level, std::memory_order_relaxed);
    if (!known)
        log(LogLevel::Warn, "CRICKET_LOG=%.32s is none of error, warn, info, debug: using warn", wish);
    return level;
}

void write_line(LogLevel level, const char* format, va_list arguments) {
    const ring::NotCancelled whole;
    int saved = errno;
    char line[512];
    constexpr int room = sizeof line - 1;  // one byte stays for the newline
    int length = std::snprintf(line, room, "cricket[%d] %s: ", static_cast<int>(getpid()),
                               level_names[static_cast<int>(level)]);
    int text = std::vsnprintf(line + length, static_cast<size_t>(room - length), format, arguments);
    if (text < 0) text = 0;
    length += text;
    if (length > room - 1) {
        length = room - 1;
        std::memcpy(line + length - 3, "...", 3);
    }
    // What is quoted may have any bytes, a line is one line.
    for (int i = 0; i < length; ++i)
        if (static_cast<unsigned char>(line[i]) < ' ') line[i] = ' ';
    line[length++] = '\n';
    // A log line that cannot be written is lost: there is nobody to tell.
    for (int done = 0; done < length;) {
        ssize_t n = ::write(STDERR_FILENO, line + done, static_cast<size_t>(length - done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += static_cast<int>(n);
    }
    errno = saved;
}

}  // namespace

bool log_enabled(LogLevel level) {
    int limit = threshold.load(std::memory_order_relaxed);
    if (limit < 0) limit = read_threshold();
    return static_cast<int>(level) <= limit;
}

void log(LogLevel level, const char* format, ...) {
    if (!log_enabled(level)) return;
    va_list arguments;
    va_start(arguments, format);
    write_line(level, format, arguments);
    va_end(arguments);
}

void log_once(std::atomic<bool>& said, LogLevel level, const char* format, ...) {
    if (!log_enabled(level)) return;
    if (said.load(std::memory_order_relaxed) || said.exchange(true, std::memory_order_relaxed)) return;
    va_list arguments;
    va_start(arguments, format);
    write_line(level, format, arguments);
    va_end(arguments);
}

void format_uuid(const void* bytes, char (&text)[37]) {
    static constexpr char digits[] = "0123456789abcdef";
    auto in = static_cast<const unsigned char*>(bytes);
    char* out = text;
    for (int i = 0; i < 16; ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *out++ = '-';
        *out++ = digits[in[i] >> 4];
        *out++ = digits[in[i] & 15];
    }
    *out = 0;
}

}  // namespace cricket::client
