// SPDX-License-Identifier: MIT
#include "memory_xdr.h"

#include <endian.h>

#include <cstring>

namespace cricket::rpc {
namespace {

bool_t get_long(XDR* xdrs, long* value) {
    const std::byte* place = memory_take(xdrs, 4);
    if (!place) return FALSE;
    uint32_t word;
    std::memcpy(&word, place, sizeof word);
    *value = static_cast<int32_t>(be32toh(word));
    return TRUE;
}

bool_t put_long(XDR* xdrs, const long* value) {
    std::byte* place = memory_take(xdrs, 4);
    if (!place) return FALSE;
    const uint32_t word = htobe32(static_cast<uint32_t>(*value));
    std::memcpy(place, &word, sizeof word);
    return TRUE;
}

bool_t get_bytes(XDR* xdrs, char* to, u_int bytes) {
    const std::byte* place = memory_take(xdrs, bytes);
    if (!place) return FALSE;
    std::memcpy(to, place, bytes);
    return TRUE;
}

bool_t put_bytes(XDR* xdrs, const char* from, u_int bytes) {
    std::byte* place = memory_take(xdrs, bytes);
    if (!place) return FALSE;
    std::memcpy(place, from, bytes);
    return TRUE;
}

u_int position(XDR* xdrs) { return static_cast<u_int>(static_cast<char*>(xdrs->x_private) - xdrs->x_base); }

bool_t set_position(XDR* xdrs, u_int at) {
    const u_int total = position(xdrs) + xdrs->x_handy;
    if (at > total) return FALSE;
    xdrs->x_private = xdrs->x_base + at;
    xdrs->x_handy = total - at;
    return TRUE;
}

int32_t* in_place(XDR* xdrs, u_int bytes) { return reinterpret_cast<int32_t*>(memory_take(xdrs, bytes)); }
void destroy(XDR*) {}
bool_t control(XDR*, int, void*) { return FALSE; }

}  // namespace

constinit const XDR::xdr_ops memory_ops = {get_long, put_long, get_bytes, put_bytes, position, set_position, in_place, destroy, control};

}  // namespace cricket::rpc
