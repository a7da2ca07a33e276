// SPDX-License-Identifier: MIT
#include "hello_socket.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "channel_answer.h"
#include "log.h"
#include "printable.h"
#include "received_fds.h"

namespace cricket::server {
namespace {

void dropped(const ReceivedMessage& message, const char* why) {
    if (log_of_strangers())
        log_warn("datagram of %zd bytes and %zu fds from pid %d of uid %d dropped: %s", message.bytes,
                 message.fds.size(), message.peer ? message.peer->pid : -1,
                 message.peer ? static_cast<int>(message.peer->uid) : -1, why);
}

}  // namespace

HelloSocket::HelloSocket(const std::string& path) : socket_(path, SOCK_DGRAM) {
    const int on = 1;
    if (::setsockopt(socket_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
        throw PathError(std::string("cannot ask for the credentials of senders: ") + std::strerror(errno));
}

void refuse_hello(const ReceivedHello& received, wire::Refusal refusal, const std::string& text) {
    const bool told = refuse_in_channel(received.channel.get(), received.hello.next_epoch, refusal, text);
    const std::string line = std::string("hello of ") + received.hello.program + " (pid " + std::to_string(received.peer.pid) + ", uid " +
                             std::to_string(received.peer.uid) + ") refused: " + text + (told ? "" : " (it cannot be told)");
    if (log_of_strangers(line)) log_warn("%s", line.c_str());
}

// Empty with a line in the log when it is none.
static std::optional<ReceivedOffer> offer_in(ReceivedMessage& message, const char* data) {
    ReceivedOffer result;
    if (static_cast<size_t>(message.bytes) != sizeof result.offer) return dropped(message, "an image offer has another size"), std::nullopt;
    std::memcpy(&result.offer, data, sizeof result.offer);
    if (!message.peer || message.peer->uid != ::geteuid()) return dropped(message, "an image offer of another user"), std::nullopt;
    if (result.offer.protocol != wire::protocol_version) return dropped(message, "an image offer of another protocol"), std::nullopt;
    if (message.fds.size() != 1) return dropped(message, "an image offer brings one fd"), std::nullopt;
    result.file = std::move(message.fds[0]);
    return result;
}

std::optional<ReceivedHello> HelloSocket::receive(bool* more, std::optional<ReceivedOffer>* offer) {
    char data[8192];
    static_assert(sizeof data > sizeof(wire::Hello));
    ReceivedMessage message = receive_message(socket_.get(), data, sizeof data, MSG_DONTWAIT | MSG_TRUNC);
    *more = message.bytes >= 0;
    if (!*more) return std::nullopt;
    const auto bytes = static_cast<size_t>(message.bytes);

    offer->reset();
    uint64_t magic = 0;
    std::memcpy(&magic, data, std::min(bytes, sizeof magic));
    if (magic == wire::image_magic) {
        *offer = offer_in(message, data);
        return std::nullopt;
    }

    constexpr size_t common = offsetof(wire::Hello, protocol) + sizeof(wire::Hello::protocol);
    ReceivedHello result;
    std::memcpy(&result.hello, data, std::min(bytes, sizeof result.hello));
    make_printable(result.hello.program, sizeof result.hello.program);
    if (!message.peer) return dropped(message, "no credentials"), std::nullopt;
    if (bytes < common || result.hello.magic != wire::hello_magic)
        return dropped(message, "it is no hello"), std::nullopt;
    if (message.fds.size() != 2) return dropped(message, "a hello brings two fds"), std::nullopt;
    result.peer = *message.peer;
    result.channel = std::move(message.fds[0]);
    result.host = std::move(message.fds[1]);

    if (result.peer.uid != ::geteuid()) {
        refuse_hello(result, wire::Refusal::Internal,
                     "the server belongs to uid " + std::to_string(::geteuid()) + ", not to uid " +
                         std::to_string(result.peer.uid));
        return std::nullopt;
    }
    if (result.hello.protocol != wire::protocol_version) {
        refuse_hello(result, wire::Refusal::Protocol,
                     "the client speaks protocol version " + std::to_string(result.hello.protocol) +
                         ", the server " + std::to_string(wire::protocol_version));
        return std::nullopt;
    }
    if (bytes != sizeof result.hello) return dropped(message, "a hello has another size"), std::nullopt;
    if (!is_shared_memory(result.channel.get()) || !is_shared_memory(result.host.get())) {
        refuse_hello(result, wire::Refusal::BadChannel, "channel and host memory must be memfds");
        return std::nullopt;
    }
    if (result.hello.token == wire::Token{}) {
        refuse_hello(result, wire::Refusal::BadChannel, "a session's token cannot be zero");
        return std::nullopt;
    }
    return result;
}

}  // namespace cricket::server
