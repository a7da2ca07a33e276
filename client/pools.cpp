// SPDX-License-Identifier: MIT
// Stream-ordered allocation: an allocation is answered by the server, which gives the address; a free is posted when the
// pointer is known to be one of a pool, so that the application does not wait. Attributes and descriptors of pools.
#include <cstring>
#include <mutex>
#include <unordered_set>

#include "client/contexts.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "client/shared.h"
#include "custom.h"
#include "stub_support.h"

namespace cricket::client {
namespace {

struct Known {
    std::mutex mutex;
    std::unordered_set<uint64_t> pointers;
};
Known& known() {
    static auto* all = new Known;  // never destroyed: see Session::start
    return *all;
}

template <class Args, class Res>
CUresult allocate(CUdeviceptr* dptr, Args& args, Res& res, uint32_t flags) {
    ReplyGuard guard;
    const CUresult result = call(args, res, {flags});
    if (result != CUDA_SUCCESS) return result;
    *dptr = res.dptr;
    if (res.pooled) {
        std::lock_guard lock(known().mutex);
        known().pointers.insert(res.dptr);
    }
    return CUDA_SUCCESS;
}

// Bytes of an attribute's value; 0: unknown.
size_t width_of(CUmemPool_attribute attribute) {
    if (attribute >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES && attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES)
        return sizeof(int);
    return attribute >= CU_MEMPOOL_ATTR_RELEASE_THRESHOLD && attribute <= CU_MEMPOOL_ATTR_USED_MEM_HIGH ? sizeof(cuuint64_t) : 0;
}

}  // namespace

CUresult impl_cuMemAllocAsync(uint32_t call_flags, CUdeviceptr* dptr, size_t bytesize, CUstream hStream) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!current_context() && !to_number(hStream)) return CUDA_ERROR_INVALID_CONTEXT;
    if (!dptr) return CUDA_ERROR_INVALID_VALUE;
    if (bytesize == 0) {
        *dptr = 0;
        return CUDA_SUCCESS;
    }
    cuMemAllocAsync_args args{};
    cuMemAllocAsync_res res{};
    args.bytesize = bytesize;
    args.hStream = to_number(hStream);
    return allocate(dptr, args, res, call_flags);
}

CUresult impl_cuMemAllocFromPoolAsync(uint32_t call_flags, CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool,
                                      CUstream hStream) {
    if (!dptr || bytesize == 0) return null_pointer();
    cuMemAllocFromPoolAsync_args args{};
    cuMemAllocFromPoolAsync_res res{};
    args.bytesize = bytesize;
    args.pool = to_number(pool);
    args.hStream = to_number(hStream);
    return allocate(dptr, args, res, call_flags);
}

CUresult impl_cuMemFreeAsync(uint32_t call_flags, CUdeviceptr dptr, CUstream hStream) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuMemFreeAsync_args args{};
    args.dptr = dptr;
    args.hStream = to_number(hStream);
    bool sure = false;
    if (current_context()) {
        std::lock_guard lock(known().mutex);
        sure = known().pointers.erase(dptr) != 0;
    }
    if (sure) return post(args, {call_flags});
    cuMemFreeAsync_res res{};
    ReplyGuard guard;
    return call(args, res, {call_flags});
}

CUresult impl_cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    const size_t width = width_of(attr);
    if (!value || !width) return CUDA_ERROR_INVALID_VALUE;
    cuMemPoolSetAttribute_args args{};
    cuMemPoolSetAttribute_res res{};
    args.pool = to_number(pool);
    args.attr = attr;
    std::memcpy(&args.data, value, width);
    ReplyGuard guard;
    return call(args, res);
}

CUresult impl_cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    const size_t width = width_of(attr);
    if (!value || !width) return CUDA_ERROR_INVALID_VALUE;
    cuMemPoolGetAttribute_args args{};
    cuMemPoolGetAttribute_res res{};
    args.pool = to_number(pool);
    args.attr = attr;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) std::memcpy(value, &res.data, width);
    return result;
}

CUresult impl_cuMemPoolExportToShareableHandle(void* handle_out, CUmemoryPool pool, CUmemAllocationHandleType handleType,
                                               unsigned long long flags) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!handle_out) return CUDA_ERROR_INVALID_VALUE;
    cuMemPoolExportToShareableHandle_args args{};
    cuMemPoolExportToShareableHandle_res res{};
    args.pool = to_number(pool);
    args.handleType = handleType;
    args.flags = flags;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    return result == CUDA_SUCCESS ? give_descriptor(handle_out, res.shared) : result;
}

CUresult impl_cuMemPoolImportFromShareableHandle(CUmemoryPool* pool_out, void* handle, CUmemAllocationHandleType handleType,
                                                 unsigned long long flags) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!pool_out || handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_INVALID_VALUE;
    SharedHandle shared;
    if (!read_descriptor("cuMemPoolImportFromShareableHandle", handle, &shared)) return CUDA_ERROR_INVALID_VALUE;
    cuMemPoolImportFromShareableHandle_args args{};
    cuMemPoolImportFromShareableHandle_res res{};
    args.handleType = handleType;
    args.flags = flags;
    args.shared = {&shared, sizeof shared, true, false};
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) *pool_out = from_number<CUmemoryPool>(res.pool_out);
    return result;
}

}  // namespace cricket::client
