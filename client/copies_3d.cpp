// SPDX-License-Identifier: MIT
// The functions of CUDA that copy boxes. Those of one-dimensional arrays are boxes of one row.
#include "client/copy_3d.h"
#include "custom.h"
#include "messages.h"
#include "stub_support.h"

namespace cricket::client {
namespace {

CUresult flat(const CUDA_MEMCPY2D* copy, rpc::CopyForm form, CUstream stream, uint32_t flags, bool wait) {
    if (!copy) return null_pointer();
    return copy_3d(copy_fields(*copy), form, to_number(stream), flags, wait);
}

CUresult box(const CUDA_MEMCPY3D* copy, CUstream stream, uint32_t flags, bool wait) {
    if (!copy) return null_pointer();
    return copy_3d(rpc::fields_of(*copy), rpc::CopyForm::ThreeD, to_number(stream), flags, wait);
}

CUresult peer(const CUDA_MEMCPY3D_PEER* copy, CUstream stream, uint32_t flags, bool wait) {
    if (!copy) return null_pointer();
    return copy_3d(*copy, rpc::CopyForm::Peer, to_number(stream), flags, wait);
}

rpc::CopyEnd in_array(CUarray array, size_t offset) {
    rpc::CopyEnd end;
    end.type = CU_MEMORYTYPE_ARRAY;
    end.array = array;
    end.x = offset;
    return end;
}

rpc::CopyEnd in_memory(CUmemorytype type, uint64_t address) {
    rpc::CopyEnd end;
    end.type = type;
    end.address = address;
    return end;
}

rpc::CopyEnd in_host(const void* address) { return in_memory(CU_MEMORYTYPE_HOST, reinterpret_cast<uint64_t>(address)); }

CUresult line(const rpc::CopyEnd& to, const rpc::CopyEnd& from, size_t bytes, CUstream stream, uint32_t flags, bool wait) {
    rpc::CopyFields copy{};
    rpc::set_source(&copy, from);
    rpc::set_target(&copy, to);
    copy.WidthInBytes = bytes;
    copy.Height = copy.Depth = 1;
    return copy_3d(copy, rpc::CopyForm::ThreeD, to_number(stream), flags, wait);
}

}  // namespace

CUresult impl_cuMemcpy2D_v2(uint32_t call_flags, const CUDA_MEMCPY2D* pCopy) {
    return flat(pCopy, rpc::CopyForm::TwoD, nullptr, call_flags, true);
}

CUresult impl_cuMemcpy2DUnaligned_v2(uint32_t call_flags, const CUDA_MEMCPY2D* pCopy) {
    return flat(pCopy, rpc::CopyForm::Unaligned, nullptr, call_flags, true);
}

CUresult impl_cuMemcpy2DAsync_v2(uint32_t call_flags, const CUDA_MEMCPY2D* pCopy, CUstream hStream) {
    return flat(pCopy, rpc::CopyForm::TwoD, hStream, call_flags, false);
}

CUresult impl_cuMemcpy3D_v2(uint32_t call_flags, const CUDA_MEMCPY3D* pCopy) { return box(pCopy, nullptr, call_flags, true); }

CUresult impl_cuMemcpy3DAsync_v2(uint32_t call_flags, const CUDA_MEMCPY3D* pCopy, CUstream hStream) {
    return box(pCopy, hStream, call_flags, false);
}

CUresult impl_cuMemcpy3DPeer(uint32_t call_flags, const CUDA_MEMCPY3D_PEER* pCopy) {
    return peer(pCopy, nullptr, call_flags, true);
}

CUresult impl_cuMemcpy3DPeerAsync(uint32_t call_flags, const CUDA_MEMCPY3D_PEER* pCopy, CUstream hStream) {
    return peer(pCopy, hStream, call_flags, false);
}

CUresult impl_cuMemcpyDtoA_v2(uint32_t call_flags, CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice,
                              size_t ByteCount) {
    return line(in_array(dstArray, dstOffset), in_memory(CU_MEMORYTYPE_DEVICE, srcDevice), ByteCount, nullptr, call_flags, true);
}

CUresult impl_cuMemcpyAtoD_v2(uint32_t call_flags, CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset,
                              size_t ByteCount) {
    return line(in_memory(CU_MEMORYTYPE_DEVICE, dstDevice), in_array(srcArray, srcOffset), ByteCount, nullptr, call_flags, true);
}

CUresult impl_cuMemcpyHtoA_v2(uint32_t call_flags, CUarray dstArray, size_t dstOffset, const void* srcHost,
                              size_t ByteCount) {
    return line(in_array(dstArray, dstOffset), in_host(srcHost), ByteCount, nullptr, call_flags, true);
}

CUresult impl_cuMemcpyAtoH_v2(uint32_t call_flags, void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
    return line(in_host(dstHost), in_array(srcArray, srcOffset), ByteCount, nullptr, call_flags, true);
}

CUresult impl_cuMemcpyAtoA_v2(uint32_t call_flags, CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset,
                              size_t ByteCount) {
    return line(in_array(dstArray, dstOffset), in_array(srcArray, srcOffset), ByteCount, nullptr, call_flags, true);
}

CUresult impl_cuMemcpyHtoAAsync_v2(uint32_t call_flags, CUarray dstArray, size_t dstOffset, const void* srcHost,
                                   size_t ByteCount, CUstream hStream) {
    return line(in_array(dstArray, dstOffset), in_host(srcHost), ByteCount, hStream, call_flags, false);
}

CUresult impl_cuMemcpyAtoHAsync_v2(uint32_t call_flags, void* dstHost, CUarray srcArray, size_t srcOffset,
                                   size_t ByteCount, CUstream hStream) {
    return line(in_host(dstHost), in_array(srcArray, srcOffset), ByteCount, hStream, call_flags, false);
}

}  // namespace cricket::client
