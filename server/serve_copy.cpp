// SPDX-License-Identifier: MIT
// Copies of linear memory. Data of the application comes and goes through the channel's buffers, host memory that
// both sides map, or (plain transports) the messages. Whether the application waits is the client's decision: it asks
// for a reply when it does.
#include "dispatch.h"
#include "session.h"
#include "transfer.h"

namespace cricket::server {
namespace {

CUresult to_device(Call& call, CUdeviceptr target, const rpc::Bulk& data, uint64_t bytes, CUstream stream) {
    if (data.size != bytes) return CUDA_ERROR_INVALID_VALUE;
    if (bytes == 0) return CUDA_SUCCESS;
    if (!outlives_call(call, data, stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    const void* source = transfer_source(call, data);
    if (!source) return call.read_error;
    CUresult status = call.driver.cuMemcpyHtoDAsync(target, source, bytes, stream);
    if (status == CUDA_SUCCESS) status = transfer_source_given(call, data, stream);
    if (status == CUDA_SUCCESS && call.wants_reply() && data.where != rpc::Bulk::Where::Inline) status = answer_after(call, stream);
    return status;
}

CUresult to_host(Call& call, const rpc::Bulk& data, rpc::Bulk* result, CUdeviceptr source, uint64_t bytes, CUstream stream) {
    if (data.size != bytes) return CUDA_ERROR_INVALID_VALUE;
    if (bytes == 0) return CUDA_SUCCESS;
    if (!outlives_call(call, data, stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    void* target = transfer_target(call, data, result);
    if (!target) return CUDA_ERROR_INVALID_VALUE;
    CUresult status = call.driver.cuMemcpyDtoHAsync(target, source, bytes, stream);
    if (status == CUDA_SUCCESS && call.wants_reply() && data.where == rpc::Bulk::Where::Host) {
        // Its own answer tells that it is over: one event says both, which the driver takes two microseconds less for.
        status = answer_after(call, stream);
        if (call.wait_for)
            call.session.copies_to_host.push_back({{{data.offset, data.size}}, stream, nullptr, call.credential.seq, nullptr});
        return status;
    }
    if (status == CUDA_SUCCESS) status = transfer_target_given(call, data, stream);
    if (status == CUDA_SUCCESS && call.wants_reply() && !result->size) status = answer_after(call, stream);
    return status;
}

}  // namespace

void serve_cuMemcpyHtoDAsync_v2(Call& call, const cuMemcpyHtoDAsync_v2_args& args, cuMemcpyHtoDAsync_v2_res& res) {
    CUstream stream = nullptr;
    res.status = call.stream(args.hStream, &stream) ? to_device(call, args.dstDevice, args.data, args.ByteCount, stream)
                                                    : CUDA_ERROR_INVALID_HANDLE;
}

void serve_cuMemcpyDtoHAsync_v2(Call& call, const cuMemcpyDtoHAsync_v2_args& args, cuMemcpyDtoHAsync_v2_res& res) {
    CUstream stream = nullptr;
    res.status = call.stream(args.hStream, &stream)
                     ? to_host(call, args.data, &res.data, args.srcDevice, args.ByteCount, stream)
                     : CUDA_ERROR_INVALID_HANDLE;
}

}  // namespace cricket::server
