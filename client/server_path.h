// SPDX-License-Identifier: MIT
// What the environment says of the server: where it is, and how long to wait for it.
#pragma once

#include <cstdint>

namespace cricket::client {

// CRICKET_SOCKET, else $XDG_RUNTIME_DIR/cricket/server.sock, for root /run/cricket/server.sock; absolute where that has room,
// since the application may change its folder. False, and logged, where it is too long for a socket's address.
bool server_path(char (&path)[108]);

// CRICKET_RECONNECT_TIMEOUT: seconds, at most 1e9; -1: for ever, also where it is no number, which is logged.
int64_t reconnect_timeout();

}  // namespace cricket::client
