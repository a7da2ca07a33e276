// SPDX-License-Identifier: MIT
// Kernel launches: posted, with the parameters packed as the kernel wants them.
#include "calls.h"
#include "client/contexts.h"
#include "client/packed_parameters.h"
#include "client/reply_guard.h"
#include "cricket/wire.h"
#include "custom.h"

namespace cricket::client {
namespace {

// What the driver would refuse at once, whatever the kernel.
template <class Args>
CUresult check(const Args& args) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!current_context()) return need_context();
    if (!args.f) return CUDA_ERROR_INVALID_HANDLE;
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
    cuLaunchKernel_args args{to_number(f), gridDimX,  gridDimY,       gridDimZ,
                             blockDimX,        blockDimY, blockDimZ,      sharedMemBytes,
                             to_number(hStream), {}};
    CUresult result = check(args);
    PackedParameters packed;
    if (result == CUDA_SUCCESS) result = packed.pack(args.f, kernelParams, extra);
    if (result != CUDA_SUCCESS) return result;
    args.params = packed.blob;
    return post(args, {call_flags});
}

CUresult impl_cuLaunchCooperativeKernel(uint32_t call_flags, CUfunction f, unsigned int gridDimX,
                                        unsigned int gridDimY, unsigned int gridDimZ, unsigned int blockDimX,
                                        unsigned int blockDimY, unsigned int blockDimZ, unsigned int sharedMemBytes,
                                        CUstream hStream, void** kernelParams) {
    cuLaunchCooperativeKernel_args args{to_number(f), gridDimX,  gridDimY,  gridDimZ,
                                        blockDimX,        blockDimY, blockDimZ, sharedMemBytes,
                                        to_number(hStream), {}};
    CUresult result = check(args);
    PackedParameters packed;
    if (result == CUDA_SUCCESS) result = packed.pack(args.f, kernelParams, nullptr);
    if (result != CUDA_SUCCESS) return result;
    args.params = packed.blob;
    return post(args, {call_flags});
}

CUresult impl_cuLaunchKernelEx(uint32_t call_flags, const CUlaunchConfig* config, CUfunction f, void** kernelParams,
                               void** extra) {
    if (!config || (config->numAttrs && !config->attrs) || config->numAttrs > 64) return CUDA_ERROR_INVALID_VALUE;
    cuLaunchKernelEx_args args{to_number(f),       config->gridDimX,  config->gridDimY,  config->gridDimZ,
                               config->blockDimX,      config->blockDimY, config->blockDimZ, config->sharedMemBytes,
                               to_number(config->hStream), {}, {}};
    CUresult result = check(args);
    PackedParameters packed;
    if (result == CUDA_SUCCESS) result = packed.pack(args.f, kernelParams, extra);
    if (result != CUDA_SUCCESS) return result;
    args.attributes = {config->attrs, static_cast<uint32_t>(config->numAttrs * sizeof(CUlaunchAttribute)), true, false};
    args.params = packed.blob;
    for (unsigned i = 0; i < config->numAttrs; ++i) {
        if (config->attrs[i].id != CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE) continue;
        cuLaunchKernelEx_res res{};
        ReplyGuard guard;
        result = call(args, res, {call_flags | wire::answer_at_once});
        if (result == CUDA_SUCCESS)
            config->attrs[i].value.deviceUpdatableKernelNode.devNode = from_number<CUgraphDeviceNode>(res.device_node);
        return result;
    }
    return post(args, {call_flags});
}

}  // namespace cricket::client
