// SPDX-License-Identifier: MIT
// A kernel's parameters as they cross, of a launch or of a graph's node: packed at their offsets.
#pragma once

#include <cuda.h>
#include <stdlib.h>

#include <cstddef>
#include <cstring>

#include "client/parameter_layout.h"
#include "rpc/values.h"

namespace cricket::client {

class PackedParameters {
  public:
    ~PackedParameters() { ::free(large_); }
    PackedParameters() = default;
    PackedParameters(const PackedParameters&) = delete;

    CUresult pack(uint64_t function, void** params, void** extra) {
        if (params && extra) return CUDA_ERROR_INVALID_VALUE;
        if (extra) return from_extra(extra);
        const ParameterLayout* layout = nullptr;
        if (const CUresult result = parameter_layout(function, &layout); result != CUDA_SUCCESS) return result;
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

}  // namespace cricket::client
