// SPDX-License-Identifier: MIT
// Batches of copies. What the worker can reach where it is crosses as a batch, and the driver copies it as one; copies of
// the application's pageable memory are done one by one, behind it: a batch promises no order among its copies.
#include <vector>

#include "client/copy_3d.h"
#include "client/devices.h"
#include "client/places.h"
#include "client/reply_guard.h"
#include "client/contexts.h"
#include "custom.h"
#include "rpc/array_format.h"
#include "rpc/copy_batch.h"

namespace cricket::client {
namespace {

constexpr size_t entries_at_once = 2048;  // of a batch in one message: the ring takes no message of any length

template <class T>
rpc::Blob blob_of(const T* data, size_t count) {
    return {data, static_cast<uint32_t>(count * sizeof(T)), true, false};
}

bool legacy_stream(CUstream stream, uint32_t flags) {
    return stream == CU_STREAM_LEGACY || (!stream && !(flags & wire::per_thread_default_stream));
}

bool valid_order(CUmemcpySrcAccessOrder order) {
    return order >= CU_MEMCPY_SRC_ACCESS_ORDER_STREAM && order <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
}

bool reachable(Session& session, uint64_t address, uint64_t bytes, uint64_t stream, uint32_t flags, bool read_only) {
    return place_of(session, address, bytes) == Place::Device ||
           in_place(session, reinterpret_cast<void*>(address), bytes, stream, flags, read_only);
}

// A source that must be read when the stream comes to it, and that only this side can read: the stream comes first.
CUresult before_reading(CUmemcpySrcAccessOrder order, uint64_t stream, uint32_t flags) {
    if (order != CU_MEMCPY_SRC_ACCESS_ORDER_STREAM) return CUDA_SUCCESS;
    cuStreamSynchronize_args args{};
    cuStreamSynchronize_res res{};
    args.hStream = stream;
    ReplyGuard guard;
    return call(args, res, {flags});
}

struct Lines {
    std::vector<CUdeviceptr> targets, sources;
    std::vector<size_t> sizes;
    std::vector<CUmemcpyAttributes> attributes;
    std::vector<size_t> first_of;  // copy from which on each of the attributes applies
    size_t last = SIZE_MAX;        // index of the caller's attributes that came last

    void add(CUdeviceptr target, CUdeviceptr source, size_t size, const CUmemcpyAttributes& attribute, size_t index) {
        if (index != last) {
            attributes.push_back(attribute);
            first_of.push_back(targets.size());
            last = index;
        }
        targets.push_back(target);
        sources.push_back(source);
        sizes.push_back(size);
    }
    CUresult send(uint64_t stream, uint32_t flags) {
        if (targets.empty()) return CUDA_SUCCESS;
        cuMemcpyBatchAsync_v2_args args{};
        cuMemcpyBatchAsync_v2_res res{};
        args.dsts = blob_of(targets.data(), targets.size());
        args.srcs = blob_of(sources.data(), sources.size());
        args.sizes = blob_of(sizes.data(), sizes.size());
        args.count = targets.size();
        args.attrs = blob_of(attributes.data(), attributes.size());
        args.attrsIdxs = blob_of(first_of.data(), first_of.size());
        args.numAttrs = attributes.size();
        args.hStream = stream;
        ReplyGuard guard;
        const CUresult result = call(args, res, {flags});
        *this = {};
        return result;
    }
};

CUresult lines(const CUdeviceptr* dsts, const CUdeviceptr* srcs, const size_t* sizes, size_t count,
               const CUmemcpyAttributes* attrs, const size_t* first_of, size_t attribute_count, CUstream stream, uint32_t flags,
               size_t& failed) {
    if (!dsts || !srcs || !sizes || !attrs || !first_of || !count || !attribute_count || attribute_count > count ||
        first_of[0] != 0 || legacy_stream(stream, flags)) {
        failed = SIZE_MAX;
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    for (size_t k = 0; k < attribute_count; ++k) {
        const bool ascending = k == 0 || first_of[k] > first_of[k - 1];
        if (ascending && first_of[k] < count && valid_order(attrs[k].srcAccessOrder)) continue;
        failed = ascending && first_of[k] < count ? first_of[k] : SIZE_MAX;
        return CUDA_ERROR_INVALID_VALUE;
    }
    const uint64_t number = to_number(stream);
    Lines batch;
    std::vector<std::pair<size_t, size_t>> pageable;  // copies, and their attributes
    for (size_t i = 0, k = 0; i < count; ++i) {
        while (k + 1 < attribute_count && first_of[k + 1] <= i) ++k;
        failed = i;
        if (!dsts[i] || !srcs[i]) return CUDA_ERROR_INVALID_VALUE;
        if (reachable(*session, dsts[i], sizes[i], number, flags, false) && reachable(*session, srcs[i], sizes[i], number, flags, true))
            batch.add(dsts[i], srcs[i], sizes[i], attrs[k], k);
        else
            pageable.push_back({i, k});
        if (batch.targets.size() < entries_at_once) continue;
        failed = SIZE_MAX;
        if (const CUresult result = batch.send(number, flags); result != CUDA_SUCCESS) return result;
    }
    failed = SIZE_MAX;
    if (const CUresult result = batch.send(number, flags); result != CUDA_SUCCESS) return result;
    for (const auto& [i, k] : pageable) {
        failed = i;
        const bool reads_here = !reachable(*session, srcs[i], sizes[i], number, flags, true);
        if (reads_here) {
            const CUresult result = before_reading(attrs[k].srcAccessOrder, number, flags);
            if (result != CUDA_SUCCESS) return result;
        }
        if (const CUresult result = impl_cuMemcpyAsync(flags, dsts[i], srcs[i], sizes[i], stream); result != CUDA_SUCCESS)
            return result;
    }
    return CUDA_SUCCESS;
}

// Bytes of an array's elements, 0 when it has none that could be copied through linear memory.
CUresult element_of(CUarray array, uint64_t* bytes) {
    cuArray3DGetDescriptor_v2_args args{};
    cuArray3DGetDescriptor_v2_res res{};
    args.hArray = to_number(array);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result != CUDA_SUCCESS) return result;
    const auto layout = rpc::element_layout(res.pArrayDescriptor.Format, res.pArrayDescriptor.NumChannels);
    *bytes = layout.side == 1 ? layout.bytes : 0;
    return CUDA_SUCCESS;
}

bool operand_reachable(Session& session, const CUmemcpy3DOperand& operand, const CUextent3D& extent, uint64_t element,
                       uint64_t stream, uint32_t flags, bool read_only) {
    if (operand.type == CU_MEMCPY_OPERAND_TYPE_ARRAY) return true;
    rpc::CopyRange range;
    return rpc::touched(rpc::end_of(operand, extent, element), {extent.width * element, extent.height, extent.depth}, &range) &&
           reachable(session, range.address, range.bytes, stream, flags, read_only);
}

bool valid(const CUmemcpy3DOperand& operand, const CUextent3D& extent) {
    if (operand.type == CU_MEMCPY_OPERAND_TYPE_ARRAY) return operand.op.array.array;
    const auto& memory = operand.op.ptr;
    return operand.type == CU_MEMCPY_OPERAND_TYPE_POINTER && memory.ptr &&
           (!memory.rowLength || memory.rowLength >= extent.width) && (!memory.layerHeight || memory.layerHeight >= extent.height);
}

// Copies of boxes whose ends the worker can reach.
CUresult send(std::vector<CUDA_MEMCPY3D_BATCH_OP>* batch, uint64_t stream, uint32_t flags) {
    if (batch->empty()) return CUDA_SUCCESS;
    cuMemcpy3DBatchAsync_v2_args args{};
    cuMemcpy3DBatchAsync_v2_res res{};
    args.numOps = batch->size();
    args.opList = blob_of(batch->data(), batch->size());
    args.hStream = stream;
    ReplyGuard guard;
    const CUresult result = call(args, res, {flags});
    batch->clear();
    return result;
}

CUresult boxes(size_t count, const CUDA_MEMCPY3D_BATCH_OP* operations, unsigned long long batch_flags, CUstream stream,
               uint32_t flags, size_t& failed) {
    if (!operations || !count || batch_flags || legacy_stream(stream, flags)) {
        failed = SIZE_MAX;
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    const uint64_t number = to_number(stream);
    std::vector<CUDA_MEMCPY3D_BATCH_OP> batch;
    std::vector<std::pair<size_t, uint64_t>> pageable;  // operations, and their elements' bytes
    for (size_t i = 0; i < count; ++i) {
        const CUDA_MEMCPY3D_BATCH_OP& operation = operations[i];
        const CUextent3D& extent = operation.extent;
        failed = i;
        if (!valid_order(operation.srcAccessOrder) || !extent.width || !extent.height || !extent.depth ||
            !valid(operation.src, extent) || !valid(operation.dst, extent))
            return CUDA_ERROR_INVALID_VALUE;
        const bool from_array = operation.src.type == CU_MEMCPY_OPERAND_TYPE_ARRAY;
        const bool to_array = operation.dst.type == CU_MEMCPY_OPERAND_TYPE_ARRAY;
        uint64_t element = 1;
        if (from_array != to_array) {
            const CUresult result = element_of(from_array ? operation.src.op.array.array : operation.dst.op.array.array, &element);
            if (result != CUDA_SUCCESS) return result;
        }
        if (!element) return unsupported("cuMemcpy3DBatchAsync", "memory and arrays of blocks or planes");
        if (operand_reachable(*session, operation.src, extent, element, number, flags, true) &&
            operand_reachable(*session, operation.dst, extent, element, number, flags, false))
            batch.push_back(operation);
        else
            pageable.push_back({i, element});
        if (batch.size() < entries_at_once) continue;
        failed = SIZE_MAX;
        if (const CUresult result = send(&batch, number, flags); result != CUDA_SUCCESS) return result;
    }
    failed = SIZE_MAX;
    if (const CUresult result = send(&batch, number, flags); result != CUDA_SUCCESS) return result;
    for (const auto& [i, element] : pageable) {
        const CUDA_MEMCPY3D_BATCH_OP& operation = operations[i];
        failed = i;
        if (!operand_reachable(*session, operation.src, operation.extent, element, number, flags, true)) {
            const CUresult result = before_reading(operation.srcAccessOrder, number, flags);
            if (result != CUDA_SUCCESS) return result;
        }
        const CUresult result = copy_3d(rpc::fields_of(operation, element), rpc::CopyForm::ThreeD, number, flags, false);
        if (result != CUDA_SUCCESS) return result;
    }
    return CUDA_SUCCESS;
}

}  // namespace

CUresult impl_cuMemcpyBatchAsync(uint32_t call_flags, CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                                 CUmemcpyAttributes* attrs, size_t* attrsIdxs, size_t numAttrs, size_t* failIdx,
                                 CUstream hStream) {
    size_t failed = SIZE_MAX;  // the call as a whole
    const CUresult result = lines(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, hStream, call_flags, failed);
    if (result != CUDA_SUCCESS && failIdx) *failIdx = failed;
    return result;
}

CUresult impl_cuMemcpyBatchAsync_v2(uint32_t call_flags, CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                                    CUmemcpyAttributes* attrs, size_t* attrsIdxs, size_t numAttrs, CUstream hStream) {
    // Looked at before anything else, unlike by the first version.
    if (attrs && numAttrs && !valid_order(attrs[0].srcAccessOrder)) return CUDA_ERROR_INVALID_VALUE;
    size_t failed;
    return lines(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, hStream, call_flags, failed);
}

CUresult impl_cuMemcpy3DBatchAsync(uint32_t call_flags, size_t numOps, CUDA_MEMCPY3D_BATCH_OP* opList, size_t* failIdx,
                                   unsigned long long flags, CUstream hStream) {
    size_t failed = SIZE_MAX;  // the call as a whole
    const CUresult result = boxes(numOps, opList, flags, hStream, call_flags, failed);
    if (result != CUDA_SUCCESS && failIdx) *failIdx = failed;
    return result;
}

CUresult impl_cuMemcpy3DBatchAsync_v2(uint32_t call_flags, size_t numOps, CUDA_MEMCPY3D_BATCH_OP* opList,
                                      unsigned long long flags, CUstream hStream) {
    size_t failed;
    return boxes(numOps, opList, flags, hStream, call_flags, failed);
}

CUresult impl_cuMemBatchDecompressAsync(uint32_t call_flags, CUmemDecompressParams* paramsArray, size_t count,
                                        unsigned int flags, size_t* errorIndex, CUstream stream) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (errorIndex) *errorIndex = SIZE_MAX;
    CUdevice device = 0;
    int algorithms = 0;
    contexts::current_device(&device);
    if (const CUresult result = devices::attribute(&algorithms, CU_DEVICE_ATTRIBUTE_MEM_DECOMPRESS_ALGORITHM_MASK, device);
        result != CUDA_SUCCESS)
        return result;
    if (!algorithms) return CUDA_ERROR_NOT_SUPPORTED;
    if (!paramsArray || count > rpc::max_blob_bytes / sizeof *paramsArray) return CUDA_ERROR_INVALID_VALUE;
    // The memory must be the device's: of the application's own the driver's answer would be about other memory.
    for (size_t i = 0; i < count; ++i) {
        const uint64_t places[] = {reinterpret_cast<uint64_t>(paramsArray[i].src), reinterpret_cast<uint64_t>(paramsArray[i].dst)};
        for (uint64_t place : places) {
            if (place_of(*session, place, 1) == Place::Device) continue;
            if (errorIndex) *errorIndex = i;
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    cuMemBatchDecompressAsync_args args{};
    cuMemBatchDecompressAsync_res res{};
    args.paramsArray = blob_of(paramsArray, count);
    args.count = count;
    args.flags = flags;
    args.stream = to_number(stream);
    ReplyGuard guard;
    const CUresult result = call(args, res, {call_flags});
    if (result != CUDA_SUCCESS && errorIndex) *errorIndex = res.failed;
    return result;
}

}  // namespace cricket::client
