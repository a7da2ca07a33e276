// SPDX-License-Identifier: MIT
// Connections of strangers. Where no descriptor is left for one it is closed at once: left in the queue, poll() would tell of it
// again and again.
#pragma once

#include <string>

#include "cricket/unique_fd.h"

namespace cricket::server {

class Reception {
  public:
    Reception();
    // The next connection of a listener that does not block; none: it has gone, or was turned away. `where` is for the log.
    UniqueFd accept(int listener, const std::string& where);

  private:
    UniqueFd spare_;  // given up for the moment that it takes to close a connection
};

}  // namespace cricket::server
