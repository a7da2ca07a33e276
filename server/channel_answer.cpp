// SPDX-License-Identifier: MIT
#include "channel_answer.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstring>

namespace cricket::server {
namespace {

constexpr off_t page_bytes = 4096;
constexpr off_t server_page = page_bytes;

template <typename T>
bool put(int fd, size_t offset, const T& value) {
    return ::pwrite(fd, &value, sizeof value, server_page + static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(sizeof value);
}

// The kernel finds the waiter by the page; this process does not touch it.
void wake(int fd) {
    void* page = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, server_page);
    if (page == MAP_FAILED) return;
    ::syscall(SYS_futex, static_cast<char*>(page) + offsetof(wire::ServerPage, attach_state), FUTEX_WAKE,
              INT_MAX, nullptr, nullptr, 0);
    ::munmap(page, page_bytes);
}

}  // namespace

bool is_shared_memory(int fd) {
    return ::fcntl(fd, F_GET_SEALS) >= 0;
}

bool refuse_in_channel(int channel, uint64_t next_epoch, wire::Refusal refusal, const std::string& text) {
    struct stat status {};
    if (!is_shared_memory(channel) || ::fstat(channel, &status) != 0 ||
        status.st_size < server_page + page_bytes)
        return false;
    char line[sizeof(wire::ServerPage::text)] = {};
    std::memcpy(line, text.data(), std::min(text.size(), sizeof line - 1));
    const bool written = put(channel, offsetof(wire::ServerPage, text), line) &&
                         put(channel, offsetof(wire::ServerPage, answered_epoch), next_epoch) &&
                         put(channel, offsetof(wire::ServerPage, refusal), static_cast<uint32_t>(refusal)) &&
                         put(channel, offsetof(wire::ServerPage, attach_state),
                             static_cast<uint32_t>(wire::AttachState::Refused));
    if (written) wake(channel);
    return written;
}

}  // namespace cricket::server
