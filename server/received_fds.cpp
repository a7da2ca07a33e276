// SPDX-License-Identifier: MIT
#include "received_fds.h"

#include <cerrno>
#include <cstring>

namespace cricket::server {

ReceivedMessage receive_message(int socket, void* data, size_t size, int flags) {
    constexpr size_t most_fds = 253;  // SCM_MAX_FD: the kernel passes no more at once
    alignas(cmsghdr) char control[CMSG_SPACE(most_fds * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
    iovec part{data, size};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    ReceivedMessage result;
    do {
        result.bytes = ::recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
    } while (result.bytes < 0 && errno == EINTR);
    if (result.bytes < 0) return result;
    for (cmsghdr* item = CMSG_FIRSTHDR(&header); item; item = CMSG_NXTHDR(&header, item)) {
        if (item->cmsg_level != SOL_SOCKET) continue;
        const size_t length = item->cmsg_len - CMSG_LEN(0);
        if (item->cmsg_type == SCM_RIGHTS) {
            for (size_t at = 0; at + sizeof(int) <= length; at += sizeof(int)) {
                int fd = -1;
                std::memcpy(&fd, CMSG_DATA(item) + at, sizeof fd);
                result.fds.emplace_back(fd);
            }
        } else if (item->cmsg_type == SCM_CREDENTIALS && length >= sizeof(ucred)) {
            result.peer.emplace();
            std::memcpy(&*result.peer, CMSG_DATA(item), sizeof(ucred));
        }
    }
    return result;
}

}  // namespace cricket::server
