// SPDX-License-Identifier: MIT
// What an address of the unified address space is, and whether the worker can use the application's memory where it is.
#pragma once

#include <cstdint>

#include "client/session.h"

namespace cricket::client {

enum class Place {
    Device,
    Host,     // host memory that the worker maps too: pinned, managed
    Unknown,  // to the driver; memory of the application's own
};
Place place_of(Session& session, uint64_t address, uint64_t bytes);

// After a call that is blocking where it touches host memory was posted: waits for it if [address, address + bytes) is
// host memory that the device writes in place, which the application may look at next. `result`: of the posting.
CUresult settle(CUresult result, uint64_t address, uint64_t bytes, uint32_t flags);

// Whether a copy on `stream` (session number, 0 as `flags` say) takes host memory from where it is; else its data goes
// through the channel. What is captured uses the memory itself, which is shared with the worker for that; where it cannot
// be, the server refuses it. `read_only`: the copy does not write it.
bool in_place(Session& session, const void* address, uint64_t bytes, uint64_t stream, uint32_t flags, bool read_only);

}  // namespace cricket::client
