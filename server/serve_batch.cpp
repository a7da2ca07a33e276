// SPDX-License-Identifier: MIT
// Batches of copies and of decompressions, of memory that this process can reach.
#include <cstring>
#include <vector>

#include "dispatch.h"
#include "rpc/array_format.h"
#include "rpc/copy_batch.h"
#include "session.h"
#include "transfer.h"

namespace cricket::server {
namespace {

template <class T>
bool elements(const rpc::Blob& bytes, uint64_t count, std::vector<T>* out) {
    if (!bytes.present || count > rpc::max_blob_bytes / sizeof(T) || bytes.size != count * sizeof(T)) return false;
    out->resize(count);
    if (count) std::memcpy(static_cast<void*>(out->data()), bytes.data, bytes.size);
    return true;
}

// Host memory that the batch writes is known to be written when the stream has come so far.
CUresult note_target(Call& call, uint64_t address, uint64_t bytes, CUstream stream) {
    if (!bytes || wire::is_device_address(address) || !call.session.host_memory.valid(address, bytes)) return CUDA_SUCCESS;
    return transfer_target_given(call, {rpc::Bulk::Where::Host, address, bytes, {}}, stream);
}

bool operand_to_driver(Call& call, CUmemcpy3DOperand* operand) {
    if (operand->type != CU_MEMCPY_OPERAND_TYPE_ARRAY) return true;
    CUarray& array = operand->op.array.array;
    return driver_handle(call.objects, HandleKind::Array, to_number(array), &array);
}

uint64_t element_bytes(Call& call, const CUDA_MEMCPY3D_BATCH_OP& operation) {
    if (operation.src.type != CU_MEMCPY_OPERAND_TYPE_ARRAY) return 1;
    CUDA_ARRAY3D_DESCRIPTOR array{};
    if (call.driver.cuArray3DGetDescriptor(&array, operation.src.op.array.array) != CUDA_SUCCESS) return 0;
    return rpc::element_layout(array.Format, array.NumChannels).bytes;
}

}  // namespace

void serve_cuMemcpyBatchAsync_v2(Call& call, const cuMemcpyBatchAsync_v2_args& args, cuMemcpyBatchAsync_v2_res& res) {
    std::vector<CUdeviceptr> targets, sources;
    std::vector<size_t> sizes, first_of;
    std::vector<CUmemcpyAttributes> attributes;
    CUstream stream = nullptr;
    if (!call.driver.cuMemcpyBatchAsync)
        res.status = CUDA_ERROR_NOT_SUPPORTED;
    else if (!call.stream(args.hStream, &stream))
        res.status = CUDA_ERROR_INVALID_HANDLE;
    else if (!elements(args.dsts, args.count, &targets) || !elements(args.srcs, args.count, &sources) ||
             !elements(args.sizes, args.count, &sizes) || !elements(args.attrs, args.numAttrs, &attributes) ||
             !elements(args.attrsIdxs, args.numAttrs, &first_of))
        res.status = CUDA_ERROR_INVALID_VALUE;
    if (res.status != CUDA_SUCCESS) return;
    res.status = call.driver.cuMemcpyBatchAsync(targets.data(), sources.data(), sizes.data(), targets.size(), attributes.data(),
                                                first_of.data(), attributes.size(), stream);
    for (size_t i = 0; i < targets.size() && res.status == CUDA_SUCCESS; ++i)
        res.status = note_target(call, targets[i], sizes[i], stream);
}

void serve_cuMemcpy3DBatchAsync_v2(Call& call, const cuMemcpy3DBatchAsync_v2_args& args, cuMemcpy3DBatchAsync_v2_res& res) {
    std::vector<CUDA_MEMCPY3D_BATCH_OP> operations;
    CUstream stream = nullptr;
    if (!call.driver.cuMemcpy3DBatchAsync)
        res.status = CUDA_ERROR_NOT_SUPPORTED;
    else if (!call.stream(args.hStream, &stream))
        res.status = CUDA_ERROR_INVALID_HANDLE;
    else if (!elements(args.opList, args.numOps, &operations))
        res.status = CUDA_ERROR_INVALID_VALUE;
    if (res.status != CUDA_SUCCESS) return;
    for (CUDA_MEMCPY3D_BATCH_OP& operation : operations) {
        if (operand_to_driver(call, &operation.src) && operand_to_driver(call, &operation.dst)) continue;
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    res.status = call.driver.cuMemcpy3DBatchAsync(operations.size(), operations.data(), args.flags, stream);
    for (const CUDA_MEMCPY3D_BATCH_OP& operation : operations) {
        if (res.status != CUDA_SUCCESS) return;
        rpc::CopyRange range;
        const uint64_t element = operation.dst.type == CU_MEMCPY_OPERAND_TYPE_POINTER ? element_bytes(call, operation) : 0;
        const rpc::CopyFields copy = rpc::fields_of(operation, element);
        if (element && rpc::touched(rpc::target_of(copy), rpc::extent_of(copy), &range))
            res.status = note_target(call, range.address, range.bytes, stream);
    }
}

void serve_cuMemBatchDecompressAsync(Call& call, const cuMemBatchDecompressAsync_args& args,
                                     cuMemBatchDecompressAsync_res& res) {
    std::vector<CUmemDecompressParams> operations;
    CUstream stream = nullptr;
    res.failed = SIZE_MAX;
    if (!call.driver.cuMemBatchDecompressAsync)
        res.status = CUDA_ERROR_NOT_SUPPORTED;
    else if (!call.stream(args.stream, &stream))
        res.status = CUDA_ERROR_INVALID_HANDLE;
    else if (!elements(args.paramsArray, args.count, &operations))
        res.status = CUDA_ERROR_INVALID_VALUE;
    if (res.status != CUDA_SUCCESS) return;
    size_t failed = SIZE_MAX;
    res.status = call.driver.cuMemBatchDecompressAsync(operations.data(), operations.size(), args.flags, &failed, stream);
    res.failed = failed;
}

}  // namespace cricket::server
