// SPDX-License-Identifier: MIT
// cuGetProcAddress: which of our own functions has the ABI that a name and a CUDA version mean. The table
// comes from cudaTypedefs.h (rpc/gen); what is newer than the headers we were built with is not found, so
// that nobody calls a function with arguments that it does not understand.
#include <algorithm>
#include <cstring>

#include "custom.h"
#include "symbols.h"

namespace cricket::client {
namespace {

constexpr cuuint64_t known_flags =
    CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;

struct Found {
    void* function = nullptr;
    bool name_known = false;
};

Found look_up(const char* name, int version, bool per_thread) {
    const Symbol* end = symbols + symbol_count;
    const Symbol* at = std::lower_bound(symbols, end, name, [](const Symbol& symbol, const char* wanted) {
        return std::strcmp(symbol.name, wanted) < 0;
    });
    Found found;
    void* own_stream = nullptr;
    for (; at != end && std::strcmp(at->name, name) == 0; ++at) {
        found.name_known = true;
        if (at->version > version) continue;
        (at->per_thread ? own_stream : found.function) = at->function;
    }
    // Most functions have no variant for per-thread default streams: then the one there is serves both.
    if (per_thread && own_stream) found.function = own_stream;
    return found;
}

}  // namespace

CUresult impl_cuGetProcAddress_v2(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags,
                                  CUdriverProcAddressQueryResult* symbolStatus) {
    if (!symbol || !pfn || (flags & ~known_flags)) return CUDA_ERROR_INVALID_VALUE;
    Found found = look_up(symbol, cudaVersion, flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);
    *pfn = found.function;
    if (symbolStatus)
        *symbolStatus = found.function     ? CU_GET_PROC_ADDRESS_SUCCESS
                        : found.name_known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                                           : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    // What is not there is no error to who asks why.
    return found.function || symbolStatus ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult impl_cuGetProcAddress(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags) {
    return impl_cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, nullptr);
}

}  // namespace cricket::client
