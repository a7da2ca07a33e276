// SPDX-License-Identifier: MIT
#include "log.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>

namespace cricket::server {
namespace {

constexpr const char* level_names[] = {"error", "warn", "info", "debug"};

std::string name = "cricket-server";
int log_fd = STDERR_FILENO;

LogLevel from_environment() {
    const char* wanted = std::getenv("CRICKET_LOG");
    for (int i = 0; wanted && i < 4; ++i)
        if (std::strcmp(wanted, level_names[i]) == 0) return static_cast<LogLevel>(i);
    return LogLevel::Info;
}

LogLevel level = from_environment();

void write_line(LogLevel of_line, const char* format, va_list arguments) {
    if (!log_wanted(of_line)) return;
    const int saved = errno;
    char line[4096];
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    tm local{};
    ::localtime_r(&now.tv_sec, &local);
    int length = std::snprintf(line, sizeof line, "%02d:%02d:%02d.%03ld %s[%d] %s: ", local.tm_hour,
                               local.tm_min, local.tm_sec, now.tv_nsec / 1000000, name.c_str(),
                               static_cast<int>(::getpid()), level_names[static_cast<int>(of_line)]);
    errno = saved;
    length += std::vsnprintf(line + length, sizeof line - static_cast<size_t>(length), format, arguments);
    length = std::min(length, static_cast<int>(sizeof line) - 2);
    // A client's name may be in the line; it must not be able to write other lines.
    for (int i = 0; i < length; ++i)
        if (static_cast<unsigned char>(line[i]) < ' ') line[i] = ' ';
    line[length++] = '\n';
    [[maybe_unused]] const ssize_t ignored = ::write(log_fd, line, static_cast<size_t>(length));
    errno = saved;
}

}  // namespace

void log_to(int fd) {
    log_fd = fd;
}

int log_descriptor() { return log_fd; }

void log_setup(const std::string& new_name) {
    name = new_name;
    level = from_environment();
    const char* wanted = std::getenv("CRICKET_LOG");
    if (wanted && *wanted && std::strcmp(wanted, level_names[static_cast<int>(level)]) != 0)
        log_warn("CRICKET_LOG=%s is none of error, warn, info, debug", wanted);
}

bool log_wanted(LogLevel of_line) {
    return of_line <= level;
}

#define CRICKET_LOG_FUNCTION(function, of_level)           \
    void function(const char* format, ...) {               \
        va_list arguments;                                 \
        va_start(arguments, format);                       \
        write_line(LogLevel::of_level, format, arguments); \
        va_end(arguments);                                 \
    }

bool log_of_strangers() {
    constexpr int lines_a_second = 10;
    static std::mutex mutex;
    static time_t second = 0;
    static int lines = 0, left_out = 0;
    const std::lock_guard lock(mutex);
    const time_t now = std::time(nullptr);
    if (now != second) {
        if (left_out > 0) log_warn("%d more such lines were left out", left_out);
        second = now;
        lines = left_out = 0;
    }
    if (++lines <= lines_a_second) return true;
    ++left_out;
    return false;
}

bool log_of_strangers(const std::string& line) {
    constexpr time_t until_again = 60;
    constexpr size_t most_remembered = 1024;
    static std::mutex mutex;
    static std::map<std::string, time_t> written;
    const std::lock_guard lock(mutex);
    const time_t now = std::time(nullptr);
    std::erase_if(written, [&](const auto& one) { return now - one.second >= until_again; });
    if (written.contains(line) || !log_of_strangers()) return false;
    if (written.size() < most_remembered) written[line] = now;
    return true;
}

CRICKET_LOG_FUNCTION(log_error, Error)
CRICKET_LOG_FUNCTION(log_warn, Warn)
CRICKET_LOG_FUNCTION(log_info, Info)
CRICKET_LOG_FUNCTION(log_debug, Debug)

}  // namespace cricket::server
