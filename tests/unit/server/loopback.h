// SPDX-License-Identifier: MIT
// Both ends of a ring in one process, for tests and benchmarks of what a worker does with calls.
#pragma once

#include <unistd.h>

#include <string>

#include "rpc/ring/ring_client.h"
#include "rpc/ring/ring_server.h"

namespace cricket::tests {

// A client that attaches to it has `server` at its ring's other end. `why`: what was in the way.
class Loopback final : public ring::Attacher {
  public:
    bool attach(wire::Hello& hello, ring::Channel& client) override {
        ring::Channel channel;
        if (!channel.map_as_server(UniqueFd(::dup(client.fd())), &why)) return false;
        server = ring::RingServer(std::move(channel));
        if (server.position(hello, 0, &why) != wire::Refusal::None || !server.channel().lock()) return false;
        server.begin(0, 0);
        return true;
    }
    ring::RingServer server;
    std::string why;
};

}  // namespace cricket::tests
