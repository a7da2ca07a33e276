// SPDX-License-Identifier: MIT
#include "client/jit_options.h"

#include <algorithm>
#include <cstring>

#include "client/call.h"
#include "client/log.h"

namespace cricket::client {
namespace {

// Options whose value points at something of this process other than a log buffer, or counts such things.
bool holds_addresses(CUjit_option option) {
    switch (option) {
        case CU_JIT_GLOBAL_SYMBOL_NAMES:
        case CU_JIT_GLOBAL_SYMBOL_ADDRESSES:
        case CU_JIT_GLOBAL_SYMBOL_COUNT:
        case CU_JIT_REFERENCED_KERNEL_NAMES:
        case CU_JIT_REFERENCED_KERNEL_COUNT:
        case CU_JIT_REFERENCED_VARIABLE_NAMES:
        case CU_JIT_REFERENCED_VARIABLE_COUNT:
            return true;
        default:
            return false;
    }
}

bool is_output(CUjit_option option) {
    return option == CU_JIT_THREADS_PER_BLOCK || option == CU_JIT_WALL_TIME ||
           option == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || option == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES;
}

// The server keeps no more of a log (server/serve_module.cpp), however large the caller's buffer is.
constexpr uint32_t longest_log = 1u << 20;

uint32_t low_half(const void* value) {
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(value));
}

}  // namespace

CUresult JitOptions::read(const char* function, unsigned count, const CUjit_option* options, void** values) {
    if (!count) return CUDA_SUCCESS;
    if (!options || !values || count > max_options) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; ++i) {
        CUjit_option option = options[i];
        if (option < 0 || option >= CU_JIT_NUM_OPTIONS) return CUDA_ERROR_INVALID_VALUE;
        if (holds_addresses(option)) return unsupported(function, "JIT options that name symbols");
        codes_[i] = static_cast<uint32_t>(option);
        values_[i] = reinterpret_cast<uint64_t>(values[i]);
        switch (option) {
            case CU_JIT_MAX_REGISTERS:
                if (!low_half(values[i])) return CUDA_ERROR_INVALID_VALUE;
                break;
            case CU_JIT_INFO_LOG_BUFFER:
                info_.text = static_cast<char*>(values[i]);
                values_[i] = info_.text != nullptr;
                break;
            case CU_JIT_ERROR_LOG_BUFFER:
                error_.text = static_cast<char*>(values[i]);
                values_[i] = error_.text != nullptr;
                break;
            case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
                info_.bytes = low_half(values[i]);
                break;
            case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
                error_.bytes = low_half(values[i]);
                break;
            default:
                break;
        }
    }
    count_ = count;
    options_ = options;
    targets_ = values;
    return CUDA_SUCCESS;
}

rpc::Blob JitOptions::codes_blob() const {
    return {count_ ? codes_ : nullptr, static_cast<uint32_t>(count_ * sizeof codes_[0]), count_ > 0, false};
}

rpc::Blob JitOptions::values_blob() const {
    return {count_ ? values_ : nullptr, static_cast<uint32_t>(count_ * sizeof values_[0]), count_ > 0, false};
}

uint64_t JitOptions::reply_bytes() const {
    return 256 + count_ * sizeof values_[0] + (info_.text ? std::min(info_.bytes, longest_log) : 0) +
           (error_.text ? std::min(error_.bytes, longest_log) : 0);
}

void JitOptions::write_back(const rpc::Blob& values, const rpc::Blob& info_log, const rpc::Blob& error_log) {
    if (values.size == count_ * sizeof values_[0])
        for (unsigned i = 0; i < count_; ++i)
            if (is_output(options_[i]))
                std::memcpy(&targets_[i], static_cast<const std::byte*>(values.data) + i * sizeof values_[0],
                            sizeof values_[0]);
    info_.write(info_log);
    error_.write(error_log);
}

void JitOptions::LogBuffer::write(const rpc::Blob& log) const {
    if (!text || !bytes) return;
    uint32_t length = std::min(log.size, bytes - 1);
    if (length) std::memcpy(text, log.data, length);
    text[length] = 0;
}

}  // namespace cricket::client
