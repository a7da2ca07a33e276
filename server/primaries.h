// SPDX-License-Identifier: MIT
// Primary contexts. One lives while the application retains it or a green context of its device is there,
// which is a part of it: what is made in a green context is the primary's (Session::home) and outlives the
// green one, but for its streams.
#pragma once

#include <cuda.h>

#include "call.h"

namespace cricket::server {

class Session;

bool has_green_contexts(const Session& session, CUdevice device);
bool primary_held(const Session& session, CUdevice device);
// The driver has made the context active by itself: it becomes known to the session, and the journal tells
// when.
CUresult note_primary(Call& call, CUdevice device);
// Around the call that ends it: what is in it leaves first, and is forgotten afterwards.
void primary_ends(Session& session, CUdevice device);
void primary_ended(Call& call, CUdevice device);

}  // namespace cricket::server
