// SPDX-License-Identifier: MIT
// An XDR stream over plain memory, as libtirpc's xdrmem but known to our own routines: numbers and bytes of messages are
// then moved in place, without a call through the stream's table for each. libtirpc's routines work on it all the same.
#pragma once

#include <rpc/rpc.h>

#include <cstddef>
#include <cstdint>

namespace cricket::rpc {

extern const XDR::xdr_ops memory_ops;

inline void memory_xdr(XDR* xdrs, const void* place, uint32_t bytes, xdr_op operation) {
    *xdrs = {};
    xdrs->x_op = operation;
    xdrs->x_ops = const_cast<XDR::xdr_ops*>(&memory_ops);  // without const in older libtirpc
    xdrs->x_private = xdrs->x_base = static_cast<char*>(const_cast<void*>(place));
    xdrs->x_handy = bytes;
}

inline bool in_memory(const XDR* xdrs) { return xdrs->x_ops == &memory_ops; }

// The next bytes of a stream in memory; null when there are not so many.
inline std::byte* memory_take(XDR* xdrs, uint32_t bytes) {
    if (xdrs->x_handy < bytes) return nullptr;
    auto* place = static_cast<std::byte*>(xdrs->x_private);
    xdrs->x_private = place + bytes;
    xdrs->x_handy -= bytes;
    return place;
}

}  // namespace cricket::rpc
