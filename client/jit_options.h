// SPDX-License-Identifier: MIT
// The options of module, library and link calls: (code, value) pairs in which some values are outputs and two
// are buffers of the caller. On the wire: rpc/spec/module.spec.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "rpc/values.h"

namespace cricket::client {

class JitOptions {
  public:
    // Keeps pointers to the caller's arrays until write_back(). CUDA_ERROR_INVALID_VALUE: arrays missing, too
    // many or unknown options; CUDA_ERROR_NOT_SUPPORTED: one that holds host addresses.
    CUresult read(const char* function, unsigned count, const CUjit_option* options, void** values);

    rpc::Blob codes_blob() const;
    rpc::Blob values_blob() const;
    uint64_t reply_bytes() const;  // how long what comes back can be

    // Hands outputs to the caller; also after a failed load, whose error log is the point of it.
    void write_back(const rpc::Blob& values, const rpc::Blob& info_log, const rpc::Blob& error_log);

    static constexpr unsigned max_options = 64;

  private:
    struct LogBuffer {
        char* text = nullptr;
        uint32_t bytes = 0;
        void write(const rpc::Blob& log) const;
    };

    unsigned count_ = 0;
    const CUjit_option* options_ = nullptr;
    void** targets_ = nullptr;
    uint32_t codes_[max_options];
    uint64_t values_[max_options];
    LogBuffer info_, error_;
};

}  // namespace cricket::client
