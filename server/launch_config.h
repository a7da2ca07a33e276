// SPDX-License-Identifier: MIT
// A launch configuration out of a message: its stream and the handles inside its attributes become the driver's.
#pragma once

#include <cuda.h>

#include <vector>

#include "call.h"

namespace cricket::server {

// The attributes of a CUlaunchConfig as rpc/spec/launch.spec describes them. CUDA_ERROR_INVALID_VALUE: no whole number of
// them; CUDA_ERROR_INVALID_HANDLE: an event in one is none of the session's.
CUresult launch_attributes(Call& call, const rpc::Blob& bytes, std::vector<CUlaunchAttribute>* attributes);

// `args` has the fields +gridDimX .. +attributes. `attributes` holds what `config` points at.
template <class Args>
CUresult launch_config(Call& call, const Args& args, std::vector<CUlaunchAttribute>* attributes, CUlaunchConfig* config) {
    const CUresult status = launch_attributes(call, args.attributes, attributes);
    if (status != CUDA_SUCCESS) return status;
    *config = {args.gridDimX, args.gridDimY, args.gridDimZ, args.blockDimX, args.blockDimY, args.blockDimZ,
               args.sharedMemBytes, nullptr, attributes->data(), static_cast<unsigned>(attributes->size())};
    return call.stream(args.hStream, &config->hStream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

}  // namespace cricket::server
