// SPDX-License-Identifier: MIT
// read() and write() of so many bytes, however many calls that takes.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstddef>

namespace cricket::client {

// How many there were, fewer where the file ends before; -1: errno says why.
inline ssize_t read_whole(int fd, void* to, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        const ssize_t got = ::read(fd, static_cast<char*>(to) + done, bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        done += static_cast<size_t>(got);
    }
    return static_cast<ssize_t>(done);
}

inline bool write_whole(int fd, const void* from, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        const ssize_t wrote = ::write(fd, static_cast<const char*>(from) + done, bytes - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return false;
        done += static_cast<size_t>(wrote);
    }
    return true;
}

}  // namespace cricket::client
