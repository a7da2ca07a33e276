// SPDX-License-Identifier: MIT
#include "client/copy_3d.h"

#include <climits>
#include <cstring>

#include "client/places.h"
#include "client/staging.h"
#include "custom.h"

namespace cricket::client {
namespace {

CUresult check_end(Session& session, const rpc::CopyExtent& extent, rpc::CopyForm form, rpc::CopyEnd* end) {
    const bool volume = form == rpc::CopyForm::ThreeD || form == rpc::CopyForm::Peer;
    if (end->type < CU_MEMORYTYPE_HOST || end->type > CU_MEMORYTYPE_UNIFIED || end->lod) return CUDA_ERROR_INVALID_VALUE;
    if (form == rpc::CopyForm::ThreeD && end->context) return CUDA_ERROR_INVALID_VALUE;  // the reserved member
    if (end->type == CU_MEMORYTYPE_ARRAY || extent.empty()) return CUDA_SUCCESS;
    if (end->pitch && (end->pitch < end->x || end->pitch - end->x < extent.width)) return CUDA_ERROR_INVALID_VALUE;
    // CU_DEVICE_ATTRIBUTE_MAX_PITCH is an int.
    if (end->pitch > INT_MAX && form != rpc::CopyForm::Unaligned) return CUDA_ERROR_INVALID_VALUE;
    if (volume && extent.depth > 1 && (end->height < end->y || end->height - end->y < extent.height))
        return CUDA_ERROR_INVALID_VALUE;
    rpc::CopyRange range;
    if (!end->address || !rpc::touched(*end, extent, &range)) return CUDA_ERROR_INVALID_VALUE;
    if (end->type == CU_MEMORYTYPE_UNIFIED)
        end->type = place_of(session, range.address, range.bytes) == Place::Device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    else if (end->type == CU_MEMORYTYPE_HOST && wire::is_device_address(range.address))
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

HostBox host_box(const rpc::CopyEnd& end, const rpc::CopyExtent& extent) {
    rpc::CopyRange range;
    rpc::touched(end, extent, &range);
    const uint64_t pitch = rpc::pitch_of(end, extent);
    return {reinterpret_cast<std::byte*>(range.address), pitch, pitch * rpc::height_of(end, extent), extent};
}

bool staged(Session& session, const rpc::CopyEnd& end, const rpc::CopyExtent& extent, uint64_t stream, uint32_t flags,
            bool read_only) {
    if (end.type != CU_MEMORYTYPE_HOST) return false;
    rpc::CopyRange range;
    rpc::touched(end, extent, &range);
    return !in_place(session, reinterpret_cast<void*>(range.address), range.bytes, stream, flags, read_only);
}

// The part of an end that belongs to a piece of the copy; its rows and slices stay where they are.
rpc::CopyEnd part(const rpc::CopyEnd& whole, const rpc::CopyExtent& extent, const Piece& piece) {
    rpc::CopyEnd end = whole;
    if (end.type != CU_MEMORYTYPE_ARRAY) {
        end.pitch = rpc::pitch_of(whole, extent);
        end.height = rpc::height_of(whole, extent);
    }
    end.x += piece.x;
    end.y += piece.y;
    end.z += piece.z;
    return end;
}

// Memory of the application to memory of the application: behind what the stream has been given so far.
CUresult host_to_host(const rpc::CopyEnd& from, const rpc::CopyEnd& to, const rpc::CopyExtent& extent, uint64_t stream,
                      uint32_t flags) {
    cuStreamSynchronize_args args{};
    cuStreamSynchronize_res res{};
    args.hStream = stream;
    ReplyGuard guard;
    if (const CUresult result = call(args, res, {flags}); result != CUDA_SUCCESS) return result;
    const HostBox source = host_box(from, extent), target = host_box(to, extent);
    for (uint64_t z = 0; z < extent.depth; ++z)
        for (uint64_t y = 0; y < extent.height; ++y)
            std::memmove(target.row(0, y, z), source.row(0, y, z), extent.width);
    return CUDA_SUCCESS;
}

}  // namespace

rpc::CopyFields copy_fields(const CUDA_MEMCPY2D& flat) {
    rpc::CopyFields copy{};
    copy.srcXInBytes = flat.srcXInBytes;
    copy.srcY = flat.srcY;
    copy.srcMemoryType = flat.srcMemoryType;
    copy.srcHost = flat.srcHost;
    copy.srcDevice = flat.srcDevice;
    copy.srcArray = flat.srcArray;
    copy.srcPitch = flat.srcPitch;
    copy.dstXInBytes = flat.dstXInBytes;
    copy.dstY = flat.dstY;
    copy.dstMemoryType = flat.dstMemoryType;
    copy.dstHost = flat.dstHost;
    copy.dstDevice = flat.dstDevice;
    copy.dstArray = flat.dstArray;
    copy.dstPitch = flat.dstPitch;
    copy.WidthInBytes = flat.WidthInBytes;
    copy.Height = flat.Height;
    copy.Depth = 1;
    return copy;
}

CUresult resolve_copy(Session& session, rpc::CopyFields* copy, rpc::CopyForm form) {
    const rpc::CopyExtent extent = rpc::extent_of(*copy);
    rpc::CopyEnd from = rpc::source_of(*copy), to = rpc::target_of(*copy);
    if (const CUresult result = check_end(session, extent, form, &from); result != CUDA_SUCCESS) return result;
    if (const CUresult result = check_end(session, extent, form, &to); result != CUDA_SUCCESS) return result;
    rpc::set_source(copy, from);
    rpc::set_target(copy, to);
    return CUDA_SUCCESS;
}

CUresult copy_3d(const rpc::CopyFields& asked, rpc::CopyForm form, uint64_t stream, uint32_t flags, bool wait) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    rpc::CopyFields copy = asked;
    if (rpc::extent_of(copy).empty()) return CUDA_SUCCESS;
    if (const CUresult result = resolve_copy(*session, &copy, form); result != CUDA_SUCCESS) return result;
    const rpc::CopyExtent extent = rpc::extent_of(copy);
    const rpc::CopyEnd from = rpc::source_of(copy), to = rpc::target_of(copy);
    const bool up = staged(*session, from, extent, stream, flags, true), down = staged(*session, to, extent, stream, flags, false);
    if ((up && to.type == CU_MEMORYTYPE_HOST) || (down && from.type == CU_MEMORYTYPE_HOST))
        return host_to_host(from, to, extent, stream, flags);

    rpc::CopyFields crossing = copy;
    const auto arguments = [&] {
        cricketCopyBox_args args{};
        args.copy = {&crossing, sizeof crossing, true, false};
        args.form = static_cast<uint32_t>(form);
        args.stream = stream;
        return args;
    };
    const auto describe = [&](const Piece& piece) {
        rpc::set_source(&crossing, part(from, extent, piece));
        rpc::set_target(&crossing, part(to, extent, piece));
        crossing.WidthInBytes = piece.extent.width;
        crossing.Height = piece.extent.height;
        crossing.Depth = piece.extent.depth;
        cricketCopyBox_args args = arguments();
        args.wait = down;
        return args;
    };
    StagedCall<cricketCopyBox_args> how{Proc::cricketCopyBox, xdr_cricketCopyBox_args, &cricketCopyBox_args::source, flags};
    if (up) return stage_up(*session, how, host_box(from, extent), describe, wait ? xdr_cricketCopyBox_res : nullptr);
    how.data = &cricketCopyBox_args::target;
    if (down) return stage_down(*session, how, xdr_cricketCopyBox_res, host_box(to, extent), describe);
    cricketCopyBox_args args = arguments();
    if (!wait) return post(args, {flags});
    args.wait = from.type == CU_MEMORYTYPE_HOST || to.type == CU_MEMORYTYPE_HOST;
    cricketCopyBox_res res{};
    ReplyGuard guard;
    return call(args, res, {flags});
}

}  // namespace cricket::client
