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
    if (const CUresult result = initialized(); result != CUDA_SUCCESS) return result;
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

// The symbol behind a plain name: the newest that this version of CUDA knew, for the default stream asked
// for.
const VersionedName* find(std::string_view name, std::string_view suffix, int version, bool& known) {
    const VersionedName* best = nullptr;
    for (auto& candidate : versioned_names()) {
        if (candidate.name != name || candidate.suffix != suffix) continue;
        known = true;
        if (candidate.version <= version && (!best || candidate.version > best->version)) best = &candidate;
    }
    return best;
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuGetProcAddress_v2(const char* name, void** out, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* status) {
    return api_always([&] {
        require(name && out && (flags & ~cuuint64_t{3}) == 0);
        *out = nullptr;
        bool known = false;
        const VersionedName* found = nullptr;
        if (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
            for (auto suffix : {"_ptsz", "_ptds"})
                if (!found) found = find(name, suffix, version, known);
        if (!found) found = find(name, "", version, known);
        if (found && version <= CUDA_VERSION) *out = dlsym(self(), found->symbol);
        auto result = *out    ? CU_GET_PROC_ADDRESS_SUCCESS
                      : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                              : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
        if (status) *status = result;
        require(*out || status, CUDA_ERROR_NOT_FOUND);
    });
}

CUresult cuGetProcAddress(const char* name, void** out, int version, cuuint64_t flags) {
    return cuGetProcAddress_v2(name, out, version, flags, nullptr);
}

CUresult cuProfilerStart() {
    return api([&] { current(); });
}

CUresult cuProfilerStop() {
    return api([&] { current(); });
}
