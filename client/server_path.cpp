// SPDX-License-Identifier: MIT
#include "client/server_path.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace cricket::client {

void server_path(char (&path)[108]) {
    const char* given = ::getenv("CRICKET_SOCKET");
    const char* runtime = ::getenv("XDG_RUNTIME_DIR");
    if (given && *given)
        std::snprintf(path, sizeof path, "%s", given);
    else if (::geteuid() != 0 && runtime && *runtime)
        std::snprintf(path, sizeof path, "%s/cricket/server.sock", runtime);
    else
        std::snprintf(path, sizeof path, "/run/cricket/server.sock");
}

}  // namespace cricket::client
