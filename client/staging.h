// SPDX-License-Identifier: MIT
// Pageable memory of the application through the channel's buffers: a box of rows, in pieces that follow each other in
// the log, so that no other thread's call comes between them. Only bytes that the copy touches are read or written.
#pragma once

#include <cstdlib>

#include "client/reply_guard.h"
#include "client/session.h"
#include "client/stream_copy.h"
#include "rpc/copy_3d.h"
#include "rpc/pieces.h"

namespace cricket::client {

inline constexpr uint64_t ring_piece = 1u << 20;
inline constexpr uint64_t fetched_piece = 4u << 20;
inline constexpr uint64_t fetched_window = wire::up_cuts[1];  // more would not be faster
inline constexpr uint64_t plain_piece = 8u << 20;
inline constexpr unsigned down_pieces_in_flight = 6;

// The device sends the next piece while this one is copied out: a copy of a piece or two has smaller ones.
inline uint64_t down_piece(const rpc::CopyExtent& extent) {
    return extent.width * extent.height * extent.depth <= 2 * ring_piece ? ring_piece / 4 : ring_piece;
}

using rpc::Piece;
using rpc::Pieces;

// Where the rows of a box lie in the application's memory.
struct HostBox {
    std::byte* first = nullptr;
    uint64_t pitch = 0, slice = 0;  // bytes from row to row, from slice to slice
    rpc::CopyExtent extent;

    std::byte* row(uint64_t x, uint64_t y, uint64_t z) const { return first + z * slice + y * pitch + x; }
    // Where the piece lies when its bytes follow each other, else null.
    std::byte* whole(const Piece& piece) const {
        const bool rows = piece.extent.height == 1 || piece.extent.width == pitch;
        const bool slices = piece.extent.depth == 1 || (rows && piece.extent.width * piece.extent.height == slice);
        return rows && slices ? row(piece.x, piece.y, piece.z) : nullptr;
    }
    void gather(const Piece& piece, std::byte* to) const {
        if (const std::byte* from = whole(piece)) return stream_copy(to, from, piece.bytes());
        for (uint64_t z = 0; z < piece.extent.depth; ++z)
            for (uint64_t y = 0; y < piece.extent.height; ++y, to += piece.extent.width)
                std::memcpy(to, row(piece.x, piece.y + y, piece.z + z), piece.extent.width);
    }
    void scatter(const Piece& piece, const std::byte* from) const {
        if (std::byte* to = whole(piece)) return stream_copy(to, from, piece.bytes());
        for (uint64_t z = 0; z < piece.extent.depth; ++z)
            for (uint64_t y = 0; y < piece.extent.height; ++y, from += piece.extent.width)
                std::memcpy(row(piece.x, piece.y + y, piece.z + z), from, piece.extent.width);
    }
};

inline HostBox host_line(const void* address, uint64_t bytes) {
    return {static_cast<std::byte*>(const_cast<void*>(address)), bytes, bytes, {bytes, 1, 1}};
}

// How a procedure moves one piece: `describe(piece)` gives its arguments, `data` the field of them that says where the
// bytes are.
template <class Args>
struct StagedCall {
    Proc proc;
    bool_t (*xdr_args)(XDR*, Args*);
    rpc::Bulk Args::*data;
    uint32_t flags;
};

template <class Args, class Describe>
CUresult stage_up_plain(const StagedCall<Args>& how, const HostBox& box, Describe describe) {
    Pieces pieces(box.extent, plain_piece);
    std::byte* packed = nullptr;
    CUresult result = CUDA_SUCCESS;
    for (Piece piece; result == CUDA_SUCCESS && pieces.next(&piece);) {
        const std::byte* bytes = box.whole(piece);
        if (!bytes) {
            if (!packed) packed = static_cast<std::byte*>(std::malloc(plain_piece));
            if (!packed) return CUDA_ERROR_OUT_OF_MEMORY;
            box.gather(piece, packed);
            bytes = packed;
        }
        Args args = describe(piece);
        args.*how.data = {rpc::Bulk::Where::Inline, 0, piece.bytes(), {bytes, static_cast<uint32_t>(piece.bytes()), true, false}};
        result = post(how.proc, xdr_routine(how.xdr_args), &args, {how.flags});
    }
    std::free(packed);
    return result;
}

// The last piece, prepared before the first: its call is sent, the ring is free for other threads, and its answer is awaited.
inline CUresult finish_staged(Session& session, Proc proc, const ring::Request& request, ring::Pending& pending,
                              std::unique_lock<std::mutex>& order, xdrproc_t xdr_res, void* res) {
    if (const auto status = session.ring()->begin_locked(request, &pending); status != ring::Status::Ok) return of_status(status);
    order.unlock();
    ReplyGuard guard;
    return finish_call(session, pending, proc, xdr_res, res, nullptr, nullptr);
}

// Returns when the application may reuse the memory; with `answer` (a result and its routine), when the driver has taken
// the last piece, so that what it refuses is known.
template <class Args, class Describe, class Res = cuMemcpyHtoDAsync_v2_res>
CUresult stage_up(Session& session, const StagedCall<Args>& how, const HostBox& box, Describe describe,
                  bool_t (*answer)(XDR*, Res*) = nullptr) {
    if (!session.ring()) return stage_up_plain(how, box, describe);
    ring::RingClient& ring = *session.ring();
    Pieces pieces(box.extent, ring_piece);
    auto order = ring.hold_order();
    ring::Pending pending;
    if (answer && !box.extent.empty())
        if (const auto status = ring.prepare_locked({}, &pending); status != ring::Status::Ok) return of_status(status);
    Piece piece, after;
    for (bool more = pieces.next(&piece); more; piece = after) {
        more = pieces.next(&after);
        Args args = describe(piece);
        rpc::Bulk& data = args.*how.data;
        data = {rpc::Bulk::Where::Shared, 0, piece.bytes(), {}};
        std::byte* place = ring.up_space_locked(data.size, &data.offset);
        if (!place) return of_status(ring::Status::Lost);
        box.gather(piece, place);
        const bool last = answer && !more;
        const auto request = request_for(how.proc, xdr_routine(how.xdr_args), &args, how.flags, last);
        if (last) {
            Res res{};
            return finish_staged(session, how.proc, request, pending, order, xdr_routine(answer), &res);
        }
        if (const auto status = ring.post_locked(request); status != ring::Status::Ok) return of_status(status);
    }
    return CUDA_SUCCESS;
}

// Pageable memory that the worker reads by itself, with several threads (server/fetcher.h): the pieces are posted, and the
// answer to the last says that all have been read. False: it is to be staged here.
template <class Args, class Describe>
bool fetch_up(Session& session, const StagedCall<Args>& how, const void* source, uint64_t bytes, Describe describe,
              CUresult* result) {
    constexpr uint64_t worth_it = 32u << 20;  // less may lie in this core's caches, where it is copied from at twice the speed
    if (!session.ring() || bytes < worth_it || !session.ring()->channel().server_page().can_fetch) return false;
    ring::RingClient& ring = *session.ring();
    Pieces pieces({bytes, 1, 1}, fetched_piece);
    auto order = ring.hold_order();
    ring::Pending pending;
    if (const auto status = ring.prepare_locked({}, &pending); status != ring::Status::Ok) return *result = of_status(status), true;
    Piece piece, after;
    for (bool more = pieces.next(&piece); more; piece = after) {
        more = pieces.next(&after);
        Args args = describe(piece);
        rpc::Bulk& data = args.*how.data;
        data = {rpc::Bulk::Where::Fetched, 0, piece.bytes(), {}, reinterpret_cast<uint64_t>(source) + piece.x};
        if (!ring.up_space_locked(data.size, &data.offset, fetched_window)) return *result = of_status(ring::Status::Lost), true;
        const uint32_t flags = how.flags | (more ? 0u : uint32_t(wire::answer_at_once));
        const auto request = request_for(how.proc, xdr_routine(how.xdr_args), &args, flags, !more);
        if (more) {
            if (const auto status = ring.post_locked(request); status != ring::Status::Ok) return *result = of_status(status), true;
            continue;
        }
        int32_t answer = 0;
        *result = finish_staged(session, how.proc, request, pending, order, reinterpret_cast<xdrproc_t>(rpc::xdr_i32), &answer);
        return *result != static_cast<CUresult>(wire::fetch_refused);  // of any piece
    }
    return false;
}

template <class Args, class Res, class Describe>
CUresult stage_down_plain(const StagedCall<Args>& how, bool_t (*xdr_res)(XDR*, Res*), const HostBox& box, Describe describe) {
    Pieces pieces(box.extent, plain_piece);
    for (Piece piece; pieces.next(&piece);) {
        Args args = describe(piece);
        (args.*how.data).size = piece.bytes();
        Res res{};
        ReplyGuard guard;
        const CUresult result = call(how.proc, xdr_routine(how.xdr_args), &args, xdr_routine(xdr_res), &res, {how.flags});
        if (result != CUDA_SUCCESS) return result;
        if (res.data.bytes.size != piece.bytes()) return CUDA_ERROR_UNKNOWN;
        box.scatter(piece, static_cast<const std::byte*>(res.data.bytes.data));
    }
    return CUDA_SUCCESS;
}

// Returns when the application's memory has been written.
template <class Args, class Res, class Describe>
CUresult stage_down(Session& session, const StagedCall<Args>& how, bool_t (*xdr_res)(XDR*, Res*), const HostBox& box,
                    Describe describe) {
    if (!session.ring()) return stage_down_plain(how, xdr_res, box, describe);
    struct Flight {
        ring::Pending pending;
        uint64_t offset = 0;  // in the down buffer
        const std::byte* from = nullptr;
        const HostBox* box = nullptr;
        Piece piece;
        static void land(void* user) {
            const auto* flight = static_cast<const Flight*>(user);
            flight->box->scatter(flight->piece, flight->from);
        }
    };
    ring::RingClient& ring = *session.ring();
    Flight flights[down_pieces_in_flight];
    unsigned first = 0, count = 0;  // in flight: flights[first .. first + count), circular
    CUresult result = CUDA_SUCCESS;
    Pieces pieces(box.extent, down_piece(box.extent));
    Piece upcoming;
    bool more = pieces.next(&upcoming);
    auto order = ring.hold_order();
    while (more || count) {
        while (more && count < down_pieces_in_flight) {
            Flight& flight = flights[(first + count) % down_pieces_in_flight];
            flight.piece = upcoming;
            flight.box = &box;
            const uint64_t bytes = upcoming.bytes();
            if (!ring.down_alloc_locked(order, bytes, &flight.offset, count == 0)) {
                if (ring.lost()) result = of_status(ring::Status::Lost);
                break;
            }
            flight.from = ring.at(flight.offset);
            Args args = describe(upcoming);
            args.*how.data = {rpc::Bulk::Where::Shared, flight.offset, bytes, {}};
            const auto request = request_for(how.proc, xdr_routine(how.xdr_args), &args, how.flags, true);
            if (const auto status = ring.begin_locked(request, &flight.pending); status != ring::Status::Ok) {
                ring.down_free(flight.offset, bytes, true);
                result = of_status(status);
                break;
            }
            more = pieces.next(&upcoming);
            ++count;
        }
        if (result != CUDA_SUCCESS) more = false;  // send no more, but let those in flight end
        if (!more && order.owns_lock()) order.unlock();
        if (count == 0) continue;
        Flight& flight = flights[first];
        Res res{};
        const CUresult one = finish_call(session, flight.pending, how.proc, xdr_routine(xdr_res), &res, Flight::land, &flight,
                                         order.owns_lock());
        release_reply(!order.owns_lock());
        ring.down_free(flight.offset, flight.piece.bytes(), order.owns_lock());
        if (result == CUDA_SUCCESS) result = one;
        first = (first + 1) % down_pieces_in_flight;
        --count;
    }
    return result;
}

}  // namespace cricket::client
