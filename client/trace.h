// SPDX-License-Identifier: MIT
// CRICKET_TRACE=1: every call of the application with its arguments and result, one line each, to stderr or
// to the file named by CRICKET_TRACE_FILE. Runs inside somebody else's process: no allocation, no stdio, no
// descriptor kept between two lines (a fork or a closefrom() of the application cannot hurt), errno
// preserved.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace cricket::client {

// 0: off; 1: on; 2: the environment was not read yet.
extern std::atomic<uint32_t> trace_state;
uint64_t trace_begin_slow();

// Begins a traced call: nanoseconds of the monotonic clock, 0 when tracing is off.
inline uint64_t trace_begin() {
    if (trace_state.load(std::memory_order_relaxed) == 0) [[likely]]
        return 0;
    return trace_begin_slow();
}

// One line; the destructor writes it with a single write(2). What does not fit is cut and marked with "...".
class TraceLine {
  public:
    TraceLine(const char* function, uint64_t began);
    ~TraceLine();
    TraceLine(const TraceLine&) = delete;
    TraceLine& operator=(const TraceLine&) = delete;

    template <class T>
    void argument(const char* name, const T& value) {
        label(name);
        show(value);
    }
    void argument_text(const char* name, const char* text) {
        label(name);
        show_text(text);
    }
    void result(CUresult status);
    // After result(): what a successful call brought back.
    void output(const char* name, const char* text) {
        if (!succeeded_ || !text) return;
        label(name);
        show_text(text);
    }
    template <class T>
    void output_at(const char* name, const T* value) {
        if (!succeeded_ || !value) return;
        label(name);
        if constexpr (std::is_same_v<T, const char*>) {
            show_text(*value);
        } else {
            show(*value);
        }
    }
    void output_at(const char*, const void*) {}

  private:
    template <class T>
    void show(const T& value) {
        if constexpr (std::is_pointer_v<T>) {
            show_hex(reinterpret_cast<uint64_t>(value));
        } else if constexpr (std::is_enum_v<T>) {
            show_signed(static_cast<int64_t>(value));
        } else if constexpr (std::is_floating_point_v<T>) {
            show_float(static_cast<double>(value));
        } else if constexpr (std::is_same_v<T, unsigned long long>) {
            show_hex(value);  // CUdeviceptr and the handles that are integers
        } else if constexpr (std::is_signed_v<T>) {
            show_signed(value);
        } else if constexpr (std::is_unsigned_v<T>) {
            show_unsigned(value);
        } else {
            show_bytes(&value, sizeof value);
        }
    }
    void label(const char* name);
    void put(const char* text);
    void put(char c);
    void show_text(const char* text);
    void show_hex(uint64_t value);
    void show_signed(int64_t value);
    void show_unsigned(uint64_t value);
    void show_float(double value);
    void show_bytes(const void* data, size_t size);

    static constexpr size_t tail_bytes = 256;  // kept free of arguments, for the result and what comes back
    char buffer_[2048];
    size_t used_ = 0;
    size_t limit_ = sizeof buffer_ - tail_bytes;
    uint64_t began_;
    int errno_;
    bool first_ = true;
    bool cut_ = false;
    bool has_result_ = false;
    bool succeeded_ = false;
    bool has_output_ = false;
};

}  // namespace cricket::client
