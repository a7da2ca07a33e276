// SPDX-License-Identifier: MIT
#include "values.h"

#include <cstdlib>
#include <cstring>

namespace cricket::rpc {

bool_t xdr_u64(XDR* xdrs, uint64_t* value) {
    if (in_memory(xdrs)) return xdr_numbers(xdrs, value);
    u_quad_t wide = *value;
    if (!::xdr_u_hyper(xdrs, &wide)) return FALSE;
    *value = wide;
    return TRUE;
}

bool_t xdr_u32(XDR* xdrs, uint32_t* value) { return in_memory(xdrs) ? xdr_numbers(xdrs, value) : ::xdr_u_int(xdrs, value); }
bool_t xdr_i32(XDR* xdrs, int32_t* value) { return in_memory(xdrs) ? xdr_numbers(xdrs, value) : ::xdr_int(xdrs, value); }
bool_t xdr_f32(XDR* xdrs, float* value) { return in_memory(xdrs) ? xdr_numbers(xdrs, value) : ::xdr_float(xdrs, value); }

// Points into the message where it lies in memory as a whole. A record stream (plain transports) would give places in its
// buffer, which the next read of the same message may fill again.
static bool_t decode_bytes(XDR* xdrs, Blob* blob) {
    const uint32_t padded = (blob->size + 3u) & ~3u;
    if (in_memory(xdrs)) {
        blob->data = memory_take(xdrs, padded);
        blob->owned = false;
        return blob->data != nullptr;
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

static bool_t encode_bytes(XDR* xdrs, const Blob& blob) {
    if (!in_memory(xdrs)) return ::xdr_opaque(xdrs, static_cast<char*>(const_cast<void*>(blob.data)), blob.size);
    const uint32_t padded = (blob.size + 3u) & ~3u;
    std::byte* place = memory_take(xdrs, padded);
    if (!place) return FALSE;
    std::memcpy(place, blob.data, blob.size);
    std::memset(place + blob.size, 0, padded - blob.size);
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
    return encode_bytes(xdrs, *blob);
}

bool_t xdr_bulk(XDR* xdrs, Bulk* bulk) {
    auto where = static_cast<uint32_t>(bulk->where);
    if (!xdr_numbers(xdrs, &where) || where > static_cast<uint32_t>(Bulk::Where::Fetched)) return FALSE;
    bulk->where = static_cast<Bulk::Where>(where);
    if (!xdr_numbers(xdrs, &bulk->offset, &bulk->size)) return FALSE;
    if (bulk->where == Bulk::Where::Inline) return xdr_blob(xdrs, &bulk->bytes);
    if (bulk->where == Bulk::Where::Fetched) return xdr_numbers(xdrs, &bulk->address);
    return TRUE;
}

bool_t xdr_credential(XDR* xdrs, Credential* credential) {
    return xdr_u64(xdrs, &credential->seq) && xdr_u64(xdrs, &credential->context) &&
           xdr_u32(xdrs, &credential->thread) && xdr_u32(xdrs, &credential->flags);
}

}  // namespace cricket::rpc
