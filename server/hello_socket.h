// SPDX-License-Identifier: MIT
// Hellos as they come from anybody who can reach the socket: whatever is none is closed, dropped and said so
// in the log.
#pragma once

#include <sys/socket.h>

#include <optional>
#include <string>

#include "cricket/image_offer.h"
#include "cricket/unique_fd.h"
#include "cricket/wire.h"
#include "paths.h"

namespace cricket::server {

struct ReceivedHello {
    wire::Hello hello{};
    ucred peer{};
    UniqueFd channel, host;
};

struct ReceivedOffer {
    wire::ImageOffer offer{};
    UniqueFd file;
};

class HelloSocket {
  public:
    explicit HelloSocket(const std::string& path);  // throws PathError
    int get() const { return socket_.get(); }
    void close() { socket_.unlink(); }
    // The next datagram, if there is one. `more` says whether there was one; a hello comes back only when it
    // is whole, speaks our protocol, and is from our own user. Others are answered in their channel where
    // that is possible.
    // An image that a client of ours offers comes in `offer`.
    std::optional<ReceivedHello> receive(bool* more, std::optional<ReceivedOffer>* offer);

  private:
    BoundSocket socket_;
};

// Refuses, in the channel and in the log.
void refuse_hello(const ReceivedHello& received, wire::Refusal refusal, const std::string& text);

}  // namespace cricket::server
