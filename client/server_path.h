// SPDX-License-Identifier: MIT
#pragma once

namespace cricket::client {

// Where the server's socket is: CRICKET_SOCKET, else $XDG_RUNTIME_DIR/cricket/server.sock, for root
// /run/cricket/server.sock.
void server_path(char (&path)[108]);

}  // namespace cricket::client
