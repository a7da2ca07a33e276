// SPDX-License-Identifier: MIT
// Pinned memory: cuMemHostAlloc, cuMemHostRegister and what they entail; and what a pointer is. Over a plain transport
// no memory can be shared: pinned memory is then ordinary memory, and kernels cannot reach it.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <map>
#include <mutex>

#include "client/captures.h"
#include "client/contexts.h"
#include "client/fork_pages.h"
#include "client/log.h"
#include "client/pinned.h"
#include "client/pointer_cache.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "cricket/round_up.h"
#include "custom.h"

namespace cricket::client {
namespace {

constexpr uint64_t page = 4096;
constexpr unsigned alloc_flags = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
constexpr unsigned register_flags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                                    CU_MEMHOSTREGISTER_READ_ONLY | CU_MEMHOSTREGISTER_IOMEMORY;

// Ordinary memory that stands for pinned memory over a plain transport: address -> flags.
struct PlainPinned {
    std::mutex mutex;
    std::map<void*, unsigned> allocated;
};
PlainPinned& plain_pinned() {
    static auto* all = new PlainPinned;  // never destroyed: see Session::start
    return *all;
}

CUresult alloc_plain(void** out, size_t bytes, unsigned flags) {
    void* memory = nullptr;
    if (::posix_memalign(&memory, page, bytes) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
    std::lock_guard lock(plain_pinned().mutex);
    plain_pinned().allocated[memory] = flags;
    *out = memory;
    return CUDA_SUCCESS;
}

}  // namespace

CUresult impl_cuMemHostAlloc(void** pp, size_t bytesize, unsigned int Flags) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (!pp || Flags & ~alloc_flags) return CUDA_ERROR_INVALID_VALUE;
    if (bytesize == 0) {
        *pp = nullptr;
        return CUDA_SUCCESS;
    }
    if (!session->ring()) return alloc_plain(pp, bytesize, Flags);
    void* memory = session->host_memory().allocate(bytesize);
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    cuMemHostAlloc_args args{};
    cuMemHostAlloc_res res{};
    args.bytesize = bytesize;
    args.Flags = Flags;
    args.address = reinterpret_cast<uint64_t>(memory);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS)
        *pp = memory;
    else
        session->host_memory().free(memory);
    return result;
}

CUresult impl_cuMemAllocHost_v2(void** pp, size_t bytesize) { return impl_cuMemHostAlloc(pp, bytesize, 0); }

CUresult impl_cuMemFreeHost(void* p) {
    Session* session = Session::get();
    if (!session) return Session::absent();
    if (!p) return CUDA_SUCCESS;
    if (!session->ring()) {
        std::lock_guard lock(plain_pinned().mutex);
        if (!plain_pinned().allocated.erase(p)) return CUDA_ERROR_INVALID_VALUE;
        ::free(p);
        return CUDA_SUCCESS;
    }
    void* base = nullptr;
    uint64_t bytes = 0;
    if (!session->host_memory().find(p, &base, &bytes) || base != p) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult result = need_context(); result != CUDA_SUCCESS) return result;
    cuMemFreeHost_args args{};
    cuMemFreeHost_res res{};
    args.p = reinterpret_cast<uint64_t>(p);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) session->host_memory().free(p);
    return result;
}

CUresult impl_cuMemHostRegister_v2(void* p, size_t bytesize, unsigned int Flags) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (!p || bytesize == 0 || Flags & ~register_flags) return CUDA_ERROR_INVALID_VALUE;
    if (Flags & CU_MEMHOSTREGISTER_IOMEMORY) return unsupported("cuMemHostRegister", "device memory of others cannot cross");
    if (!session->ring()) return unsupported("cuMemHostRegister", "a plain transport shares no memory");
    const uint64_t start = reinterpret_cast<uint64_t>(p) / page * page;
    const uint64_t end = round_up(reinterpret_cast<uint64_t>(p) + bytesize, page);
    HostMemory& host = session->host_memory();
    if (host.contains(p, bytesize) || host.any_registered_in(start, end)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    const char* why = nullptr;
    if (!replaceable(start, end - start, host.fd(), &why)) {
        log(LogLevel::Error, "cuMemHostRegister(%p, %zu): %s", p, bytesize, why);
        return CUDA_ERROR_INVALID_VALUE;
    }
    // What graphs have made the worker's already stays where it is.
    uint64_t offset = 0;
    const bool shared = captures::shared_whole(*session, start, end, &offset);
    void* copy = nullptr;
    if (!shared) {
        fork_pages::note();
        copy = host.allocate(end - start);
        if (!copy) return CUDA_ERROR_OUT_OF_MEMORY;
        offset = reinterpret_cast<uint64_t>(copy) - wire::host_base;
        if (!replace_pages(start, end - start, PROT_READ | PROT_WRITE, host.fd(), offset, copy)) {
            host.free(copy);
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
    }
    cuMemHostRegister_v2_args args{};
    cuMemHostRegister_v2_res res{};
    args.p = start;
    args.bytesize = end - start;
    args.Flags = Flags;
    args.offset = offset;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) {
        host.note_registered(start, end - start, offset);
    } else if (!captures::share_again(*session, start, end, offset) && copy &&
               replace_pages(start, end - start, PROT_READ | PROT_WRITE, -1, 0, copy)) {
        host.free(copy);
    }
    return result;
}

CUresult impl_cuMemHostUnregister(void* p) {
    Session* session = Session::get();
    if (!session) return Session::absent();
    if (!p) return CUDA_ERROR_INVALID_VALUE;
    const uint64_t start = reinterpret_cast<uint64_t>(p) / page * page;
    HostMemory& host = session->host_memory();
    uint64_t bytes = 0, offset = 0;
    if (!session->ring() || !host.any_registered_in(start, start + page)) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    if (!host.registered_at(start, &bytes, &offset)) return CUDA_ERROR_INVALID_VALUE;
    if (!current_context()) return need_context();
    cuMemHostUnregister_args args{};
    cuMemHostUnregister_res res{};
    args.p = start;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result != CUDA_SUCCESS) return result;
    host.forget_registered(start);
    void* copy = reinterpret_cast<void*>(wire::host_base + offset);
    if (captures::share_again(*session, start, start + bytes, offset)) return CUDA_SUCCESS;
    if (replace_pages(start, bytes, PROT_READ | PROT_WRITE, -1, 0, copy)) host.free(copy);
    return CUDA_SUCCESS;
}

CUresult impl_cuMemHostGetDevicePointer_v2(CUdeviceptr* pdptr, void* p, unsigned int Flags) {
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (!pdptr || !p || Flags) return CUDA_ERROR_INVALID_VALUE;
    if (!session->ring()) return unsupported("cuMemHostGetDevicePointer", "a plain transport shares no memory");
    cuMemHostGetDevicePointer_v2_args args{};
    cuMemHostGetDevicePointer_v2_res res{};
    args.p = reinterpret_cast<uint64_t>(p);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) *pdptr = res.pdptr;
    return result;
}

CUresult impl_cuMemHostGetFlags(unsigned int* pFlags, void* p) {
    if (!pFlags) return CUDA_ERROR_INVALID_VALUE;
    Session* session;
    if (const CUresult result = Session::with_context(&session); result != CUDA_SUCCESS) return result;
    if (!session->ring()) {
        std::lock_guard lock(plain_pinned().mutex);
        auto found = plain_pinned().allocated.find(p);
        if (found == plain_pinned().allocated.end()) return CUDA_ERROR_INVALID_VALUE;
        *pFlags = found->second;
        return CUDA_SUCCESS;
    }
    void* base = nullptr;
    uint64_t bytes = 0;
    cuMemHostGetFlags_args args{};
    cuMemHostGetFlags_res res{};
    args.p = session->host_memory().find(p, &base, &bytes) ? reinterpret_cast<uint64_t>(base)
                                                           : reinterpret_cast<uint64_t>(p) / page * page;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) *pFlags = res.pFlags;
    return result;
}

// The usual sizes without a call.
static void give(uint64_t value, unsigned bytes, void* to) {
    if (bytes == 8)
        ::memcpy(to, &value, 8);
    else if (bytes == 4)
        ::memcpy(to, &value, 4);
    else
        ::memcpy(to, &value, bytes);
}

CUresult impl_cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr ptr) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!data) return CUDA_ERROR_INVALID_VALUE;
    pointer_cache::Answers answers;
    const uint64_t question = pointer_cache::question(&attribute, 1, false);
    if (pointer_cache::find(ptr, question, 1, &answers)) {
        give(answers.values[0], answers.bytes[0], data);
        return CUDA_SUCCESS;
    }
    const uint64_t stamp = pointer_cache::stamp();
    cuPointerGetAttribute_args args{};
    cuPointerGetAttribute_res res{};
    args.attribute = attribute;
    args.ptr = ptr;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result != CUDA_SUCCESS || res.value.size > sizeof answers.values[0]) return result;
    answers.values[0] = 0;
    answers.bytes[0] = static_cast<uint8_t>(res.value.size);
    ::memcpy(answers.values, res.value.data, res.value.size);
    ::memcpy(data, answers.values, res.value.size);
    pointer_cache::keep(ptr, question, 1, stamp, answers);
    return result;
}

CUresult impl_cuPointerGetAttributes(unsigned int numAttributes, CUpointer_attribute* attributes, void** data,
                                     CUdeviceptr ptr) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!attributes || !data || numAttributes == 0 || numAttributes > 1024) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < numAttributes; ++i)
        if (!data[i]) return CUDA_ERROR_INVALID_VALUE;
    pointer_cache::Answers answers;
    uint64_t question = pointer_cache::question(attributes, numAttributes, true);
    if (pointer_cache::find(ptr, question, numAttributes, &answers)) {
        for (unsigned i = 0; i < numAttributes; ++i) give(answers.values[i], answers.bytes[i], data[i]);
        return CUDA_SUCCESS;
    }
    const uint64_t stamp = pointer_cache::stamp();
    cuPointerGetAttributes_args args{};
    cuPointerGetAttributes_res res{};
    args.numAttributes = numAttributes;
    args.attributes = {attributes, static_cast<uint32_t>(numAttributes * sizeof *attributes), true, false};
    args.ptr = ptr;
    ReplyGuard guard;
    const CUresult result = call(args, res, {.reply_bytes = numAttributes * 16});
    if (result != CUDA_SUCCESS) return result;
    if (res.values.size != numAttributes * 16) return CUDA_ERROR_UNKNOWN;
    for (unsigned i = 0; i < numAttributes; ++i) {
        uint64_t pair[2];  // value, size in bytes
        ::memcpy(pair, static_cast<const char*>(res.values.data) + i * sizeof pair, sizeof pair);
        if (pair[1] > sizeof pair[0]) {
            question = 0;
            continue;
        }
        ::memcpy(data[i], &pair[0], pair[1]);
        if (!question) continue;  // too many to be remembered
        answers.values[i] = pair[0];
        answers.bytes[i] = static_cast<uint8_t>(pair[1]);
    }
    pointer_cache::keep(ptr, question, numAttributes, stamp, answers);
    return CUDA_SUCCESS;
}

}  // namespace cricket::client
