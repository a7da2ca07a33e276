// SPDX-License-Identifier: MIT
// Finding functions by name, and the answer of those that are not implemented.
// Unlike cuda.h this header does not export its functions by itself.
#pragma GCC visibility push(default)
#include <cudaProfiler.h>
#pragma GCC visibility pop
#include <dlfcn.h>

#include <cstring>
#include <string>

#include "context.h"
#include "entry.h"

namespace softgpu {

CUresult unsupported(const char* name) {
    static std::mutex mutex;
    static auto* named = new std::map<std::string, bool>;
    std::unique_lock lock(mutex);
    if (named->emplace(name, true).second) log("%s is not supported", name);
    return CUDA_ERROR_NOT_SUPPORTED;
}

namespace {

// This library itself, whatever else in the process has the same symbols.
void* self() {
    static void* handle = [] {
        Dl_info info;
        if (!dladdr(reinterpret_cast<void*>(&unsupported), &info)) return static_cast<void*>(nullptr);
        return dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }();
    return handle;
}

// The symbol behind a plain name: as cuda.h maps it, for the default stream that the flags ask for.
void* find(const char* name, cuuint64_t flags) {
    std::string symbol = name;
    for (auto& [plain, current] : current_versions())
        if (symbol == plain) symbol = current;
    if (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
        for (auto suffix : {"_ptsz", "_ptds"})
            if (void* found = dlsym(self(), (symbol + suffix).c_str())) return found;
    return dlsym(self(), symbol.c_str());
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuGetProcAddress_v2(const char* name, void** out, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* status) {
    return api_always([&] {
        require(name && out && (flags & ~cuuint64_t{3}) == 0);
        *out = find(name, flags);
        auto result = *out ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
        if (*out && version > CUDA_VERSION)
            result = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT, *out = nullptr;
        if (status) *status = result;
        require(*out || status, CUDA_ERROR_NOT_FOUND);
    });
}

CUresult cuGetProcAddress(const char* name, void** out, int version, cuuint64_t flags) {
    return cuGetProcAddress_v2(name, out, version, flags, nullptr);
}

CUresult cuGetExportTable(const void** table, const CUuuid*) {
    return api_always([&] {
        require(table);
        *table = nullptr;
        fail(CUDA_ERROR_NOT_FOUND);
    });
}

CUresult cuProfilerStart() {
    return api([&] { current(); });
}

CUresult cuProfilerStop() {
    return api([&] { current(); });
}
