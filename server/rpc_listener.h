// SPDX-License-Identifier: MIT
// Clients over plain ONC RPC: the supervisor looks at the attach call without taking it, and hands the
// connection to the worker of the session that it names. From then on the worker speaks with the client
// alone.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <list>
#include <string>
#include <vector>

#include "cricket/unique_fd.h"
#include "cricket/wire.h"
#include "paths.h"
#include "reception.h"

namespace cricket::server {

struct PlainAttach {
    UniqueFd connection;  // the attach call is still to be read from it
    wire::Hello hello{};
    ucred peer{};      // pid 0 over TCP, which has no credentials
    uint32_t xid = 0;  // of the attach call
};

// Used by one thread.
class RpcListener {
  public:
    RpcListener() = default;
    // "unix:PATH", "tcp:HOST:PORT". Throws PathError.
    void listen(const std::string& address);

    // Adds what to wait for; give the same entries back to process(), which returns the attach calls that are
    // complete.
    void add_to(std::vector<pollfd>* waiting) const;
    std::vector<PlainAttach> process(const std::vector<pollfd>& waited);
    // Milliseconds until process() is to be called even if nothing came; -1: none.
    int timeout() const;
    void close();

  private:
    struct Listener {
        BoundSocket unix_socket;
        UniqueFd tcp_socket;
        std::string address;
        int fd() const { return unix_socket ? unix_socket.get() : tcp_socket.get(); }
    };
    struct Pending {
        UniqueFd fd;
        ucred peer{};
        std::chrono::steady_clock::time_point deadline;
        std::chrono::steady_clock::time_point again;  // not looked at before
    };
    void accept(Listener& listener);

    Reception reception_;
    std::list<Listener> listeners_;
    std::list<Pending> pending_;
};

// Answers the attach call itself; the connection is closed after it.
void refuse_stream(const PlainAttach& attach, wire::Refusal refusal, const std::string& text);

}  // namespace cricket::server
