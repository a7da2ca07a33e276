// SPDX-License-Identifier: MIT
// One unconnected datagram with descriptors. Its socket lives for this one call, so that between two calls the process holds
// nothing that plain CRIU refuses (design.md, invariant 2).
#pragma once

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

namespace cricket::client {

// 0 or errno; EAGAIN when the server's queue is full, since nobody waits here. At most two descriptors, at least one.
inline int send_datagram(const sockaddr_un& server, const void* data, size_t bytes, const int* fds, size_t count) {
    iovec content{const_cast<void*>(data), bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
    msghdr message{};
    message.msg_name = const_cast<sockaddr_un*>(&server);
    message.msg_namelen = sizeof server;
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    ssize_t sent;
    do
        sent = ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    const int error = sent < 0 ? errno : 0;
    ::close(fd);
    return error;
}

}  // namespace cricket::client
