// SPDX-License-Identifier: MIT
// Memory and events of another process of the same user. A handle names the process, a descriptor in it, and
// a place in the file; it is good for as long as that process lives.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "event.h"
#include "sharing.h"

namespace softgpu {
namespace {

constexpr uint64_t kMemoryMagic = 0x656d6370697067ull, kEventMagic = 0x6576637069706775ull;

struct MemoryHandle {
    uint64_t magic;
    int pid, fd;
    uint64_t offset, size, id;
};
static_assert(sizeof(MemoryHandle) <= sizeof(CUipcMemHandle));

struct EventHandle {
    uint64_t magic;
    int pid, fd;
};
static_assert(sizeof(EventHandle) <= sizeof(CUipcEventHandle));

template <typename To, typename From>
To as(const From& from) {
    To to = {};
    memcpy(&to, &from, std::min(sizeof to, sizeof from));
    return to;
}

// What this process has opened: the same allocation opened again is the same mapping.
struct Opened {
    MemoryHandle handle;
    CUdeviceptr base;
    CUcontext context;
    unsigned count;
};
std::mutex opened_mutex;
std::vector<Opened>& opened() {
    return immortal<std::vector<Opened>>();
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuIpcGetMemHandle(CUipcMemHandle* out, CUdeviceptr pointer) {
    return api([&] {
        require(out);
        current();
        auto range = memory_map().find(pointer);
        require(range && range->kind == MemoryKind::Device);
        MemoryHandle handle = {
            kMemoryMagic, getpid(), device_file(range->device), range->base - device_base(range->device),
            range->size,  range->id};
        *out = as<CUipcMemHandle>(handle);
    });
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* out, CUipcMemHandle raw, unsigned flags) {
    return api([&] {
        require(out && flags == CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
        auto context = current();
        auto handle = as<MemoryHandle>(raw);
        require(handle.magic == kMemoryMagic);
        require(handle.pid != getpid(), CUDA_ERROR_INVALID_CONTEXT);  // as the real driver says
        std::unique_lock lock(opened_mutex);
        for (auto& known : opened()) {
            if (known.context != context->handle || memcmp(&known.handle, &handle, sizeof handle) != 0)
                continue;
            if (!memory_map().find(known.base)) continue;  // the context was destroyed in between
            ++known.count;
            *out = known.base;
            return;
        }
        auto file = file_of_process(handle.pid, handle.fd);
        Range range;
        range.size = handle.size;
        range.kind = MemoryKind::Imported;
        range.device = file->device;
        range.owner = context->handle;
        *out = map_shared(file, handle.offset, range);
        opened().push_back({handle, *out, context->handle, 1});
    });
}

CUresult cuIpcOpenMemHandle(CUdeviceptr* out, CUipcMemHandle handle, unsigned flags) {
    return cuIpcOpenMemHandle_v2(out, handle, flags);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr pointer) {
    return api([&] {
        auto context = current();
        std::unique_lock lock(opened_mutex);
        for (auto it = opened().begin(); it != opened().end(); ++it) {
            if (it->base != pointer || it->context != context->handle) continue;
            if (--it->count) return;
            opened().erase(it);
            context->drain();
            MemoryNotInUse not_in_use;
            unmap_shared(pointer);
            return;
        }
        fail(CUDA_ERROR_INVALID_VALUE);
    });
}

CUresult cuIpcGetEventHandle(CUipcEventHandle* out, CUevent handle) {
    return api([&] {
        require(out);
        auto event = events().get(handle);
        require(event->shared != nullptr);
        *out = as<CUipcEventHandle>(EventHandle{kEventMagic, getpid(), event->shared->fd});
    });
}

CUresult cuIpcOpenEventHandle(CUevent* out, CUipcEventHandle raw) {
    return api([&] {
        require(out);
        auto handle = as<EventHandle>(raw);
        require(handle.magic == kEventMagic);
        require(handle.pid != getpid(), CUDA_ERROR_INVALID_CONTEXT);
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", handle.pid, handle.fd);
        auto event = std::make_shared<Event>();
        event->context = current();
        event->flags = CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING;
        int fd = open(path, O_RDWR | O_CLOEXEC);
        require(fd >= 0);
        event->shared = std::make_shared<SharedEvent>(fd);
        *out = events().add(std::move(event));
    });
}
