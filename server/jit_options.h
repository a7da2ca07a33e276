// SPDX-License-Identifier: MIT
// JIT options of module, library and link calls (the client's: client/jit_options.h).
#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "dispatch.h"

namespace cricket::server {

// JIT options as the driver takes them; rpc/spec/module.spec says how they travel.
class JitOptions {
  public:
    JitOptions(const rpc::Blob& codes, const rpc::Blob& values, uint32_t count) {
        if (codes.size != count * sizeof(uint32_t) || values.size != count * sizeof(uint64_t)) return;
        codes_.resize(count);
        values_.resize(count);
        std::vector<uint64_t> numbers(count);
        if (count) {
            std::memcpy(static_cast<void*>(codes_.data()), codes.data, codes.size);
            std::memcpy(numbers.data(), values.data, values.size);
        }
        for (uint32_t i = 0; i < count; ++i) values_[i] = reinterpret_cast<void*>(numbers[i]);
        give_buffer(CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, &info_);
        give_buffer(CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, &error_);
        ok_ = true;
    }
    bool ok() const { return ok_; }
    unsigned count() const { return static_cast<unsigned>(codes_.size()); }
    CUjit_option* codes() { return codes_.data(); }
    void** values() { return values_.data(); }

    template <class Res>
    void give_back(Res& res) {
        give_back(&res.jit_values, &res.info_log, &res.error_log);
    }
    // The same into other fields: what a link's own options say after each of its calls.
    void give_back(rpc::Blob* values, rpc::Blob* info_log, rpc::Blob* error_log) {
        std::vector<uint64_t> numbers(values_.size());
        for (size_t i = 0; i < numbers.size(); ++i) {
            const bool buffer = codes_[i] == CU_JIT_INFO_LOG_BUFFER || codes_[i] == CU_JIT_ERROR_LOG_BUFFER;
            numbers[i] = buffer ? 0 : reinterpret_cast<uint64_t>(values_[i]);
        }
        give_bytes(values, numbers.data(), numbers.size() * sizeof(uint64_t));
        if (!info_.empty()) give_bytes(info_log, info_.data(), strnlen(info_.data(), info_.size() - 1) + 1);
        if (!error_.empty()) give_bytes(error_log, error_.data(), strnlen(error_.data(), error_.size() - 1) + 1);
    }

  private:
    void give_buffer(CUjit_option pointer, CUjit_option size, std::vector<char>* buffer) {
        constexpr uint64_t longest = 1u << 20;
        for (size_t i = 0; i < codes_.size(); ++i)
            if (codes_[i] == size) buffer->resize(std::min<uint64_t>(reinterpret_cast<uint64_t>(values_[i]), longest));
        // A buffer of no bytes, which the driver's own size of an earlier log may be, is a buffer all the same.
        static char none[1];
        for (size_t i = 0; i < codes_.size(); ++i)
            if (codes_[i] == pointer) values_[i] = !buffer->empty() ? buffer->data() : values_[i] ? none : nullptr;
    }
    std::vector<CUjit_option> codes_;
    std::vector<void*> values_;
    std::vector<char> info_, error_;
    bool ok_ = false;
};

}  // namespace cricket::server
