// SPDX-License-Identifier: MIT
#include "values.h"

#include <cstdlib>
#include <cstring>

namespace cricket::rpc {

bool_t xdr_u64(XDR* xdrs, uint64_t* value) {
    u_quad_t wide = *value;
    if (!::xdr_u_hyper(xdrs, &wide)) return FALSE;
    *value = wide;
    return TRUE;
}

bool_t xdr_u32(XDR* xdrs, uint32_t* value) { return ::xdr_u_int(xdrs, value); }
bool_t xdr_i32(XDR* xdrs, int32_t* value) { return ::xdr_int(xdrs, value); }
bool_t xdr_f32(XDR* xdrs, float* value) { return ::xdr_float(xdrs, value); }

// Whether the whole message lies in memory. A record stream (plain transports) gives places in its buffer, which the
// next read of the same message may fill again.
static bool in_memory(const XDR* xdrs) {
    alignas(8) char bytes[8];
    XDR memory;
    ::xdrmem_create(&memory, bytes, sizeof bytes, XDR_DECODE);
    return xdrs->x_ops == memory.x_ops;
}

static bool_t decode_bytes(XDR* xdrs, Blob* blob) {
    const uint32_t padded = (blob->size + 3u) & ~3u;
    if (auto* in_place = in_memory(xdrs) ? XDR_INLINE(xdrs, padded) : nullptr) {
        blob->data = in_place;
        blob->owned = false;
        return TRUE;
    }
    auto* memory = static_cast<char*>(std::malloc(blob->size));
    if (!memory) return FALSE;
    if (!::xdr_opaque(xdrs, memory, blob->size)) {
        std::free(memory);
        return FALSE;
    }
    blob->data = memory;
    blob->owned = true;
    return TRUE;
}

bool_t xdr_blob(XDR* xdrs, Blob* blob) {
    if (xdrs->x_op == XDR_FREE) {
        if (blob->owned) std::free(const_cast<void*>(blob->data));
        *blob = {};
        return TRUE;
    }
    uint32_t present = blob->present;
    if (!xdr_numbers(xdrs, &present)) return FALSE;
    blob->present = present;
    if (!present) return TRUE;
    if (!xdr_numbers(xdrs, &blob->size) || blob->size > max_blob_bytes) return FALSE;
    if (blob->size == 0) return TRUE;
    if (xdrs->x_op == XDR_DECODE) return decode_bytes(xdrs, blob);
    return ::xdr_opaque(xdrs, static_cast<char*>(const_cast<void*>(blob->data)), blob->size);
}

bool_t xdr_bulk(XDR* xdrs, Bulk* bulk) {
    auto where = static_cast<uint32_t>(bulk->where);
    if (!xdr_u32(xdrs, &where) || where > static_cast<uint32_t>(Bulk::Where::Offered)) return FALSE;
    bulk->where = static_cast<Bulk::Where>(where);
    if (!xdr_u64(xdrs, &bulk->offset) || !xdr_u64(xdrs, &bulk->size)) return FALSE;
    if (bulk->where == Bulk::Where::Inline) return xdr_blob(xdrs, &bulk->bytes);
    return TRUE;
}

bool_t xdr_credential(XDR* xdrs, Credential* credential) {
    return xdr_u64(xdrs, &credential->seq) && xdr_u64(xdrs, &credential->context) &&
           xdr_u32(xdrs, &credential->thread) && xdr_u32(xdrs, &credential->flags);
}

}  // namespace cricket::rpc
