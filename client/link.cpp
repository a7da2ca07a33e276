// SPDX-License-Identifier: MIT
// The JIT linker. A link keeps pointers to its creator's option values and log buffers, which the driver fills until the
// link is destroyed, and the cubin that it made.
#include <pthread.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "client/contexts.h"
#include "client/file_bytes.h"
#include "client/jit_options.h"
#include "client/locked.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "custom.h"
#include "stub_support.h"

namespace cricket::client {
namespace {

struct Link {
    Link* next;
    uint64_t number;
    JitOptions options;
    void* cubin;
};

pthread_mutex_t links_lock = PTHREAD_MUTEX_INITIALIZER;  // not held over a call
Link* links = nullptr;

// Links are destroyed by nobody but their one user: what is found stays.
Link* find(CUlinkState state) {
    Locked locked(links_lock);
    for (Link* link = links; link; link = link->next)
        if (link->number == to_number(state)) return link;
    return nullptr;
}

template <class Res>
void write_state(Link* link, const Res& res) {
    if (link) link->options.write_back(res.state_values, res.state_info, res.state_error);
}

constexpr uint32_t cubin_piece = 512 * 1024;

CUresult fetch_cubin(uint64_t number, std::byte* to, uint64_t size) {
    for (uint64_t done = 0; done < size;) {
        cricketLinkCubin_args args{};
        cricketLinkCubin_res res{};
        args.state = number;
        args.offset = done;
        args.bytes = static_cast<uint32_t>(size - done < cubin_piece ? size - done : cubin_piece);
        ReplyGuard guard;
        if (CUresult result = call(args, res, {.reply_bytes = cubin_piece + 256}); result != CUDA_SUCCESS) return result;
        if (res.cubin.size != args.bytes) return CUDA_ERROR_UNKNOWN;
        std::memcpy(to + done, res.cubin.data, res.cubin.size);
        done += res.cubin.size;
    }
    return CUDA_SUCCESS;
}

}  // namespace

CUresult impl_cuLinkCreate_v2(unsigned int numOptions, CUjit_option* options, void** optionValues,
                              CUlinkState* stateOut) {
    if (!stateOut) return null_pointer();
    auto* link = new (std::nothrow) Link{};
    if (!link) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = link->options.read("cuLinkCreate", numOptions, options, optionValues);
    if (result == CUDA_SUCCESS) {
        cuLinkCreate_v2_args args{};
        cuLinkCreate_v2_res res{};
        args.numOptions = numOptions;
        args.jit_options = link->options.codes_blob();
        args.jit_values = link->options.values_blob();
        ReplyGuard guard;
        result = call(args, res, {.reply_bytes = link->options.reply_bytes()});
        link->number = res.stateOut;
    }
    if (result != CUDA_SUCCESS) {
        delete link;
        return result;
    }
    *stateOut = from_number<CUlinkState>(link->number);
    Locked locked(links_lock);
    link->next = links;
    links = link;
    return CUDA_SUCCESS;
}

CUresult impl_cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void* data, size_t size, const char* name,
                               unsigned int numOptions, CUjit_option* options, void** optionValues) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!state) return CUDA_ERROR_INVALID_HANDLE;
    if (!data || !size) return CUDA_ERROR_INVALID_VALUE;
    JitOptions jit;
    if (CUresult result = jit.read("cuLinkAddData", numOptions, options, optionValues); result != CUDA_SUCCESS)
        return result;
    Link* link = find(state);
    cuLinkAddData_v2_args args{};
    cuLinkAddData_v2_res res{};
    args.state = to_number(state);
    args.type = type;
    args.size = size;
    if (name) args.name = {name, static_cast<uint32_t>(std::strlen(name) + 1), true, false};
    args.numOptions = numOptions;
    args.jit_options = jit.codes_blob();
    args.jit_values = jit.values_blob();
    ReplyGuard guard;
    const CUresult result = call_with_data(
        Proc::cuLinkAddData_v2, xdr_routine(xdr_cuLinkAddData_v2_args), &args, &args.image, data, size,
        xdr_routine(xdr_cuLinkAddData_v2_res), &res,
        CallOptions{.reply_bytes = jit.reply_bytes() + (link ? link->options.reply_bytes() : 0)});
    jit.write_back(res.jit_values, res.info_log, res.error_log);
    write_state(link, res);
    return result;
}

CUresult impl_cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char* path, unsigned int numOptions,
                               CUjit_option* options, void** optionValues) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!state) return CUDA_ERROR_INVALID_HANDLE;
    if (!path) return CUDA_ERROR_INVALID_VALUE;
    FileBytes file;
    if (CUresult result = file.read(path); result != CUDA_SUCCESS) return result;
    // Text goes with the NUL that cuLinkAddData expects.
    const size_t size = type == CU_JIT_INPUT_PTX ? file.size() + 1 : file.size();
    return impl_cuLinkAddData_v2(state, type, const_cast<void*>(file.data()), size, path, numOptions, options,
                                 optionValues);
}

CUresult impl_cuLinkComplete(CUlinkState state, void** cubinOut, size_t* sizeOut) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!state) return CUDA_ERROR_INVALID_HANDLE;
    if (!cubinOut) return CUDA_ERROR_INVALID_VALUE;
    Link* link = find(state);
    uint64_t size = 0;
    {
        cuLinkComplete_args args{};
        cuLinkComplete_res res{};
        args.state = to_number(state);
        ReplyGuard guard;
        const CUresult result = call(args, res, {.reply_bytes = 256 + (link ? link->options.reply_bytes() : 0)});
        write_state(link, res);
        if (result != CUDA_SUCCESS) return result;
        size = res.sizeOut;
    }
    if (!link) return CUDA_ERROR_INVALID_HANDLE;
    void* cubin = std::malloc(size ? size : 1);
    if (!cubin) return CUDA_ERROR_OUT_OF_MEMORY;
    if (CUresult result = fetch_cubin(link->number, static_cast<std::byte*>(cubin), size); result != CUDA_SUCCESS) {
        std::free(cubin);
        return result;
    }
    std::free(link->cubin);
    link->cubin = cubin;
    *cubinOut = cubin;
    if (sizeOut) *sizeOut = size;
    return CUDA_SUCCESS;
}

CUresult impl_cuLinkDestroy(CUlinkState state) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuLinkDestroy_args args{};
    cuLinkDestroy_res res{};
    args.state = to_number(state);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result != CUDA_SUCCESS) return result;
    Link* gone = nullptr;
    {
        Locked locked(links_lock);
        for (Link** at = &links; *at; at = &(*at)->next)
            if ((*at)->number == args.state) {
                gone = *at;
                *at = gone->next;
                break;
            }
    }
    if (gone) std::free(gone->cubin);
    delete gone;
    return CUDA_SUCCESS;
}

}  // namespace cricket::client
