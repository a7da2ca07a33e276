// SPDX-License-Identifier: MIT
// How calls get into the journal.
#pragma once

#include <cstdint>

#include "call.h"
#include "dispatch.h"

namespace cricket::server {

// An entry with a call message made of `args`. Moves on what depends on the journal (objects that are gone).
void record_call(Call& call, uint32_t procedure, xdrproc_t xdr_args, void* args, const Effect& effect);

// For handlers: one more entry of the call that is being executed, before its own. Nothing while replaying.
inline void record_extra(Call& call, Proc procedure, xdrproc_t xdr_args, void* args, const Effect& effect) {
    if (!call.replaying) record_call(call, static_cast<uint32_t>(procedure), xdr_args, args, effect);
}

}  // namespace cricket::server
