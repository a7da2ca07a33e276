// SPDX-License-Identifier: MIT
// Turning memory of the application into host memory that the worker can map: its pages are replaced by pages of the
// memfd with the same content, at the same address.
#pragma once

#include <cstdint>

namespace cricket::client {

// Whether [address, address + bytes) may be replaced: private (or of the memfd), readable and writable
// memory. `why` says what it is otherwise.
bool replaceable(uint64_t address, uint64_t bytes, int memfd, const char** why);

// Puts [address, address + bytes), page aligned, with the protection it has (PROT_*) onto the memfd `fd` from `offset` on,
// or (`fd` -1) back onto private memory; `copy` is where the memfd's pages can be written or read. Threads that write
// meanwhile wait where the kernel lets us hold them (userfaultfd). It happens on a thread of its own while the calling one
// waits with its signals held back, for the pages may be the caller's stack. False with errno.
bool replace_pages(uint64_t address, uint64_t bytes, int protection, int fd, uint64_t offset, void* copy);

}  // namespace cricket::client
