// SPDX-License-Identifier: MIT
// Copies between boxes: 2D, 3D, between devices, of arrays. One procedure for all of them (rpc/copy_3d.h).
#include <cstring>

#include "copy_3d.h"
#include "dispatch.h"
#include "session.h"
#include "transfer.h"

namespace cricket::server {
namespace {

// Data beside the message: the rows of the box, one behind the other, in place of what the application named.
bool pack(const rpc::CopyExtent& extent, const void* place, uint64_t bytes, rpc::CopyEnd* end) {
    uint64_t area, volume;
    if (!place || __builtin_mul_overflow(extent.width, extent.height, &area) ||
        __builtin_mul_overflow(area, extent.depth, &volume) || volume != bytes)
        return false;
    const CUcontext context = end->context;
    *end = {};
    end->type = CU_MEMORYTYPE_HOST;
    end->address = reinterpret_cast<uint64_t>(place);
    end->context = context;
    end->pitch = extent.width;
    end->height = extent.height;
    return true;
}

CUresult give_2d(const DriverTable& driver, const rpc::CopyFields& copy, CUstream stream) {
    if (!driver.cuMemcpy2DAsync) return CUDA_ERROR_NOT_SUPPORTED;
    CUDA_MEMCPY2D flat{};
    flat.srcXInBytes = copy.srcXInBytes;
    flat.srcY = copy.srcY;
    flat.srcMemoryType = copy.srcMemoryType;
    flat.srcHost = copy.srcHost;
    flat.srcDevice = copy.srcDevice;
    flat.srcArray = copy.srcArray;
    flat.srcPitch = copy.srcPitch;
    flat.dstXInBytes = copy.dstXInBytes;
    flat.dstY = copy.dstY;
    flat.dstMemoryType = copy.dstMemoryType;
    flat.dstHost = copy.dstHost;
    flat.dstDevice = copy.dstDevice;
    flat.dstArray = copy.dstArray;
    flat.dstPitch = copy.dstPitch;
    flat.WidthInBytes = copy.WidthInBytes;
    flat.Height = copy.Height;
    return driver.cuMemcpy2DAsync(&flat, stream);
}

CUresult give(const DriverTable& driver, rpc::CopyForm form, const rpc::CopyFields& copy, CUstream stream) {
    switch (form) {
        case rpc::CopyForm::TwoD:
            return give_2d(driver, copy, stream);
        case rpc::CopyForm::Unaligned:  // has no Async function, and must not hold up the other calls
        case rpc::CopyForm::ThreeD: {
            const CUDA_MEMCPY3D box = rpc::memcpy_3d_of(copy);
            return driver.cuMemcpy3DAsync ? driver.cuMemcpy3DAsync(&box, stream) : CUDA_ERROR_NOT_SUPPORTED;
        }
        case rpc::CopyForm::Peer:
            return driver.cuMemcpy3DPeerAsync ? driver.cuMemcpy3DPeerAsync(&copy, stream) : CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult copy_box(Call& call, const cricketCopyBox_args& args, rpc::Bulk* result) {
    rpc::CopyFields copy;
    CUstream stream = nullptr;
    if (args.copy.size != sizeof copy) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(&copy, args.copy.data, sizeof copy);
    if (!call.stream(args.stream, &stream)) return CUDA_ERROR_INVALID_HANDLE;
    if ((args.source.size && !outlives_call(call, args.source, stream)) ||
        (args.target.size && !outlives_call(call, args.target, stream)))
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    const auto form = static_cast<rpc::CopyForm>(args.form);
    const bool contexts = form == rpc::CopyForm::Peer;
    const rpc::CopyExtent extent = rpc::extent_of(copy);
    rpc::Bulk target = args.target;
    CUresult status = CUDA_SUCCESS;

    // Staged ends take their place after the translation, which lets only the application's own memory pass.
    rpc::CopyEnd from = rpc::source_of(copy), to = rpc::target_of(copy);
    if (args.source.size) {
        from.type = CU_MEMORYTYPE_DEVICE;
        rpc::set_source(&copy, from);
    }
    if (args.target.size) {
        to.type = CU_MEMORYTYPE_DEVICE;
        rpc::set_target(&copy, to);
    }
    status = driver_source(call, &copy, contexts);
    if (status == CUDA_SUCCESS) status = driver_target(call, &copy, contexts);
    if (status != CUDA_SUCCESS) return status;
    if (args.source.size) {
        from = rpc::source_of(copy);
        if (!pack(extent, transfer_source(call, args.source), args.source.size, &from)) return CUDA_ERROR_INVALID_VALUE;
        rpc::set_source(&copy, from);
    }
    rpc::CopyRange range;
    if (args.target.size) {
        to = rpc::target_of(copy);
        if (!pack(extent, transfer_target(call, target, result), target.size, &to)) return CUDA_ERROR_INVALID_VALUE;
        rpc::set_target(&copy, to);
    } else if (to.type == CU_MEMORYTYPE_HOST && !extent.empty() && rpc::touched(to, extent, &range)) {
        target = {rpc::Bulk::Where::Host, range.address, range.bytes, {}};
    }

    status = give(call.driver, form, copy, stream);
    if (status == CUDA_SUCCESS && args.source.size) status = transfer_source_given(call, args.source, stream);
    if (status == CUDA_SUCCESS && target.size) status = transfer_target_given(call, target, stream);
    const bool in_answer = result->size != 0;
    if (status == CUDA_SUCCESS && args.wait && call.wants_reply() && !in_answer) status = answer_after(call, stream);
    return status;
}

}  // namespace

void serve_cricketCopyBox(Call& call, const cricketCopyBox_args& args, cricketCopyBox_res& res) {
    res.status = copy_box(call, args, &res.data);
}

}  // namespace cricket::server
