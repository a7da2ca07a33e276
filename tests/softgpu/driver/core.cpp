// SPDX-License-Identifier: MIT
#include "core.h"

#include <pthread.h>

#include <cstdarg>
#include <cstdio>
#include <new>
#include <stdexcept>

#include "device.h"
#include "memory.h"

namespace softgpu {

namespace {

std::atomic<CUresult> init_state{CUDA_ERROR_NOT_INITIALIZED};
std::atomic<bool> is_forked_child = false;

}  // namespace

void log(const char* format, ...) {
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "softgpu: %s\n", line);
}

CUresult initialized() {
    return init_state.load(std::memory_order_acquire);
}

CUresult result_of_exception() noexcept {
    try {
        throw;
    } catch (const Error& error) {
        return error.code;
    } catch (const std::bad_alloc&) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        log("unexpected: %s", error.what());
        return CUDA_ERROR_UNKNOWN;
    }
}

void initialize_devices();  // device.cpp

}  // namespace softgpu

using namespace softgpu;

CUresult cuInit(unsigned flags) {
    return api_always([&] {
        require(flags == 0);
        static std::mutex mutex;
        std::unique_lock lock(mutex);
        if (init_state == CUDA_SUCCESS) return;
        initialize_devices();
        reserve_regions();
        require(!is_forked_child, CUDA_ERROR_NOT_INITIALIZED);
        // A child of fork() has none of the worker threads; as with the real driver there is no way back.
        static const int registered = pthread_atfork(nullptr, nullptr, [] {
            is_forked_child = init_state == CUDA_SUCCESS;
            init_state = CUDA_ERROR_NOT_INITIALIZED;
        });
        require(registered == 0, CUDA_ERROR_OUT_OF_MEMORY);
        init_state.store(CUDA_SUCCESS, std::memory_order_release);
    });
}

CUresult cuDriverGetVersion(int* version) {
    return api_always([&] {
        require(version);
        *version = CUDA_VERSION;
    });
}
