// SPDX-License-Identifier: MIT
#include "settings.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace cricket::server::settings {
namespace {

struct Setting {
    const char* variable;
    uint64_t least, most;
    const char* what;
};
constexpr Setting all[] = {{fetch_threads, 0, 256, "a number of threads, 0 to 256"},
                           {aside_device, 0, UINT64_MAX, "a number of bytes"},
                           {aside_host, 0, UINT64_MAX, "a number of bytes"},
                           {worker_patience, 1, 86400, "a number of seconds, 1 to 86400"}};

bool read(const char* text, uint64_t* value) {
    const char* end = text + std::strlen(text);
    const auto [stop, error] = std::from_chars(text, end, *value);
    return error == std::errc() && stop == end;
}

}  // namespace

std::optional<uint64_t> number(const char* variable) {
    const char* text = std::getenv(variable);
    uint64_t value = 0;
    if (!text || !read(text, &value)) return {};
    return value;
}

void check_all() {
    for (const Setting& setting : all) {
        const char* text = std::getenv(setting.variable);
        uint64_t value = 0;
        if (text && *text && (!read(text, &value) || value < setting.least || value > setting.most))
            throw std::runtime_error(std::string(setting.variable) + "=" + text + " is not " + setting.what);
    }
}

}  // namespace cricket::server::settings
