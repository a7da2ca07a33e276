// SPDX-License-Identifier: MIT
// Copies of linear memory. Data of the application comes and goes through the channel's buffers, host memory that
// both sides map, or (plain transports) the messages. Whether the application waits is the client's decision: it asks
// for a reply when it does.
#include <cstdlib>
#include <cstring>

#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

// Below this a copy out of unregistered memory costs the driver less than an event that says when a registered
// buffer is free again.
constexpr uint64_t copied_at_once = 64 * 1024;

// The call is answered when `stream` has done all it has now.
CUresult wait_for(Call& call, CUstream stream) {
    CUevent event = call.session.take_event();
    if (!event) return CUDA_ERROR_INVALID_CONTEXT;
    const CUresult status = call.driver.cuEventRecord(event, stream);
    if (status == CUDA_SUCCESS)
        call.wait_for = event;
    else
        call.session.give_event(event);
    return status;
}

CUresult to_device(Call& call, CUdeviceptr target, const rpc::Bulk& data, uint64_t bytes, CUstream stream) {
    if (data.size != bytes) return CUDA_ERROR_INVALID_VALUE;
    if (bytes == 0) return CUDA_SUCCESS;
    const bool shared = data.where == rpc::Bulk::Where::Shared;
    const void* source = shared && bytes <= copied_at_once ? call.session.up_pageable(data.offset, bytes) : call.read(data);
    if (!source) return CUDA_ERROR_INVALID_VALUE;
    CUresult status = call.driver.cuMemcpyHtoDAsync(target, source, bytes, stream);
    if (status != CUDA_SUCCESS) return status;
    if (shared && bytes > copied_at_once) {
        CUevent event = call.session.take_event();
        if (event && call.driver.cuEventRecord(event, stream) == CUDA_SUCCESS)
            call.session.up_in_use(event);
        else
            status = call.driver.cuStreamSynchronize(stream);
    }
    if (status == CUDA_SUCCESS && call.wants_reply() && data.where != rpc::Bulk::Where::Inline) status = wait_for(call, stream);
    return status;
}

CUresult to_host(Call& call, const rpc::Bulk& data, rpc::Bulk* result, CUdeviceptr source, uint64_t bytes, CUstream stream) {
    if (data.size != bytes) return CUDA_ERROR_INVALID_VALUE;
    if (bytes == 0) return CUDA_SUCCESS;
    if (data.where == rpc::Bulk::Where::Inline || data.where == rpc::Bulk::Where::None) {
        if (bytes > rpc::max_blob_bytes) return CUDA_ERROR_INVALID_VALUE;
        void* memory = std::malloc(bytes);
        if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
        *result = {rpc::Bulk::Where::Inline, 0, bytes, {memory, static_cast<uint32_t>(bytes), true, true}};
        const CUresult status = call.driver.cuMemcpyDtoHAsync(memory, source, bytes, stream);
        const CUresult done = call.driver.cuStreamSynchronize(stream);
        return status == CUDA_SUCCESS ? done : status;
    }
    void* target = call.write(data);
    if (!target) return CUDA_ERROR_INVALID_VALUE;
    CUresult status = call.driver.cuMemcpyDtoHAsync(target, source, bytes, stream);
    if (status != CUDA_SUCCESS) return status;
    if (data.where == rpc::Bulk::Where::Host) {
        CUevent event = call.session.take_event();
        if (event && call.driver.cuEventRecord(event, stream) == CUDA_SUCCESS)
            call.session.copies_to_host.push_back({{data.offset, bytes}, event, 0, nullptr});
        else
            status = call.driver.cuStreamSynchronize(stream);
    }
    if (status == CUDA_SUCCESS && call.wants_reply()) status = wait_for(call, stream);
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
