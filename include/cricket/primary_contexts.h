// SPDX-License-Identifier: MIT
// A device's primary context has one number for ever, which both sides know: CUDA's runtime asks for the
// handle, and makes it current, before it retains the context and thereby brings it into being.
#pragma once

#include <cstdint>

#include "handle_kinds.h"

namespace cricket {

// Far above the indices that sessions count up from 1 (server/objects.h).
constexpr uint64_t primary_context_number(int device) {
    return (static_cast<uint64_t>(HandleKind::Context) << 32 | (0x80000000u + static_cast<uint32_t>(device)))
           << 4;
}

}  // namespace cricket
