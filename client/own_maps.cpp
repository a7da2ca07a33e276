// SPDX-License-Identifier: MIT
#include "client/own_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace cricket::client {
namespace {

struct Identity {
    uint64_t inode = 0;
    int64_t born_s = 0;
    uint32_t born_ns = 0;
    bool operator==(const Identity&) const = default;
};

Identity identity_of(int fd) {
    struct statx info {};
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &info) != 0) return {};
    return {info.stx_ino, info.stx_btime.tv_sec, info.stx_btime.tv_nsec};
}

// The whole file with a NUL behind it, to be freed; null when it cannot be had.
char* read_all(void (*after_each_read)()) {
    const int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t room = 64 * 1024, used = 0;
    char* text = fd >= 0 ? static_cast<char*>(::malloc(room)) : nullptr;
    while (text) {
        if (room - used < 8192) {
            auto* larger = static_cast<char*>(::realloc(text, room *= 2));
            if (!larger) ::free(text);
            text = larger;
            continue;
        }
        const ssize_t got = ::read(fd, text + used, room - used - 1);
        if (got < 0 && errno == EINTR) continue;
        if (after_each_read) after_each_read();
        if (got <= 0) {
            text[used] = 0;
            break;
        }
        used += static_cast<size_t>(got);
    }
    if (fd >= 0) ::close(fd);
    return text;
}

}  // namespace

int OwnMapping::protection() const {
    return (mode[0] == 'r' ? PROT_READ : 0) | (mode[1] == 'w' ? PROT_WRITE : 0) | (mode[2] == 'x' ? PROT_EXEC : 0);
}

OwnMaps::OwnMaps(int memfd, void (*after_each_read)()) {
    for (;;) {
        const Identity before = identity_of(memfd);
        text_ = read_all(after_each_read);
        if (!text_ || identity_of(memfd) == before) {
            inode_ = before.inode;
            break;
        }
        ::free(text_);
    }
    at_ = text_;
}

OwnMaps::~OwnMaps() { ::free(text_); }

bool OwnMaps::next(OwnMapping* out) {
    while (at_ && *at_) {
        unsigned long long start = 0, end = 0, offset = 0, inode = 0;
        const int fields = std::sscanf(at_, "%llx-%llx %4s %llx %*s %llu", &start, &end, out->mode, &offset, &inode);
        const char* line_end = std::strchr(at_, '\n');
        at_ = line_end ? at_ + (line_end - at_) + 1 : nullptr;
        if (fields != 5) continue;
        out->start = start;
        out->end = end;
        out->offset = offset;
        out->inode = inode;
        return true;
    }
    return false;
}

}  // namespace cricket::client
