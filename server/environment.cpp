// SPDX-License-Identifier: MIT
#include "environment.h"

#include "worker_config.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace cricket::server {
namespace {

bool of_cuda(std::string_view variable) { return variable.starts_with("CUDA_"); }

// A library that the driver would load must not come from a client, who may be on another machine.
bool acceptable(std::string_view variable) {
    return of_cuda(variable) && !variable.starts_with("CUDA_INJECTION") && variable.find('=') != variable.npos;
}

}  // namespace

Variables read_variables(const char* text, size_t bytes) {
    Variables result;
    for (size_t at = 0; at < bytes;) {
        const size_t length = strnlen(text + at, bytes - at);
        if (at + length == bytes) break;  // no NUL
        if (const std::string_view variable(text + at, length); acceptable(variable)) result.emplace_back(variable);
        at += length + 1;
    }
    return result;
}

Variables worker_environment(const Variables& of_session) {
    Variables result;
    for (char** variable = environ; variable && *variable; ++variable)
        if (!of_cuda(*variable)) result.emplace_back(*variable);
    result.insert(result.end(), of_session.begin(), of_session.end());
    return result;
}

Variables current_variables() {
    Variables result;
    for (char** variable = environ; variable && *variable; ++variable)
        if (of_cuda(*variable)) result.emplace_back(*variable);
    return result;
}

Variables with_devices(Variables of_session, const std::string& devices) {
    if (devices.empty()) return of_session;
    const std::string name = "CUDA_VISIBLE_DEVICES=";
    std::erase_if(of_session, [&](const std::string& variable) { return variable.starts_with(name); });
    of_session.push_back(name + devices);
    return of_session;
}

void set_variables(const Variables& of_session) {
    for (const std::string& variable : current_variables()) ::unsetenv(variable.substr(0, variable.find('=')).c_str());
    for (const std::string& variable : of_session) {
        const size_t end = variable.find('=');
        if (acceptable(variable)) ::setenv(variable.substr(0, end).c_str(), variable.c_str() + end + 1, 1);
    }
}

}  // namespace cricket::server
