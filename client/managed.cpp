// SPDX-License-Identifier: MIT
// Managed memory: memory of the memfd that the worker maps and registers, at the same address on both sides and in kernels.
#include <cstring>

#include "client/contexts.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "custom.h"

namespace cricket::client {

CUresult impl_cuMemAllocManaged(CUdeviceptr* dptr, size_t bytesize, unsigned int flags) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (!dptr || bytesize == 0 || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)) return CUDA_ERROR_INVALID_VALUE;
    if (!session->ring()) return unsupported("cuMemAllocManaged", "a plain transport shares no memory");
    void* memory = session->host_memory().allocate(bytesize);
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    cuMemAllocManaged_args args{};
    cuMemAllocManaged_res res{};
    args.bytesize = bytesize;
    args.flags = flags;
    args.address = reinterpret_cast<uint64_t>(memory);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS)
        *dptr = args.address;
    else
        session->host_memory().free(memory);
    return result;
}

// Managed memory goes back to the memfd when the worker has let go of it.
CUresult impl_cuMemFree_v2(CUdeviceptr dptr) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuMemFree_v2_args args{};
    cuMemFree_v2_res res{};
    args.dptr = dptr;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    Session* session = Session::get();
    if (result == CUDA_SUCCESS && session && session->ring() && dptr - wire::host_base < wire::host_span)
        session->host_memory().free(reinterpret_cast<void*>(dptr));
    return result;
}

// The ABI of CUDA before 3.2: its addresses have 32 bits, so no memory of ours is ever meant.
CUresult impl_cuMemFree(CUdeviceptr_v1 dptr) {
    if (!initialized()) return Session::absent();
    if (current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    return dptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult impl_cuMemGetAddressRange(CUdeviceptr_v1* pbase, unsigned int* psize, CUdeviceptr_v1) {
    if (!pbase && !psize) return CUDA_SUCCESS;
    return initialized() ? CUDA_ERROR_INVALID_CONTEXT : Session::absent();
}

CUresult impl_cuMemGetAddressRange_v2(CUdeviceptr* pbase, size_t* psize, CUdeviceptr dptr) {
    if (!pbase && !psize) return CUDA_SUCCESS;
    cuMemGetAddressRange_v2_args args{};
    cuMemGetAddressRange_v2_res res{};
    args.has_pbase = pbase != nullptr;
    args.has_psize = psize != nullptr;
    args.dptr = dptr;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result != CUDA_SUCCESS) return result;
    if (pbase) *pbase = res.pbase;
    if (psize) *psize = res.psize;
    return CUDA_SUCCESS;
}

CUresult impl_cuMemRangeGetAttributes(void** data, size_t* dataSizes, CUmem_range_attribute* attributes,
                                      size_t numAttributes, CUdeviceptr devPtr, size_t count) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (!data || !dataSizes || !attributes || numAttributes == 0 || numAttributes > 1024) return CUDA_ERROR_INVALID_VALUE;
    cuMemRangeGetAttributes_args args{};
    cuMemRangeGetAttributes_res res{};
    args.dataSizes = {dataSizes, static_cast<uint32_t>(numAttributes * sizeof *dataSizes), true, false};
    args.attributes = {attributes, static_cast<uint32_t>(numAttributes * sizeof *attributes), true, false};
    args.numAttributes = numAttributes;
    args.devPtr = devPtr;
    args.count = count;
    uint64_t total = 0;
    for (size_t i = 0; i < numAttributes; ++i) {
        if (!data[i] || dataSizes[i] > 1u << 16) return CUDA_ERROR_INVALID_VALUE;
        total += (dataSizes[i] + 3) / 4 * 4;
    }
    ReplyGuard guard;
    const CUresult result = call(args, res, {.reply_bytes = total});
    if (result != CUDA_SUCCESS) return result;
    if (res.values.size != total) return CUDA_ERROR_UNKNOWN;
    const char* from = static_cast<const char*>(res.values.data);
    for (size_t i = 0; i < numAttributes; ++i) {
        std::memcpy(data[i], from, dataSizes[i]);
        from += (dataSizes[i] + 3) / 4 * 4;
    }
    return CUDA_SUCCESS;
}

}  // namespace cricket::client
