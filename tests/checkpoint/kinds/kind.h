// SPDX-License-Identifier: MIT
// One kind of state that a snapshot brings back or refuses by name. Each is set up once and looked at as often as asked,
// before and after a checkpoint: look() leaves everything as it found it. ../kinds.py goes through them; rpc/spec/snapshot.spec says
// for each which of the two it is.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <unistd.h>

namespace kinds {

struct Kind {
    const char* name;
    void (*set_up)();
    void (*look)();
    bool alone = false;  // shares its process with no other kind
};

// A file's kinds are registered by its `static const Kinds`.
std::vector<Kind>& all();
struct Kinds {
    Kinds(std::initializer_list<Kind> list) { all().insert(all().end(), list); }
};

extern const char* current;  // the kind that is set up or looked at

[[noreturn]] __attribute__((format(printf, 3, 4))) inline void fail(const char* file, int line, const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::printf("FAIL %s: %s:%d: ", current, file, line);
    std::vprintf(format, arguments);
    va_end(arguments);
    std::printf("\n");
    std::fflush(stdout);
    _exit(1);
}

inline const char* name_of(CUresult result) {
    const char* name = nullptr;
    cuGetErrorName(result, &name);
    return name ? name : "?";
}

#define EXPECT(expected, call)                                                                                      \
    do {                                                                                                            \
        const CUresult expect_result = (call);                                                                      \
        if (expect_result != (expected))                                                                            \
            kinds::fail(__FILE__, __LINE__, "%s: %s, should be %s", #call, kinds::name_of(expect_result),           \
                        kinds::name_of(expected));                                                                  \
    } while (false)
#define CU(call) EXPECT(CUDA_SUCCESS, call)
#define RT(call)                                                                                                    \
    do {                                                                                                            \
        const cudaError_t rt_result = (call);                                                                       \
        if (rt_result != cudaSuccess)                                                                               \
            kinds::fail(__FILE__, __LINE__, "%s: %s", #call, cudaGetErrorName(rt_result));                          \
    } while (false)
#define CHECK(condition)                                                                                            \
    do {                                                                                                            \
        if (!(condition)) kinds::fail(__FILE__, __LINE__, "%s", #condition);                                        \
    } while (false)
#define SAME(is, should)                                                                                            \
    do {                                                                                                            \
        const auto same_is = (is);                                                                                  \
        const decltype(same_is) same_should = (should);                                                             \
        if (same_is != same_should)                                                                                 \
            kinds::fail(__FILE__, __LINE__, "%s is %lld, should be %lld", #is, static_cast<long long>(same_is),     \
                        static_cast<long long>(same_should));                                                       \
    } while (false)

inline CUdeviceptr device(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

inline std::vector<unsigned> words_of(const void* memory, size_t count) {
    std::vector<unsigned> words(count);
    CU(cuMemcpyDtoH(words.data(), device(memory), count * sizeof(unsigned)));
    return words;
}

inline void fill(void* memory, size_t count, unsigned seed) {
    std::vector<unsigned> words(count);
    for (size_t i = 0; i < count; ++i) words[i] = unsigned(i * 2654435761u + seed);
    CU(cuMemcpyHtoD(device(memory), words.data(), count * sizeof(unsigned)));
}

inline void check_filled(const void* memory, size_t count, unsigned seed) {
    const std::vector<unsigned> words = words_of(memory, count);
    for (size_t i = 0; i < count; ++i)
        if (words[i] != unsigned(i * 2654435761u + seed)) fail(__FILE__, __LINE__, "word %zu is %#x", i, words[i]);
}

}  // namespace kinds
