// SPDX-License-Identifier: MIT
// The link between supervisor and worker: a SOCK_SEQPACKET pair, one struct a message, fds beside it.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cricket/image_offer.h"
#include "cricket/shared_names.h"
#include "cricket/unique_fd.h"
#include "cricket/wire.h"

namespace cricket::server {

enum class LinkKind : uint32_t {
    Hello = 1,    // to the worker, with the channel and the host-memory memfd; ok: Opened will tell of its dumps
    Control = 2,  // to the worker, with a stream socket that speaks control.x
    Stream = 3,   // to the worker, with a client's stream connection whose attach call has not been read yet
    Started = 4,  // to the supervisor: ok, or the reason in text
    // Between sessions (exchange.h), each with a number that its answer repeats.
    Publish = 5,   // to the supervisor, with a descriptor to keep under `name`
    Withdraw = 6,  // to the supervisor: nobody needs `name` any more; no answer
    Fetch = 7,     // to the supervisor: what was left under `name`?
    Answer = 8,    // to the worker: whether it was done, to Fetch with the descriptor
    Replaced = 10,  // to the worker: the process that started at `request` has begun another session (it called exec)
    Checked = 11,   // to the supervisor: the snapshot that is loaded can be, here; its content comes now
    Image = 9,     // to the worker, with a file that a call will load (cricket/image_offer.h)
    // Somebody, most likely criu, opens the client's host memory, `inode`, and waits for us (dump_watch.h).
    Opened = 12,    // to the worker, which is waited for if it has begun to settle by `until_ns`, on the monotonic clock
    Settling = 13,  // to the supervisor: it has
    Settled = 14,   // to the supervisor: whoever waits may go on
};

struct LinkMessage {
    LinkKind kind{};
    uint32_t ok = 0;
    uint64_t request = 0;
    uint64_t inode = 0, until_ns = 0;
    SharedName name;
    wire::Hello hello{};
    wire::ImageOffer image{};
    ucred peer{};
    char text[1024] = {};  // NUL-terminated

    void set_text(const std::string& from);
};

struct ReceivedLinkMessage {
    enum class Outcome { Message, Nothing, Closed } outcome = Outcome::Closed;
    LinkMessage message;
    std::vector<UniqueFd> fds;
};

// False with errno when the peer is gone or does not read (EAGAIN); never blocks, raises no signal.
bool send_link_message(int link, const LinkMessage& message, const std::vector<int>& fds = {});
// Waits for a message unless `wait` is false.
ReceivedLinkMessage receive_link_message(int link, bool wait);

}  // namespace cricket::server
