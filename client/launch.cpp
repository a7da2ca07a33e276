// SPDX-License-Identifier: MIT
// Kernel launches: posted, with the parameters packed as the kernel wants them. A kernel's parameter layout is asked
// for at its first launch and kept: session numbers are never reused.
#include <stdlib.h>

#include <atomic>
#include <cstring>

#include "client/contexts.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "custom.h"

namespace cricket::client {
namespace {

struct Layout {
    struct Param {
        uint32_t offset, size;
    };
    uint64_t function;
    Layout* next;
    uint32_t count;
    uint32_t bytes;  // of the packed buffer
    Param* params;   // in the same allocation, behind this
};

constexpr unsigned buckets = 1024;
std::atomic<Layout*> layouts[buckets];  // entries are only ever added

std::atomic<Layout*>& bucket(uint64_t function) { return layouts[(function >> 4) % buckets]; }

const Layout* known_layout(uint64_t function) {
    for (Layout* layout = bucket(function).load(std::memory_order_acquire); layout; layout = layout->next)
        if (layout->function == function) return layout;
    return nullptr;
}

CUresult ask_layout(uint64_t function, const Layout** out) {
    cricketParameterLayout_args args{};
    cricketParameterLayout_res res{};
    args.function = function;
    ReplyGuard guard;
    // 32 KiB of parameters are at most 32 K parameters of 16 bytes of description; few kernels have more than 64.
    const CUresult result = call(args, res, {.reply_bytes = 512 * 1024});
    if (result != CUDA_SUCCESS) return result;
    const uint32_t count = res.layout.size / 16;
    auto* layout = static_cast<Layout*>(::malloc(sizeof(Layout) + count * sizeof(Layout::Param)));
    if (!layout) return CUDA_ERROR_OUT_OF_MEMORY;
    layout->params = reinterpret_cast<Layout::Param*>(layout + 1);
    layout->function = function;
    layout->count = count;
    layout->bytes = 0;
    for (uint32_t i = 0; i < count; ++i) {
        uint64_t pair[2];
        std::memcpy(pair, static_cast<const std::byte*>(res.layout.data) + i * sizeof pair, sizeof pair);
        layout->params[i] = {static_cast<uint32_t>(pair[0]), static_cast<uint32_t>(pair[1])};
        const uint32_t end = layout->params[i].offset + layout->params[i].size;
        if (end > layout->bytes) layout->bytes = end;
    }
    auto& head = bucket(function);
    layout->next = head.load();
    while (!head.compare_exchange_weak(layout->next, layout, std::memory_order_release)) {
    }
    *out = layout;
    return CUDA_SUCCESS;
}

// The packed parameters of one launch.
class Packed {
  public:
    ~Packed() { ::free(large_); }
    Packed() = default;
    Packed(const Packed&) = delete;

    CUresult pack(uint64_t function, void** params, void** extra) {
        if (params && extra) return CUDA_ERROR_INVALID_VALUE;
        if (extra) return from_extra(extra);
        const Layout* layout = known_layout(function);
        if (!layout) {
            const CUresult result = ask_layout(function, &layout);
            if (result != CUDA_SUCCESS) return result;
        }
        if (layout->count == 0) return CUDA_SUCCESS;
        if (!params) return CUDA_ERROR_INVALID_VALUE;
        std::byte* buffer = small_;
        if (layout->bytes > sizeof small_) {
            buffer = large_ = static_cast<std::byte*>(::malloc(layout->bytes));
            if (!buffer) return CUDA_ERROR_OUT_OF_MEMORY;
        }
        for (uint32_t i = 0; i < layout->count; ++i) {
            if (!params[i]) return CUDA_ERROR_INVALID_VALUE;
            std::memcpy(buffer + layout->params[i].offset, params[i], layout->params[i].size);
        }
        blob = {buffer, layout->bytes, true, false};
        return CUDA_SUCCESS;
    }

    rpc::Blob blob;

  private:
    CUresult from_extra(void** extra) {
        const void* buffer = nullptr;
        size_t size = 0;
        bool sized = false;
        for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
            if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) {
                buffer = extra[1];
            } else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) {
                std::memcpy(&size, extra[1], sizeof size);
                sized = true;
            } else {
                return CUDA_ERROR_INVALID_VALUE;
            }
        }
        if (!buffer || !sized || size > 64 * 1024) return CUDA_ERROR_INVALID_VALUE;
        blob = {buffer, static_cast<uint32_t>(size), true, false};
        return CUDA_SUCCESS;
    }

    alignas(16) std::byte small_[1024];
    std::byte* large_ = nullptr;
};

// What the driver would refuse at once, whatever the kernel.
template <class Args>
CUresult check(const Args& args) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!args.f) return CUDA_ERROR_INVALID_HANDLE;
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    const uint64_t threads = uint64_t(args.blockDimX) * args.blockDimY * args.blockDimZ;
    const uint64_t blocks = uint64_t(args.gridDimX) * args.gridDimY * args.gridDimZ;
    if (threads == 0 || blocks == 0 || threads > 1024 || args.gridDimY > 65535 || args.gridDimZ > 65535)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

}  // namespace

CUresult impl_cuLaunchKernel(uint32_t call_flags, CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                             unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                             unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                             void** kernelParams, void** extra) {
    cuLaunchKernel_args args{handle_number(f), gridDimX,  gridDimY,       gridDimZ,
                             blockDimX,        blockDimY, blockDimZ,      sharedMemBytes,
                             handle_number(hStream), {}};
    CUresult result = check(args);
    Packed packed;
    if (result == CUDA_SUCCESS) result = packed.pack(args.f, kernelParams, extra);
    if (result != CUDA_SUCCESS) return result;
    args.params = packed.blob;
    return post(args, {call_flags});
}

CUresult impl_cuLaunchCooperativeKernel(uint32_t call_flags, CUfunction f, unsigned int gridDimX,
                                        unsigned int gridDimY, unsigned int gridDimZ, unsigned int blockDimX,
                                        unsigned int blockDimY, unsigned int blockDimZ, unsigned int sharedMemBytes,
                                        CUstream hStream, void** kernelParams) {
    cuLaunchCooperativeKernel_args args{handle_number(f), gridDimX,  gridDimY,  gridDimZ,
                                        blockDimX,        blockDimY, blockDimZ, sharedMemBytes,
                                        handle_number(hStream), {}};
    CUresult result = check(args);
    Packed packed;
    if (result == CUDA_SUCCESS) result = packed.pack(args.f, kernelParams, nullptr);
    if (result != CUDA_SUCCESS) return result;
    args.params = packed.blob;
    return post(args, {call_flags});
}

CUresult impl_cuLaunchKernelEx(uint32_t call_flags, const CUlaunchConfig* config, CUfunction f, void** kernelParams,
                               void** extra) {
    if (!config || (config->numAttrs && !config->attrs) || config->numAttrs > 64) return CUDA_ERROR_INVALID_VALUE;
    cuLaunchKernelEx_args args{handle_number(f),       config->gridDimX,  config->gridDimY,  config->gridDimZ,
                               config->blockDimX,      config->blockDimY, config->blockDimZ, config->sharedMemBytes,
                               handle_number(config->hStream), {}, {}};
    CUresult result = check(args);
    Packed packed;
    if (result == CUDA_SUCCESS) result = packed.pack(args.f, kernelParams, extra);
    if (result != CUDA_SUCCESS) return result;
    args.attributes = {config->attrs, static_cast<uint32_t>(config->numAttrs * sizeof(CUlaunchAttribute)), true, false};
    args.params = packed.blob;
    return post(args, {call_flags});
}

}  // namespace cricket::client
