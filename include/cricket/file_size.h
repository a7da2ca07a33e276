// SPDX-License-Identifier: MIT
// The size of a memfd. RLIMIT_FSIZE counts for it as it does for a file on a disk, and exceeding it ends a program by SIGXFSZ:
// one that has no large files natively must not end so for what we need. The limit is raised for the moment where that is
// permitted, and nothing is tried where it is not.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace cricket {

// False with errno set: EFBIG where the limit forbids it.
inline bool set_file_size(int fd, uint64_t bytes) {
    rlimit limit{};
    const bool above = ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes;  // RLIM_INFINITY is the largest number
    if (above) {
        const rlimit raised{bytes, std::max<rlim_t>(limit.rlim_max, bytes)};
        if (::setrlimit(RLIMIT_FSIZE, &raised) != 0) {
            errno = EFBIG;
            return false;
        }
    }
    const bool done = ::ftruncate(fd, static_cast<off_t>(bytes)) == 0;
    if (above) {
        const int error = errno;
        ::setrlimit(RLIMIT_FSIZE, &limit);
        errno = error;
    }
    return done;
}

// Whether a file may grow that far: writing beyond it would be a signal.
inline bool may_be_as_large(uint64_t bytes) {
    rlimit limit{};
    return ::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur >= bytes;
}

}  // namespace cricket
