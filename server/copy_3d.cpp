// SPDX-License-Identifier: MIT
#include "copy_3d.h"

#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

CUresult driver_end(Call& call, const rpc::CopyExtent& extent, rpc::CopyEnd* end, bool contexts) {
    if (contexts && end->type == CU_MEMORYTYPE_ARRAY) end->context = nullptr;  // ignored
    if (contexts && !driver_handle(call.objects, HandleKind::Context, to_number(end->context), &end->context))
        return CUDA_ERROR_INVALID_CONTEXT;
    rpc::CopyRange range;
    switch (end->type) {
        case CU_MEMORYTYPE_ARRAY:
            return driver_handle(call.objects, HandleKind::Array, to_number(end->array), &end->array)
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_INVALID_HANDLE;
        case CU_MEMORYTYPE_HOST:
            end->array = nullptr;
            return extent.empty() || (rpc::touched(*end, extent, &range) &&
                                      call.session.host_memory.valid(range.address, range.bytes))
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_INVALID_VALUE;
        case CU_MEMORYTYPE_DEVICE:
            end->array = nullptr;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

}  // namespace

CUresult driver_source(Call& call, rpc::CopyFields* copy, bool contexts) {
    rpc::CopyEnd end = rpc::source_of(*copy);
    const CUresult status = driver_end(call, rpc::extent_of(*copy), &end, contexts);
    rpc::set_source(copy, end);
    return status;
}

CUresult driver_target(Call& call, rpc::CopyFields* copy, bool contexts) {
    rpc::CopyEnd end = rpc::target_of(*copy);
    const CUresult status = driver_end(call, rpc::extent_of(*copy), &end, contexts);
    rpc::set_target(copy, end);
    return status;
}

CUresult driver_copy(Call& call, CUDA_MEMCPY3D* copy) {
    rpc::CopyFields fields = rpc::fields_of(*copy);
    CUresult status = driver_source(call, &fields, false);
    if (status == CUDA_SUCCESS) status = driver_target(call, &fields, false);
    if (status == CUDA_SUCCESS) *copy = rpc::memcpy_3d_of(fields);
    return status;
}

}  // namespace cricket::server
