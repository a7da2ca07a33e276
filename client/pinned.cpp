// SPDX-License-Identifier: MIT
#include "client/pinned.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "client/held_writers.h"
#include "client/own_maps.h"
#include "rpc/ring/not_cancelled.h"

namespace cricket::client {

bool replaceable(uint64_t address, uint64_t bytes, int memfd, const char** why) {
    OwnMaps maps(memfd);
    if (!maps) {
        *why = "/proc/self/maps cannot be read";
        return false;
    }
    uint64_t covered = address;
    *why = nullptr;
    for (OwnMapping map; !*why && covered < address + bytes && maps.next(&map);) {
        if (map.end <= covered) continue;
        if (map.start > covered) break;
        if (map.shared() && map.inode != maps.memfd_inode()) *why = "it is shared with others";
        if (map.mode[0] != 'r' || map.mode[1] != 'w') *why = "it cannot be read and written";
        covered = map.end;
    }
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
    const ring::NotCancelled whole;  // joining a thread is a place to be cancelled
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
