// SPDX-License-Identifier: MIT
// Copies between the application's memory and the device. Pinned memory is memory that the worker maps too: only
// its address travels. Pageable memory goes through the channel's buffers in pieces; the pieces of one copy follow
// each other in the log, so no other thread's call comes between them.
#include <cstring>

#include "client/contexts.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "client/stream_copy.h"
#include "custom.h"

namespace cricket::client {
namespace {

constexpr uint64_t up_piece = 1u << 20;
constexpr uint64_t down_piece = 1u << 20;
constexpr uint64_t plain_piece = 8u << 20;
constexpr unsigned down_pieces_in_flight = 6;

rpc::Bulk pinned(const void* address, uint64_t bytes) {
    return {rpc::Bulk::Where::Host, reinterpret_cast<uint64_t>(address), bytes, {}};
}

cuMemcpyHtoDAsync_v2_args up_args(CUdeviceptr target, uint64_t bytes, uint64_t stream) {
    cuMemcpyHtoDAsync_v2_args args{};
    args.dstDevice = target;
    args.ByteCount = bytes;
    args.hStream = stream;
    args.data.size = bytes;
    return args;
}

CUresult up_plain(CUdeviceptr target, const void* source, uint64_t bytes, uint64_t stream, uint32_t flags) {
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t piece = bytes - done < plain_piece ? bytes - done : plain_piece;
        auto args = up_args(target + done, piece, stream);
        args.data.where = rpc::Bulk::Where::Inline;
        args.data.bytes = {static_cast<const std::byte*>(source) + done, static_cast<uint32_t>(piece), true, false};
        const CUresult result = post(args, {flags});
        if (result != CUDA_SUCCESS) return result;
        done += piece;
    }
    return CUDA_SUCCESS;
}

// `wait`: until the device has read pinned memory; pageable memory is copied before this returns.
CUresult up(CUdeviceptr target, const void* source, uint64_t bytes, uint64_t stream, uint32_t flags, bool wait) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (bytes == 0) return CUDA_SUCCESS;
    if (!source) return CUDA_ERROR_INVALID_VALUE;
    if (!session->ring()) return up_plain(target, source, bytes, stream, flags);
    if (session->host_memory().contains(source, bytes)) {
        auto args = up_args(target, bytes, stream);
        args.data = pinned(source, bytes);
        if (!wait) return post(args, {flags});
        cuMemcpyHtoDAsync_v2_res res{};
        ReplyGuard guard;
        return call(args, res, {flags});
    }
    ring::RingClient& ring = *session->ring();
    auto order = ring.hold_order();
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t piece = bytes - done < up_piece ? bytes - done : up_piece;
        auto args = up_args(target + done, piece, stream);
        args.data.where = rpc::Bulk::Where::Shared;
        std::byte* place = ring.up_space_locked(piece, &args.data.offset);
        if (!place) return of_status(ring::Status::Lost);
        stream_copy(place, static_cast<const std::byte*>(source) + done, piece);
        const auto request = request_for(Proc::cuMemcpyHtoDAsync_v2, xdr_routine(xdr_cuMemcpyHtoDAsync_v2_args), &args,
                                         flags, false);
        if (const auto status = ring.post_locked(request); status != ring::Status::Ok) return of_status(status);
        done += piece;
    }
    return CUDA_SUCCESS;
}

cuMemcpyDtoHAsync_v2_args down_args(CUdeviceptr source, uint64_t bytes, uint64_t stream) {
    cuMemcpyDtoHAsync_v2_args args{};
    args.srcDevice = source;
    args.ByteCount = bytes;
    args.hStream = stream;
    args.data.size = bytes;
    return args;
}

CUresult down_plain(void* target, CUdeviceptr source, uint64_t bytes, uint64_t stream, uint32_t flags) {
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t piece = bytes - done < plain_piece ? bytes - done : plain_piece;
        auto args = down_args(source + done, piece, stream);
        cuMemcpyDtoHAsync_v2_res res{};
        ReplyGuard guard;
        const CUresult result = call(args, res, {flags});
        if (result != CUDA_SUCCESS) return result;
        if (res.data.bytes.size != piece) return CUDA_ERROR_UNKNOWN;
        std::memcpy(static_cast<std::byte*>(target) + done, res.data.bytes.data, piece);
        done += piece;
    }
    return CUDA_SUCCESS;
}

struct Piece {
    ring::Pending pending;
    uint64_t offset = 0, bytes = 0;  // in the down buffer
    const std::byte* from = nullptr;
    std::byte* to = nullptr;
};

void copy_piece(void* user) {
    const auto* piece = static_cast<const Piece*>(user);
    stream_copy(piece->to, piece->from, piece->bytes);
}

CUresult down(void* target, CUdeviceptr source, uint64_t bytes, uint64_t stream, uint32_t flags, bool wait) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (bytes == 0) return CUDA_SUCCESS;
    if (!target) return CUDA_ERROR_INVALID_VALUE;
    if (!session->ring()) return down_plain(target, source, bytes, stream, flags);
    if (session->host_memory().contains(target, bytes)) {
        auto args = down_args(source, bytes, stream);
        args.data = pinned(target, bytes);
        if (!wait) return post(args, {flags});
        cuMemcpyDtoHAsync_v2_res res{};
        ReplyGuard guard;
        return call(args, res, {flags});
    }
    ring::RingClient& ring = *session->ring();
    Piece pieces[down_pieces_in_flight];
    unsigned first = 0, count = 0;  // in flight: pieces[first .. first + count), circular
    uint64_t sent = 0;
    CUresult result = CUDA_SUCCESS;
    auto order = ring.hold_order();
    while (sent < bytes || count) {
        while (sent < bytes && count < down_pieces_in_flight && result == CUDA_SUCCESS) {
            Piece& piece = pieces[(first + count) % down_pieces_in_flight];
            piece.bytes = bytes - sent < down_piece ? bytes - sent : down_piece;
            if (!ring.down_alloc_locked(order, piece.bytes, &piece.offset, count == 0)) {
                if (ring.lost()) result = of_status(ring::Status::Lost);
                break;
            }
            piece.from = ring.at(piece.offset);
            piece.to = static_cast<std::byte*>(target) + sent;
            auto args = down_args(source + sent, piece.bytes, stream);
            args.data.where = rpc::Bulk::Where::Shared;
            args.data.offset = piece.offset;
            const auto request = request_for(Proc::cuMemcpyDtoHAsync_v2, xdr_routine(xdr_cuMemcpyDtoHAsync_v2_args),
                                             &args, flags, true);
            if (const auto status = ring.begin_locked(request, &piece.pending); status != ring::Status::Ok) {
                ring.down_free(piece.offset, piece.bytes, true);
                result = of_status(status);
                break;
            }
            sent += piece.bytes;
            ++count;
        }
        if (result != CUDA_SUCCESS) sent = bytes;  // send no more, but let those in flight end
        if (sent == bytes && order.owns_lock()) order.unlock();
        if (count == 0) continue;
        Piece& piece = pieces[first];
        cuMemcpyDtoHAsync_v2_res res{};
        const CUresult one = finish_call(*session, piece.pending, Proc::cuMemcpyDtoHAsync_v2,
                                         xdr_routine(xdr_cuMemcpyDtoHAsync_v2_res), &res, copy_piece, &piece,
                                         order.owns_lock());
        release_reply(!order.owns_lock());
        ring.down_free(piece.offset, piece.bytes, order.owns_lock());
        if (result == CUDA_SUCCESS) result = one;
        first = (first + 1) % down_pieces_in_flight;
        --count;
    }
    return result;
}

// What an address of the unified address space is.
enum class Place { Device, Host, Unknown };
Place place_of(Session& session, uint64_t address, uint64_t bytes) {
    if (wire::is_device_address(address)) return Place::Device;
    if (session.ring() && session.host_memory().contains(reinterpret_cast<void*>(address), bytes)) return Place::Host;
    cuPointerGetAttribute_args args{};
    cuPointerGetAttribute_res res{};
    args.attribute = CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    args.ptr = address;
    ReplyGuard guard;
    if (call(args, res) != CUDA_SUCCESS || res.value.size != sizeof(uint32_t)) return Place::Unknown;
    uint32_t type = 0;
    std::memcpy(&type, res.value.data, sizeof type);
    return type == CU_MEMORYTYPE_DEVICE ? Place::Device : Place::Unknown;
}

CUresult anywhere(CUdeviceptr target, CUdeviceptr source, uint64_t bytes, CUstream stream, uint32_t flags, bool wait) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (bytes == 0) return CUDA_SUCCESS;
    const bool to_device = place_of(*session, target, bytes) == Place::Device;
    const bool from_device = place_of(*session, source, bytes) == Place::Device;
    auto* host_target = reinterpret_cast<void*>(target);
    const auto* host_source = reinterpret_cast<const void*>(source);
    const uint64_t number = handle_number(stream);
    if (to_device && from_device) {
        cuMemcpyDtoDAsync_v2_args args{};
        args.dstDevice = target;
        args.srcDevice = source;
        args.ByteCount = bytes;
        args.hStream = number;
        return post(args, {flags});
    }
    if (to_device) return up(target, host_source, bytes, number, flags, wait);
    if (from_device) return down(host_target, source, bytes, number, flags, wait);
    // Host to host: behind what the stream has been given so far.
    cuStreamSynchronize_args args{};
    cuStreamSynchronize_res res{};
    args.hStream = number;
    ReplyGuard guard;
    const CUresult result = call(args, res, {flags});
    if (result == CUDA_SUCCESS) std::memmove(host_target, host_source, bytes);
    return result;
}

}  // namespace

CUresult impl_cuMemcpyHtoD_v2(uint32_t call_flags, CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount) {
    return up(dstDevice, srcHost, ByteCount, 0, call_flags, true);
}

CUresult impl_cuMemcpyHtoDAsync_v2(uint32_t call_flags, CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount,
                                   CUstream hStream) {
    return up(dstDevice, srcHost, ByteCount, handle_number(hStream), call_flags, false);
}

CUresult impl_cuMemcpyDtoH_v2(uint32_t call_flags, void* dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
    return down(dstHost, srcDevice, ByteCount, 0, call_flags, true);
}

CUresult impl_cuMemcpyDtoHAsync_v2(uint32_t call_flags, void* dstHost, CUdeviceptr srcDevice, size_t ByteCount,
                                   CUstream hStream) {
    return down(dstHost, srcDevice, ByteCount, handle_number(hStream), call_flags, false);
}

CUresult impl_cuMemcpy(uint32_t call_flags, CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
    return anywhere(dst, src, ByteCount, nullptr, call_flags, true);
}

CUresult impl_cuMemcpyAsync(uint32_t call_flags, CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
    return anywhere(dst, src, ByteCount, hStream, call_flags, false);
}

}  // namespace cricket::client
