// SPDX-License-Identifier: MIT
// The shim's file descriptors live above those that applications count on getting.
#pragma once

#include <fcntl.h>
#include <unistd.h>

namespace cricket::client {

// Moves `fd` to a high number, close-on-exec; keeps it where it is when there is none.
inline int out_of_the_way(int fd) {
    if (fd < 0) return fd;
    const int high = ::fcntl(fd, F_DUPFD_CLOEXEC, 900);
    if (high < 0) return fd;
    ::close(fd);
    return high;
}

}  // namespace cricket::client
