// SPDX-License-Identifier: MIT
// criu stops a program first and opens its memfds next, before it reads anything of them. The kernel asks us whether it may
// (fanotify, for which CAP_SYS_ADMIN is needed): it may as soon as the session's worker knows what the image will hold of the
// host memory (host_image.h), or does not say so in time. Nothing is watched but the host memory of sessions, and nobody but who
// opens it waits. All of it is the main thread's.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "cricket/unique_fd.h"

namespace cricket::server {

class DumpWatch {
  public:
    DumpWatch();
    int get() const { return group_.get(); }  // to be polled; -1: not allowed
    bool watch(int memfd, uint64_t session);  // whether it is
    void forget(uint64_t session);
    void close();  // whoever waits goes on

    // Who has come to open something and waits now: begun() and let_go() are told its number.
    struct Opened {
        uint64_t number, session, inode, until_ns;
    };
    std::vector<Opened> take();
    void begun(uint64_t number);
    void let_go(uint64_t number);
    // Lets those go on for whom nobody does anything in time. How long until there may be the next, in ms; -1: none.
    int expire();

  private:
    struct Waiting {
        UniqueFd file;  // its number names it to the kernel
        uint64_t session, until_ns;
    };
    void allow(int file);

    UniqueFd group_;
    struct Watched {
        uint64_t session, number;
    };
    std::map<uint64_t, Watched> watched_;  // by inode; a session's newest few, for it has one at a time
    std::map<uint64_t, Waiting> waiting_;  // by number
    uint64_t next_ = 1;
};

}  // namespace cricket::server
