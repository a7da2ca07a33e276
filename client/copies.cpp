// SPDX-License-Identifier: MIT
// Copies between the application's linear memory and the device. Pinned memory is memory that the worker maps too: only
// its address travels. Pageable memory goes through the channel's buffers (staging.h).
#include <cstring>

#include "client/captures.h"
#include "client/contexts.h"
#include "client/managed_variables.h"
#include "client/places.h"
#include "client/reply_guard.h"
#include "client/staging.h"
#include "custom.h"

namespace cricket::client {
namespace {

rpc::Bulk pinned(const void* address, uint64_t bytes) {
    return {rpc::Bulk::Where::Host, reinterpret_cast<uint64_t>(address), bytes, {}};
}

// `wait`: until the device has read pinned memory; pageable memory is copied before this returns.
CUresult up(CUdeviceptr target, const void* source, uint64_t bytes, uint64_t stream, uint32_t flags, bool wait) {
    const managed::Copying copying(wait, flags);
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (bytes == 0) return CUDA_SUCCESS;
    if (!source) return CUDA_ERROR_INVALID_VALUE;
    const auto describe = [=](const Piece& piece) {
        cuMemcpyHtoDAsync_v2_args args{};
        args.dstDevice = target + piece.x;
        args.ByteCount = piece.extent.width;
        args.hStream = stream;
        return args;
    };
    if (!in_place(*session, source, bytes, stream, flags, true)) {
        const StagedCall<cuMemcpyHtoDAsync_v2_args> how{Proc::cuMemcpyHtoDAsync_v2, xdr_cuMemcpyHtoDAsync_v2_args,
                                                        &cuMemcpyHtoDAsync_v2_args::data, flags};
        CUresult result;
        if (!fetch_up(*session, how, source, bytes, describe, &result))
            result = stage_up(*session, how, host_line(source, bytes), describe);
        return wait ? settle(result, target, bytes, flags) : result;
    }
    auto args = describe({0, 0, 0, {bytes, 1, 1}});
    args.data = pinned(source, bytes);
    if (!wait) return post(args, {flags});
    cuMemcpyHtoDAsync_v2_res res{};
    ReplyGuard guard;
    return call(args, res, {flags});
}

CUresult down(void* target, CUdeviceptr source, uint64_t bytes, uint64_t stream, uint32_t flags, bool wait) {
    const managed::Copying copying(wait, flags);
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (bytes == 0) return CUDA_SUCCESS;
    if (!target) return CUDA_ERROR_INVALID_VALUE;
    const auto describe = [=](const Piece& piece) {
        cuMemcpyDtoHAsync_v2_args args{};
        args.srcDevice = source + piece.x;
        args.ByteCount = piece.extent.width;
        args.hStream = stream;
        return args;
    };
    if (!in_place(*session, target, bytes, stream, flags, false)) {
        const StagedCall<cuMemcpyDtoHAsync_v2_args> how{Proc::cuMemcpyDtoHAsync_v2, xdr_cuMemcpyDtoHAsync_v2_args,
                                                        &cuMemcpyDtoHAsync_v2_args::data, flags};
        return stage_down(*session, how, xdr_cuMemcpyDtoHAsync_v2_res, host_line(target, bytes), describe);
    }
    auto args = describe({0, 0, 0, {bytes, 1, 1}});
    args.data = pinned(target, bytes);
    if (!wait) return post(args, {flags});
    cuMemcpyDtoHAsync_v2_res res{};
    ReplyGuard guard;
    return call(args, res, {flags});
}

CUresult anywhere(CUdeviceptr target, CUdeviceptr source, uint64_t bytes, CUstream stream, uint32_t flags, bool wait) {
    const managed::Copying copying(wait, flags);
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (bytes == 0) return CUDA_SUCCESS;
    const Place to = place_of(*session, target, bytes), from = place_of(*session, source, bytes);
    const bool to_device = to == Place::Device, from_device = from == Place::Device;
    auto* host_target = reinterpret_cast<void*>(target);
    const auto* host_source = reinterpret_cast<const void*>(source);
    const uint64_t number = to_number(stream);
    if ((to_device && from_device) || (to == Place::Host && from == Place::Host)) {
        cuMemcpyDtoDAsync_v2_args args{};
        args.dstDevice = target;
        args.srcDevice = source;
        args.ByteCount = bytes;
        args.hStream = number;
        const CUresult result = post(args, {flags});
        return wait ? settle(result, target, bytes, flags) : result;
    }
    if (to_device) return up(target, host_source, bytes, number, flags, wait);
    if (from_device) return down(host_target, source, bytes, number, flags, wait);
    if (captures::capturing(number, flags)) {
        CUresult result = captures::share(*session, host_source, bytes, true);
        if (result == CUDA_SUCCESS) result = captures::share(*session, host_target, bytes, false);
        if (result != CUDA_SUCCESS) return result;
        cuMemcpyAsync_args args{};
        args.dst = target;
        args.src = source;
        args.ByteCount = bytes;
        args.hStream = number;
        return post(args, {flags});
    }
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
    return up(dstDevice, srcHost, ByteCount, to_number(hStream), call_flags, false);
}

CUresult impl_cuMemcpyDtoH_v2(uint32_t call_flags, void* dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
    return down(dstHost, srcDevice, ByteCount, 0, call_flags, true);
}

CUresult impl_cuMemcpyDtoHAsync_v2(uint32_t call_flags, void* dstHost, CUdeviceptr srcDevice, size_t ByteCount,
                                   CUstream hStream) {
    return down(dstHost, srcDevice, ByteCount, to_number(hStream), call_flags, false);
}

CUresult impl_cuMemcpy(uint32_t call_flags, CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
    return anywhere(dst, src, ByteCount, nullptr, call_flags, true);
}

CUresult impl_cuMemcpyAsync(uint32_t call_flags, CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
    return anywhere(dst, src, ByteCount, hStream, call_flags, false);
}

}  // namespace cricket::client
