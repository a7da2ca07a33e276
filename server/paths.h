// SPDX-License-Identifier: MIT
// Where server and cricketctl meet, and the unix sockets there.
#pragma once

#include <stdexcept>
#include <string>

#include "cricket/unique_fd.h"

namespace cricket::server {

struct PathError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// $XDG_RUNTIME_DIR/cricket/server.sock; /run/cricket/server.sock for root. Throws PathError when there is
// none.
std::string default_socket_path();
std::string control_path(const std::string& socket_path);  // the same plus ".control"

// A bound unix socket that unlinks its path at the end, unless somebody else has taken it over.
class BoundSocket {
  public:
    BoundSocket() = default;
    // Creates the folder (0700) if it is missing, replaces a socket that nobody listens at any more, and
    // refuses to take a living server's. `type`: SOCK_DGRAM, or SOCK_STREAM, which listens. Mode of the
    // socket: 0600.
    BoundSocket(const std::string& path, int type);
    ~BoundSocket() { unlink(); }
    BoundSocket(BoundSocket&& other) noexcept = default;
    BoundSocket& operator=(BoundSocket&& other) noexcept = default;

    int get() const { return fd_.get(); }
    explicit operator bool() const { return static_cast<bool>(fd_); }
    void unlink();

  private:
    UniqueFd fd_;
    std::string path_;
    uint64_t device_ = 0, inode_ = 0;
};

}  // namespace cricket::server
