// SPDX-License-Identifier: MIT
// Every function of the driver with arguments that its types suggest: all zero; pointers that are valid; numbers that
// are one. A function that none of these disturbs has been asked for at least its checks of arguments, in each state
// of the process (before cuInit, without and with a context).
#include <cuda.h>
#include <cudaProfiler.h>
#include <dlfcn.h>

#include <cstring>
#include <iterator>
#include <type_traits>

#include "conform.h"

namespace conform {
namespace {

enum class Variant { Zero, Pointers, Ones };
constexpr const char* variant_names[] = {"zero", "pointers", "ones"};

constexpr size_t buffer_size = 65536;
constexpr size_t buffer_count = 20;
alignas(4096) unsigned char buffers[buffer_count][buffer_size];

template <typename T, typename = void>
struct IsComplete : std::false_type {};
template <typename T>
struct IsComplete<T, std::void_t<decltype(sizeof(T))>> : std::true_type {};

template <typename T>
T argument([[maybe_unused]] Variant variant, [[maybe_unused]] size_t index) {
    if constexpr (std::is_pointer_v<T>) {
        using Pointee = std::remove_cv_t<std::remove_pointer_t<T>>;
        if constexpr (std::is_function_v<Pointee>)
            return nullptr;  // a callback
        else if constexpr (!std::is_void_v<Pointee> && !IsComplete<Pointee>::value)
            return nullptr;  // a handle
        else
            return variant == Variant::Zero ? nullptr : reinterpret_cast<T>(buffers[index]);
    } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
        return static_cast<T>(variant == Variant::Ones ? 1 : 0);
    } else {
        return T{};
    }
}

template <typename... Arguments, size_t... Index>
int call_with(CUresult (*function)(Arguments...), [[maybe_unused]] Variant variant, std::index_sequence<Index...>) {
    static_assert(sizeof...(Arguments) <= buffer_count);
    return function(argument<Arguments>(variant, Index)...);
}

template <typename... Arguments>
int call(CUresult (*function)(Arguments...), Variant variant) {
    return call_with(function, variant, std::index_sequence_for<Arguments...>{});
}

struct Function {
    const char* name;
    int (*call)(void*, Variant);
};

#define CONFORM_FUNCTION(name) \
    {#name, [](void* symbol, Variant variant) { return call(reinterpret_cast<decltype(&::name)>(symbol), variant); }},
const Function functions[] = {
#include "conform_names.inc"
};
#undef CONFORM_FUNCTION

struct Call {
    const Function* function;
    Variant variant;
};

bool starts_with(const char* name, const char* prefix) { return std::strncmp(name, prefix, std::strlen(prefix)) == 0; }

// What these leave behind when they succeed would be felt by the next case.
bool changes_process(const char* name) {
    for (const char* prefix : {"cuInit", "cuDevicePrimaryCtx", "cuCtxDestroy", "cuCtxDetach", "cuCtxSetFlags", "cuCtxSetLimit",
                               "cuMemHostRegister", "cuThreadExchange", "cuCtxCreate", "cuGreenCtx"})
        if (starts_with(name, prefix)) return true;
    return false;
}

void run(const Unit& unit) {
    static void* const library = dlopen("libcuda.so.1", RTLD_NOW);
    const Call& planned = *static_cast<const Call*>(unit.data);
    void* symbol = library ? dlsym(library, planned.function->name) : nullptr;
    if (!symbol) return say("is not exported");
    std::memset(buffers, 0, sizeof buffers);
    const int result = told_now("", static_cast<CUresult>(planned.function->call(symbol, planned.variant)));
    if (result == CUDA_SUCCESS && changes_process(planned.function->name)) retire_process();
}

bool worth_it(const char* name, Variant variant, Group group) {
    // cuInit(0) in the group before cuInit would end that group; 1 is as good. Process 1 is nobody's to lock.
    if (!std::strcmp(name, "cuInit")) return variant == Variant::Ones;
    return !starts_with(name, "cuCheckpoint") || (variant == Variant::Zero && group != Group::Uninitialized);
}

}  // namespace

void add_generated() {
    static std::vector<Call> calls;
    constexpr Group groups[] = {Group::Uninitialized, Group::Bare, Group::Context};
    constexpr const char* group_names[] = {"uninitialized", "bare", "context"};
    calls.reserve(std::size(functions) * std::size(groups) * std::size(variant_names));
    for (const Group group : groups)
        for (const Function& function : functions)
            for (const Variant variant : {Variant::Zero, Variant::Pointers, Variant::Ones}) {
                if (!worth_it(function.name, variant, group)) continue;
                calls.push_back({&function, variant});
                units().push_back({std::string(group_names[static_cast<int>(group)]) + "." + function.name + "." +
                                       variant_names[static_cast<int>(variant)],
                                   group, false, &run, &calls.back()});
            }
}

}  // namespace conform
