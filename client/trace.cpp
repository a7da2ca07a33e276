// SPDX-License-Identifier: MIT
// The trace's formatting by hand: stdio may allocate and take locks, which the application may hold at this
// moment.
#include "client/trace.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "client/log.h"
#include "client/whole_io.h"
#include "result_names.h"

namespace cricket::client {

std::atomic<uint32_t> trace_state{2};

namespace {

char trace_path[PATH_MAX];  // empty: stderr; written before trace_state becomes 1

std::atomic<bool> said_no_file{false};

uint64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

// Two threads may do this at once; they write the same bytes.
uint32_t read_environment() {
    const char* wanted = std::getenv("CRICKET_TRACE");
    const bool on = wanted && *wanted && std::strcmp(wanted, "0") != 0;
    const char* path = std::getenv("CRICKET_TRACE_FILE");
    if (on && path && std::strlen(path) < sizeof trace_path)
        std::memcpy(trace_path, path, std::strlen(path) + 1);
    else if (on && path)
        log(LogLevel::Warn, "CRICKET_TRACE_FILE is too long, so the trace goes to stderr: %.100s...", path);
    trace_state.store(on, std::memory_order_release);
    return on;
}

}  // namespace

uint64_t trace_begin_slow() {
    const int saved = errno;
    uint32_t state = trace_state.load(std::memory_order_acquire);
    if (state == 2) state = read_environment();
    errno = saved;
    return state ? now() : 0;
}

TraceLine::TraceLine(const char* function, uint64_t began) : began_(began), errno_(errno) {
    put(function);
    put('(');
}

TraceLine::~TraceLine() {
    const uint64_t elapsed = now() - began_;
    limit_ = sizeof buffer_ - 32;
    if (has_output_) put(']');
    limit_ = sizeof buffer_;
    put(" <");
    show_unsigned(elapsed / 1000);
    put('.');
    put(static_cast<char>('0' + elapsed / 100 % 10));
    put(">\n");
    int fd = STDERR_FILENO;
    if (trace_path[0]) fd = open(trace_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) log_once(said_no_file, LogLevel::Error, "nothing is traced, CRICKET_TRACE_FILE=%s: %s", trace_path, std::strerror(errno));
    if (fd >= 0) write_whole(fd, buffer_, used_);
    if (trace_path[0] && fd >= 0) close(fd);
    errno = errno_;
}

void TraceLine::result(CUresult status) {
    limit_ = sizeof buffer_ - 64;
    cut_ = false;
    put(") = ");
    if (const char* name = result_name(status)) {
        put(name);
    } else {
        show_signed(status);
    }
    has_result_ = true;
    succeeded_ = status == CUDA_SUCCESS;
    first_ = true;
}

void TraceLine::label(const char* name) {
    if (has_result_ && first_) {
        put(" [");
        has_output_ = true;
    } else if (!first_) {
        put(", ");
    }
    first_ = false;
    put(name);
    put('=');
}

void TraceLine::put(char c) {
    if (used_ < limit_) {
        buffer_[used_++] = c;
    } else if (!cut_) {
        cut_ = true;
        std::memcpy(buffer_ + used_ - 3, "...", 3);
    }
}

void TraceLine::put(const char* text) {
    while (*text) put(*text++);
}

void TraceLine::show_text(const char* text) {
    if (!text) {
        put("NULL");
        return;
    }
    put('"');
    for (size_t i = 0; text[i] && i < 200; ++i) {
        const char c = text[i];
        if (c == '"' || c == '\\') put('\\');
        put(c >= ' ' && c < 127 ? c : '?');
    }
    put('"');
}

void TraceLine::show_hex(uint64_t value) {
    put("0x");
    int shift = 60;
    while (shift > 0 && !(value >> shift)) shift -= 4;
    for (; shift >= 0; shift -= 4) put("0123456789abcdef"[value >> shift & 15]);
}

void TraceLine::show_unsigned(uint64_t value) {
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = static_cast<char>('0' + value % 10);
        value /= 10;
    } while (value);
    while (count) put(digits[--count]);
}

void TraceLine::show_signed(int64_t value) {
    if (value < 0) put('-');
    show_unsigned(value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value));
}

void TraceLine::show_float(double value) {
    if (!(value > -1e15 && value < 1e15)) {
        put(value != value ? "nan" : value > 0 ? "huge" : "-huge");
        return;
    }
    if (value < 0) {
        put('-');
        value = -value;
    }
    const auto millionths = static_cast<uint64_t>(value * 1e6 + 0.5);
    show_unsigned(millionths / 1'000'000);
    put('.');
    for (uint64_t unit = 100'000; unit; unit /= 10) put(static_cast<char>('0' + millionths / unit % 10));
}

void TraceLine::show_bytes(const void* data, size_t size) {
    put('{');
    for (size_t i = 0; i < size && i < 16; ++i) {
        const unsigned byte = static_cast<const unsigned char*>(data)[i];
        put("0123456789abcdef"[byte >> 4]);
        put("0123456789abcdef"[byte & 15]);
    }
    put(size > 16 ? "...}" : "}");
}

}  // namespace cricket::client
