// SPDX-License-Identifier: MIT
// XDR of what CUDA's arguments are made of and rpcgen has no word for: bytes that stay where they are, and bulk
// data that travels beside the message.
#pragma once

#include <endian.h>
#include <rpc/rpc.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "rpc/memory_xdr.h"

namespace cricket::rpc {

inline constexpr uint32_t max_blob_bytes = 64u << 20;  // longest blob accepted from the wire

// Variable-length bytes. Encoding reads `data`. Decoding points into the message where the stream's memory allows
// (then valid as long as the message), else allocates; xdr_free() with the owner's routine releases it.
// `data` may be null only when size is 0 and present is false: CUDA tells "no pointer" from "empty".
struct Blob {
    const void* data = nullptr;
    uint32_t size = 0;
    bool present = false;
    bool owned = false;
};

// Bulk data: in the message itself (plain transports) or in the channel's up or down buffer at `offset`.
struct Bulk {
    enum class Where : uint32_t { None = 0, Inline = 1, Shared = 2, Host = 3, Offered = 4, Fetched = 5 };
    Where where = Where::None;
    uint64_t offset = 0;  // Shared: in the channel memfd; Host: address in host memory both sides map;
                          // Offered: id of a file handed over beside (cricket/image_offer.h);
                          // Fetched: in the up buffer, where the server puts it
    uint64_t size = 0;    // bytes
    Blob bytes;           // Inline
    uint64_t address = 0; // Fetched: of the bytes in the client's process, which waits until the server has them
};

bool_t xdr_blob(XDR* xdrs, Blob* blob);
bool_t xdr_bulk(XDR* xdrs, Bulk* bulk);
// libtirpc's xdr_u_hyper and friends under names that fit fixed-width types.
bool_t xdr_u64(XDR* xdrs, uint64_t* value);
bool_t xdr_u32(XDR* xdrs, uint32_t* value);
bool_t xdr_i32(XDR* xdrs, int32_t* value);
bool_t xdr_f32(XDR* xdrs, float* value);

inline bool_t xdr_number(XDR* xdrs, uint64_t* value) { return xdr_u64(xdrs, value); }
inline bool_t xdr_number(XDR* xdrs, uint32_t* value) { return xdr_u32(xdrs, value); }
inline bool_t xdr_number(XDR* xdrs, int32_t* value) { return xdr_i32(xdrs, value); }
inline bool_t xdr_number(XDR* xdrs, float* value) { return xdr_f32(xdrs, value); }

template <class T>
std::byte* number_in_place(bool decode, std::byte* place, T* value) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    using Word = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    const auto turn = [](Word word) { return sizeof(Word) == 4 ? Word(be32toh(static_cast<uint32_t>(word))) : Word(be64toh(word)); };
    Word word;
    if (decode) {
        std::memcpy(&word, place, sizeof word);
        *value = std::bit_cast<T>(turn(word));
    } else {
        word = turn(std::bit_cast<Word>(*value));
        std::memcpy(place, &word, sizeof word);
    }
    return place + sizeof word;
}

// Numbers that follow each other: in one piece where the stream's memory allows, as rpcgen's inline code does it.
template <class... T>
bool_t xdr_numbers(XDR* xdrs, T*... values) {
    if (xdrs->x_op == XDR_FREE) return TRUE;
    constexpr auto bytes = static_cast<u_int>((sizeof(T) + ...));
    const bool memory = in_memory(xdrs);
    if (auto* place = memory ? memory_take(xdrs, bytes) : reinterpret_cast<std::byte*>(XDR_INLINE(xdrs, bytes))) {
        if (xdrs->x_op == XDR_DECODE)
            ((place = number_in_place(true, place, values)), ...);
        else
            ((place = number_in_place(false, place, values)), ...);
        return TRUE;
    }
    if (memory) return FALSE;
    return (xdr_number(xdrs, values) && ...);
}

// The credential of a call: wire.h, CallFlags.
struct Credential {
    uint64_t seq = 0;
    uint64_t context = 0;
    uint32_t thread = 0;
    uint32_t flags = 0;
};
bool_t xdr_credential(XDR* xdrs, Credential* credential);

}  // namespace cricket::rpc
