// SPDX-License-Identifier: MIT
// Memsets and copies on the device that the application does not wait for, unless they touch host memory.
#include "calls.h"
#include "client/contexts.h"
#include "client/places.h"
#include "custom.h"

namespace cricket::client {
namespace {

template <class Args>
CUresult set(Args& args, uint64_t bytes, uint32_t flags) {
    return settle(post(args, {flags}), args.dstDevice, bytes, flags);
}

template <class Args>
CUresult set_line(CUdeviceptr target, uint32_t value, uint64_t count, uint64_t width, uint32_t flags,
                  void (*fill)(Args&, uint32_t)) {
    Args args{};
    args.dstDevice = target;
    args.N = count;
    fill(args, value);
    return set(args, count * width, flags);
}

template <class Args>
CUresult set_rows(CUdeviceptr target, uint64_t pitch, uint64_t width, uint64_t height, uint64_t element, uint32_t flags,
                  void (*fill)(Args&, uint32_t), uint32_t value) {
    Args args{};
    args.dstDevice = target;
    args.dstPitch = pitch;
    args.Width = width;
    args.Height = height;
    fill(args, value);
    return set(args, height ? (height - 1) * pitch + width * element : 0, flags);
}

}  // namespace

CUresult impl_cuMemsetD8_v2(uint32_t call_flags, CUdeviceptr dstDevice, unsigned char uc, size_t N) {
    return set_line<cuMemsetD8_v2_args>(dstDevice, uc, N, 1, call_flags, [](auto& args, uint32_t v) { args.uc = v; });
}
CUresult impl_cuMemsetD16_v2(uint32_t call_flags, CUdeviceptr dstDevice, unsigned short us, size_t N) {
    return set_line<cuMemsetD16_v2_args>(dstDevice, us, N, 2, call_flags, [](auto& args, uint32_t v) { args.us = v; });
}
CUresult impl_cuMemsetD32_v2(uint32_t call_flags, CUdeviceptr dstDevice, unsigned int ui, size_t N) {
    return set_line<cuMemsetD32_v2_args>(dstDevice, ui, N, 4, call_flags, [](auto& args, uint32_t v) { args.ui = v; });
}
CUresult impl_cuMemsetD2D8_v2(uint32_t call_flags, CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width,
                              size_t Height) {
    return set_rows<cuMemsetD2D8_v2_args>(dstDevice, dstPitch, Width, Height, 1, call_flags, [](auto& args, uint32_t v) { args.uc = v; }, uc);
}
CUresult impl_cuMemsetD2D16_v2(uint32_t call_flags, CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width,
                               size_t Height) {
    return set_rows<cuMemsetD2D16_v2_args>(dstDevice, dstPitch, Width, Height, 2, call_flags, [](auto& args, uint32_t v) { args.us = v; }, us);
}
CUresult impl_cuMemsetD2D32_v2(uint32_t call_flags, CUdeviceptr dstDevice, size_t dstPitch, unsigned int ui, size_t Width,
                               size_t Height) {
    return set_rows<cuMemsetD2D32_v2_args>(dstDevice, dstPitch, Width, Height, 4, call_flags, [](auto& args, uint32_t v) { args.ui = v; }, ui);
}

CUresult impl_cuMemcpyDtoD_v2(uint32_t call_flags, CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount) {
    cuMemcpyDtoD_v2_args args{};
    args.dstDevice = dstDevice;
    args.srcDevice = srcDevice;
    args.ByteCount = ByteCount;
    return settle(post(args, {call_flags}), dstDevice, ByteCount, call_flags);
}

}  // namespace cricket::client
