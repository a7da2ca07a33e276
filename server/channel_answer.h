// SPDX-License-Identifier: MIT
// The supervisor's only word in a channel: a refusal. The memfd is a stranger's, so it is written to, never
// mapped and touched: whoever truncates it meanwhile harms nobody but himself.
#pragma once

#include <string>

#include "cricket/wire.h"

namespace cricket::server {

// True for a memfd (or another file in shared memory), which no operation can block on.
bool is_shared_memory(int fd);

// False when the fd is no channel to write an answer into.
bool refuse_in_channel(int channel, uint64_t next_epoch, wire::Refusal refusal, const std::string& text);

}  // namespace cricket::server
