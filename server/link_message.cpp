// SPDX-License-Identifier: MIT
#include "link_message.h"

#include <cerrno>
#include <cstring>

#include "received_fds.h"

namespace cricket::server {

void LinkMessage::set_text(const std::string& from) {
    const size_t length = std::min(from.size(), sizeof text - 1);
    std::memcpy(text, from.data(), length);
    text[length] = '\0';
}

bool send_link_message(int link, const LinkMessage& message, const std::vector<int>& fds) {
    constexpr size_t most_fds = 4;
    if (fds.size() > most_fds) return errno = EINVAL, false;
    alignas(cmsghdr) char control[CMSG_SPACE(most_fds * sizeof(int))] = {};
    iovec part{const_cast<LinkMessage*>(&message), sizeof message};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
        cmsghdr* item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
        std::memcpy(CMSG_DATA(item), fds.data(), fds.size() * sizeof(int));
    }
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(link, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent == static_cast<ssize_t>(sizeof message);
}

ReceivedLinkMessage receive_link_message(int link, bool wait) {
    ReceivedLinkMessage result;
    const auto receive = [&] {
        return receive_message(link, &result.message, sizeof result.message, wait ? 0 : MSG_DONTWAIT);
    };
    ReceivedMessage received = receive();
    // A peer that ended without reading everything is reported once, before what it still said.
    if (received.bytes < 0 && errno == ECONNRESET) received = receive();
    if (received.bytes == static_cast<ssize_t>(sizeof result.message)) {
        result.message.text[sizeof result.message.text - 1] = '\0';
        result.fds = std::move(received.fds);
        result.outcome = ReceivedLinkMessage::Outcome::Message;
    } else if (received.bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        result.outcome = ReceivedLinkMessage::Outcome::Nothing;
    }
    return result;
}

}  // namespace cricket::server
