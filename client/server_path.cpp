// SPDX-License-Identifier: MIT
#include "client/server_path.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "client/log.h"

namespace cricket::client {
namespace {

void make_absolute(char (&path)[108]) {
    char folder[sizeof path], whole[2 * sizeof path];
    if (path[0] == '/' || !::getcwd(folder, sizeof folder)) return;
    const int length = std::snprintf(whole, sizeof whole, "%s/%s", folder, path);
    if (length < static_cast<int>(sizeof path)) std::memcpy(path, whole, static_cast<size_t>(length) + 1);
}

}  // namespace

bool server_path(char (&path)[108]) {
    const char* given = ::getenv("CRICKET_SOCKET");
    const char* runtime = ::getenv("XDG_RUNTIME_DIR");
    int length = 0;
    if (given && *given)
        length = std::snprintf(path, sizeof path, "%s", given);
    else if (::geteuid() != 0 && runtime && *runtime)
        length = std::snprintf(path, sizeof path, "%s/cricket/server.sock", runtime);
    else
        length = std::snprintf(path, sizeof path, "/run/cricket/server.sock");
    if (length < 0 || length >= static_cast<int>(sizeof path)) {
        log(LogLevel::Error, "the path of the server's socket has %d characters, and 107 are possible: %s...", length, path);
        return false;
    }
    make_absolute(path);
    return true;
}

int64_t reconnect_timeout() {
    const char* seconds = ::getenv("CRICKET_RECONNECT_TIMEOUT");
    if (!seconds || !*seconds) return -1;
    char* end = nullptr;
    const long value = ::strtol(seconds, &end, 10);
    if (*end == 0 && end != seconds && value >= 0) return std::min(value, 1'000'000'000L);
    log(LogLevel::Warn, "CRICKET_RECONNECT_TIMEOUT=%.100s is not a number of seconds: waiting for ever", seconds);
    return -1;
}

}  // namespace cricket::client
