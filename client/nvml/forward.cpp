// SPDX-License-Identifier: MIT
#include "client/nvml/forward.h"

#include "client/log.h"
#include "client/nvml/exchange.h"

namespace cricket::nvml {

std::atomic<int32_t> users{0};

namespace {

struct Forwarded {
    const Function& function;
    const Words& words;
    int status = unknown_error;
};

const Function& function_of(Proc proc) {
    // Procedure numbers are given without gaps, but a function may leave the description.
    uint32_t low = 0, high = function_count;
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        (functions[middle].procedure <= static_cast<uint32_t>(proc) ? low : high) = middle;
    }
    return functions[low];
}

int status_of(Outcome outcome, const Forwarded& forwarded) {
    switch (outcome) {
        case Outcome::Done: return forwarded.status;
        case Outcome::NoServer: return driver_not_loaded;
        case Outcome::NotEncodable: return invalid_argument;
        case Outcome::OutOfMemory: return out_of_memory;
        case Outcome::NoProcedure: return function_not_found;
        case Outcome::Broken: return unknown_error;
    }
    return unknown_error;
}

}  // namespace

int forward(Proc proc, const Words& words) {
    const Function& function = function_of(proc);
    if (!function.always && users.load(std::memory_order_relaxed) <= 0) return uninitialized;
    Forwarded forwarded{function, words};
    Call call;
    call.procedure = function.procedure;
    call.encode = [](XDR* xdrs, void* user) {
        const auto& it = *static_cast<Forwarded*>(user);
        return encode_call(xdrs, it.function, it.words);
    };
    call.decode = [](XDR* xdrs, void* user) {
        auto& it = *static_cast<Forwarded*>(user);
        return decode_reply(xdrs, it.function, it.words, &it.status);
    };
    call.user = &forwarded;
    call.wait_for_server = !function.always;
    const int status = status_of(exchange(call), forwarded);
    client::log(client::LogLevel::Debug, "%s -> %d", function.name, status);
    return status;
}

int denied(const char* name, std::atomic<bool>& said) {
    client::log_once(said, client::LogLevel::Warn, "%s changes the machine: no permission through the server", name);
    return users.load(std::memory_order_relaxed) > 0 ? no_permission : uninitialized;
}

int unsupported(const char* name, const char* reason, std::atomic<bool>& said) {
    client::log_once(said, client::LogLevel::Warn, "%s is not supported: %s", name, reason);
    return users.load(std::memory_order_relaxed) > 0 ? not_supported : uninitialized;
}

}  // namespace cricket::nvml
