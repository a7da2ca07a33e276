// SPDX-License-Identifier: MIT
#include "client/pinned.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "client/held_writers.h"

namespace cricket::client {

bool replaceable(uint64_t address, uint64_t bytes, uint64_t inode, const char** why) {
    FILE* maps = ::fopen("/proc/self/maps", "re");
    if (!maps) {
        *why = "/proc/self/maps cannot be read";
        return false;
    }
    char* line = nullptr;
    size_t room = 0;
    uint64_t covered = address;
    *why = nullptr;
    while (!*why && covered < address + bytes && ::getline(&line, &room, maps) > 0) {
        unsigned long long start = 0, end = 0, of_file = 0;
        char mode[5] = {};
        if (std::sscanf(line, "%llx-%llx %4s %*s %*s %llu", &start, &end, mode, &of_file) != 4 || end <= covered) continue;
        if (start > covered) break;
        if (mode[3] != 'p' && of_file != inode) *why = "it is shared with others";
        if (mode[0] != 'r' || mode[1] != 'w') *why = "it cannot be read and written";
        covered = end;
    }
    ::free(line);
    ::fclose(maps);
    if (!*why && covered < address + bytes) *why = "it is not mapped";
    return !*why;
}

namespace {

struct Exchange {
    uint64_t address, bytes;
    int protection, fd;
    uint64_t offset;
    void* copy;
    bool done = false;
};

bool to_memfd(const Exchange& it, void* place) {
    std::memcpy(it.copy, place, it.bytes);
    return ::mmap(place, it.bytes, it.protection, MAP_SHARED | MAP_FIXED, it.fd, static_cast<off_t>(it.offset)) == place;
}

bool to_private(const Exchange& it, void* place) {
    void* fresh = ::mmap(nullptr, it.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) return false;
    std::memcpy(fresh, it.copy, it.bytes);
    return ::mremap(fresh, it.bytes, it.bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place;
}

void* exchange(void* argument) {
    auto* it = static_cast<Exchange*>(argument);
    void* place = reinterpret_cast<void*>(it->address);
    bool done;
    {
        const HeldWriters held(it->address, it->bytes);
        done = it->fd >= 0 ? to_memfd(*it, place) : to_private(*it, place);
    }
    it->done = done;  // may lie in the pages exchanged: not before writers are let go
    return nullptr;
}

}  // namespace

bool replace_pages(uint64_t address, uint64_t bytes, int protection, int fd, uint64_t offset, void* copy) {
    Exchange work{address, bytes, protection, fd, offset, copy};
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const bool started = ::pthread_create(&thread, nullptr, exchange, &work) == 0;
    if (started) ::pthread_join(thread, nullptr);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started && work.done;
}

}  // namespace cricket::client
