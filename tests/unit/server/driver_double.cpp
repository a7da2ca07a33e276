// SPDX-License-Identifier: MIT
// As much of a CUDA driver as the supervisor looks at before it believes that there is one.
#include <cstdio>
#include <cstdlib>

extern "C" {

[[gnu::visibility("default")]] int cuInit(unsigned) {
    const char* result = std::getenv("DRIVER_DOUBLE_INIT");
    return result ? std::atoi(result) : 0;
}

[[gnu::visibility("default")]] int cuDriverGetVersion(int* version) {
    *version = 13000;
    return 0;
}

[[gnu::visibility("default")]] int cuDeviceGetCount(int* count) {
    *count = 1;
    return 0;
}

[[gnu::visibility("default")]] int cuDeviceGetName(char* name, int bytes, int) {
    std::snprintf(name, static_cast<size_t>(bytes), "double");
    return 0;
}

[[gnu::visibility("default")]] int cuGetErrorName(int error, const char** name) {
    *name = error == 100 ? "CUDA_ERROR_NO_DEVICE" : nullptr;
    return 0;
}
}
