// SPDX-License-Identifier: MIT
#include "client/environment.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "client/log.h"

namespace cricket::client::environment {
namespace {

constexpr std::string_view visible_devices = "CUDA_VISIBLE_DEVICES=";

bool starts_with(const char* text, const char* prefix) { return std::strncmp(text, prefix, std::strlen(prefix)) == 0; }

}  // namespace

size_t collect(char* place, size_t capacity) {
    size_t used = 0;
    const auto put = [&](const char* variable) {
        const size_t bytes = std::strlen(variable) + 1;
        if (bytes > capacity - used) return false;
        std::memcpy(place + used, variable, bytes);
        used += bytes;
        return true;
    };
    // First, so that it has room: without it the program would use devices that it must not.
    if (const char* visible = ::getenv("CUDA_VISIBLE_DEVICES")) {
        const char* variable = visible - visible_devices.size();
        if (!put(variable)) {
            log(LogLevel::Error, "CUDA_VISIBLE_DEVICES is too long to be sent to the server, so no device is visible");
            put(visible_devices.data());
        }
    }
    for (char** variable = environ; variable && *variable; ++variable) {
        // A library to be loaded into every process with CUDA is for this one, which has no driver to load it.
        if (!starts_with(*variable, "CUDA_") || starts_with(*variable, "CUDA_INJECTION")) continue;
        if (starts_with(*variable, visible_devices.data()) || put(*variable)) continue;
        const char* end = std::strchr(*variable, '=');
        log(LogLevel::Warn, "the variable %.*s is not sent to the server: too much of CUDA_*",
            static_cast<int>(end ? end - *variable : 32), *variable);
    }
    return used;
}

uint64_t fingerprint() {
    uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
    for (char** variable = environ; variable && *variable; ++variable) {
        if (!starts_with(*variable, "CUDA_")) continue;
        for (const char* c = *variable;; ++c) {
            hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3;
            if (*c == 0) break;
        }
    }
    return hash | 1;
}

bool launch_blocking() {
    const char* wish = ::getenv("CUDA_LAUNCH_BLOCKING");
    return wish && *wish && std::strcmp(wish, "0") != 0;
}

}  // namespace cricket::client::environment
