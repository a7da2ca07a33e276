// SPDX-License-Identifier: MIT
// recvmsg with SCM_RIGHTS, where whatever number of fds came is owned from the first moment on.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "cricket/unique_fd.h"

namespace cricket::server {

struct ReceivedMessage {
    ssize_t bytes =
        -1;  // as recvmsg returns it, errno kept; with MSG_TRUNC the full length of a longer datagram
    std::vector<UniqueFd> fds;
    std::optional<ucred> peer;
};

ReceivedMessage receive_message(int socket, void* data, size_t size, int flags);

}  // namespace cricket::server
