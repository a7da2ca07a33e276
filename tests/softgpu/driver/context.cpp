// SPDX-License-Identifier: MIT
#include "context.h"

#include <cstdio>

#include "array.h"
#include "event.h"
#include "green.h"
#include "heap.h"
#include "memory.h"
#include "module.h"
#include "pool.h"
#include "storage.h"
#include "stream.h"
#include "texture.h"

namespace softgpu {

uint64_t Context::next_id() {
    static std::atomic<uint64_t> last = 0;
    return ++last;
}

Context::Context(Device& device, CUcontext handle, unsigned flags, bool primary)
    : device(device),
      handle(handle),
      primary(primary),
      id(next_id()),
      flags(flags),
      peers(1u << device.ordinal),
      heap_(std::make_unique<DeviceHeap>(device.ordinal, handle)) {}

Context::~Context() = default;

std::shared_ptr<Context> Context::make(Device& device, CUcontext handle, unsigned flags, bool primary) {
    auto context = std::make_shared<Context>(device, handle, flags, primary);
    context->legacy = std::make_shared<Stream>(context, Stream::Kind::Legacy, 0);
    context->streams.push_back(context->legacy);
    contexts().set(handle, context);
    return context;
}

void Context::set_sticky(CUresult error, const std::string& why) {
    CUresult none = CUDA_SUCCESS;
    if (!sticky_.compare_exchange_strong(none, error)) return;
    faulted = true;
    log("context %llu is broken: %s", static_cast<unsigned long long>(id), why.c_str());
}

void Context::drain() {
    std::vector<CompletionRef> tails;
    {
        std::unique_lock lock(mutex);
        for (auto& stream : streams)
            if (stream->tail) tails.push_back(stream->tail);
    }
    for (auto& tail : tails) tail->wait();
}

void Output::print(std::string_view text) {
    std::unique_lock lock(mutex_);
    text_ += text;
}

void Output::complain(std::string_view text) {
    std::unique_lock lock(mutex_);
    complaints_ += text;
}

void Output::flush() {
    std::unique_lock lock(mutex_);
    for (auto [text, file] : {std::pair(&text_, stdout), std::pair(&complaints_, stderr)}) {
        if (text->empty()) continue;
        fwrite(text->data(), 1, text->size(), file);
        fflush(file);
        text->clear();
    }
}

void Context::synchronize() {
    drain();
    output.flush();
    release_pools(device.ordinal);
    require(sticky() == CUDA_SUCCESS, sticky());
}

void Context::tear_down() {
    std::list<std::shared_ptr<Stream>> all;
    {
        std::unique_lock lock(mutex);
        ending = true;
        all.swap(streams);
        legacy.reset();
    }
    for (auto& stream : all) stream->close();
    for (auto& stream : all) {
        stream->join();
        if (stream->tail) stream->tail->wait();  // what another thread does in it right now
    }
    output.flush();
    for (auto& stream :
         softgpu::streams().remove_if([&](auto& stream) { return stream.context.get() == this; }))
        abandon_capture(*stream);
    events().remove_if([&](auto& event) { return event.context.get() == this; });
    unload_modules_of(*this);
    forget_pooled(handle);
    destroy_textures_of(handle);
    destroy_arrays_of(handle);
    for (auto& range : memory_map().of_owner(handle)) free_range(memory_map().remove(range.base));
}

namespace {

thread_local std::vector<CUcontext> stack;

void destroy(const std::shared_ptr<Context>& context) {
    end_storage(context->handle);
    contexts().remove(context->handle);
    context->tear_down();
}

}  // namespace

// A context that can be made current. Primary ones can at any time, as with the real driver: the runtime does
// so before it retains them. Green ones can when they are gone.
static void check_known(CUcontext handle) {
    if (green_of(handle)) return;
    for (int i = 0; i < device_count(); ++i)
        if (device(i).primary.handle == handle) return;
    contexts().get(handle, CUDA_ERROR_INVALID_CONTEXT);
}

CUcontext current_handle() {
    return stack.empty() ? nullptr : stack.back();
}

std::shared_ptr<Context> current_in_any_state() {
    require(!in_host_function(), CUDA_ERROR_NOT_PERMITTED);
    require(!stack.empty(), CUDA_ERROR_INVALID_CONTEXT);
    return contexts().get(stack.back(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

std::shared_ptr<Context> current() {
    auto context = current_in_any_state();
    require(context->sticky() == CUDA_SUCCESS, context->sticky());
    return context;
}

std::shared_ptr<Context> context_or_current(CUcontext handle) {
    auto green = green_of(handle);
    require(!green || !green->ended, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    return handle ? contexts().get(handle, CUDA_ERROR_INVALID_CONTEXT) : current_in_any_state();
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuDevicePrimaryCtxRetain(CUcontext* out, CUdevice dev) {
    return api([&] {
        require(out);
        auto& d = device(dev);
        std::unique_lock lock(d.primary.mutex);
        if (!contexts().find(d.primary.handle)) Context::make(d, d.primary.handle, d.primary.flags, true);
        ++d.primary.retained;
        *out = d.primary.handle;
    });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
    return api([&] {
        auto& d = device(dev);
        std::unique_lock lock(d.primary.mutex);
        require(d.primary.retained > 0, CUDA_ERROR_INVALID_CONTEXT);
        require(d.primary.retained > green_contexts_of(d), CUDA_ERROR_NOT_PERMITTED);
        if (--d.primary.retained > 0) return;
        auto context = contexts().find(d.primary.handle);  // none after a reset
        require(context != nullptr, CUDA_ERROR_INVALID_CONTEXT);
        destroy(context);
    });
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev) {
    return api([&] {
        auto& d = device(dev);
        std::unique_lock lock(d.primary.mutex);
        require(green_contexts_of(d) == 0, CUDA_ERROR_NOT_PERMITTED);
        if (auto context = contexts().find(d.primary.handle)) destroy(context);
    });
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned flags) {
    return api([&] {
        require((flags & ~unsigned{CU_CTX_FLAGS_MASK}) == 0);
        auto& d = device(dev);
        std::unique_lock lock(d.primary.mutex);
        d.primary.flags = flags;
        if (auto context = contexts().find(d.primary.handle)) context->flags = flags;
    });
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned* flags, int* active) {
    return api([&] {
        require(flags && active);
        auto& d = device(dev);
        std::unique_lock lock(d.primary.mutex);
        *flags = d.primary.flags;
        *active = contexts().find(d.primary.handle) != nullptr;
    });
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev) {
    const CUresult result = cuDevicePrimaryCtxRelease_v2(dev);
    return result == CUDA_ERROR_INVALID_CONTEXT ? CUDA_SUCCESS : result;
}
CUresult cuDevicePrimaryCtxReset(CUdevice dev) {
    return cuDevicePrimaryCtxReset_v2(dev);
}
CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned flags) {
    unsigned current_flags;
    int active;
    if (CUresult result = cuDevicePrimaryCtxGetState(dev, &current_flags, &active); result != CUDA_SUCCESS) return result;
    return active ? CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE : cuDevicePrimaryCtxSetFlags_v2(dev, flags);
}

CUresult cuCtxCreate_v2(CUcontext* out, unsigned flags, CUdevice dev) {
    return api([&] {
        require(out && (flags & ~unsigned{CU_CTX_FLAGS_MASK}) == 0);
        *out = Context::make(device(dev), contexts().reserve(), flags, false)->handle;
        stack.push_back(*out);
    });
}

CUresult cuCtxCreate(CUcontext* out, unsigned flags, CUdevice dev) {
    return cuCtxCreate_v2(out, flags, dev);
}

CUresult cuCtxCreate_v3(CUcontext* out, CUexecAffinityParam*, int affinities, unsigned flags, CUdevice dev) {
    if (affinities != 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    return cuCtxCreate_v2(out, flags, dev);
}

CUresult cuCtxCreate_v4(CUcontext* out, CUctxCreateParams* params, unsigned flags, CUdevice dev) {
    if (params && params->numExecAffinityParams != 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    if (params && params->cigParams) return CUDA_ERROR_NOT_SUPPORTED;
    return cuCtxCreate_v2(out, flags, dev);
}

CUresult cuCtxDestroy_v2(CUcontext ctx) {
    return api([&] {
        require(ctx);
        auto context = contexts().get(ctx, CUDA_ERROR_INVALID_CONTEXT);
        require(!context->primary, CUDA_ERROR_INVALID_CONTEXT);
        if (current_handle() == ctx) stack.pop_back();
        destroy(context);
    });
}

CUresult cuCtxDestroy(CUcontext ctx) {
    return cuCtxDestroy_v2(ctx);
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx) {
    return api([&] {
        require(ctx);
        check_known(ctx);
        stack.push_back(ctx);
    });
}

CUresult cuCtxPopCurrent_v2(CUcontext* out) {
    return api([&] {
        require(!stack.empty(), CUDA_ERROR_INVALID_CONTEXT);
        if (out) *out = stack.back();
        stack.pop_back();
    });
}

CUresult cuCtxPushCurrent(CUcontext ctx) {
    return cuCtxPushCurrent_v2(ctx);
}
CUresult cuCtxPopCurrent(CUcontext* out) {
    return cuCtxPopCurrent_v2(out);
}

CUresult cuCtxSetCurrent(CUcontext ctx) {
    return api([&] {
        if (ctx) check_known(ctx);
        if (!stack.empty()) stack.pop_back();
        if (ctx) stack.push_back(ctx);
    });
}

CUresult cuCtxGetCurrent(CUcontext* out) {
    return api([&] {
        require(out);
        *out = current_handle();
    });
}

CUresult cuCtxGetDevice(CUdevice* out) {
    return cuCtxGetDevice_v2(out, nullptr);
}

CUresult cuCtxGetDevice_v2(CUdevice* out, CUcontext ctx) {
    return api([&] {
        require(out);
        auto green = green_of(ctx ? ctx : current_handle());
        *out = green ? green->device.ordinal : context_or_current(ctx)->device.ordinal;
    });
}

CUresult cuCtxGetFlags(unsigned* flags) {
    return api([&] {
        require(flags);
        auto green = green_of(current_handle());
        *flags = green ? unsigned{CU_CTX_MAP_HOST} : current_in_any_state()->flags.load();
    });
}

CUresult cuCtxSetFlags(unsigned flags) {
    return api([&] {
        require((flags & ~unsigned{CU_CTX_FLAGS_MASK}) == 0);
        current_in_any_state()->flags = flags;
    });
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long* id) {
    return api([&] {
        require(id);
        auto green = green_of(ctx ? ctx : current_handle());
        require(!green || !green->ended, CUDA_ERROR_CONTEXT_IS_DESTROYED);
        *id = green ? green->id : context_or_current(ctx)->id;
    });
}

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned* version) {
    return api([&] {
        require(version);
        auto green = green_of(ctx);
        require(!green || !green->ended, CUDA_ERROR_INVALID_CONTEXT);
        const CUresult sticky = context_or_current(ctx)->sticky();
        require(sticky == CUDA_SUCCESS, sticky);
        *version = 3020;  // what the driver says of every context made by cuCtxCreate_v2 or later
    });
}

CUresult cuCtxSynchronize() {
    return api([&] {
        auto context = current();
        potentially_unsafe();
        context->synchronize();
    });
}

CUresult cuCtxSynchronize_v2(CUcontext ctx) {
    return api([&] {
        auto context = context_or_current(ctx);
        potentially_unsafe();
        context->synchronize();
    });
}

CUresult cuCtxGetLimit(size_t* value, CUlimit limit) {
    return api([&] {
        require(value);
        auto context = current();
        switch (limit) {
            case CU_LIMIT_STACK_SIZE:
                *value = context->stack_size;
                break;
            case CU_LIMIT_PRINTF_FIFO_SIZE:
                *value = context->printf_size;
                break;
            case CU_LIMIT_MALLOC_HEAP_SIZE:
                *value = context->heap().size();
                break;
            case CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH:
                *value = context->sync_depth;
                break;
            case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
                *value = context->pending_launches;
                break;
            case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
                *value = context->l2_granularity;
                break;
            case CU_LIMIT_PERSISTING_L2_CACHE_SIZE:
                *value = context->persisting_l2;
                break;
            default:
                fail(CUDA_ERROR_UNSUPPORTED_LIMIT);
        }
    });
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
    return api([&] {
        auto context = current();
        switch (limit) {
            case CU_LIMIT_STACK_SIZE:
                require(value <= 512 << 10);
                context->stack_size = (value + 15) / 16 * 16;
                break;
            case CU_LIMIT_PRINTF_FIFO_SIZE:
                context->printf_size = value;
                break;
            case CU_LIMIT_MALLOC_HEAP_SIZE:
                context->heap().resize(value);
                break;
            case CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH:
                context->sync_depth = value;
                break;
            case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
                context->pending_launches = value;
                break;
            case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
                require(value <= 128);
                context->l2_granularity = value;
                break;
            case CU_LIMIT_PERSISTING_L2_CACHE_SIZE:
                context->persisting_l2 = 0;
                break;  // the device has none
            default:
                fail(CUDA_ERROR_UNSUPPORTED_LIMIT);
        }
    });
}

CUresult cuCtxResetPersistingL2Cache() {
    return api([&] { current(); });
}

CUresult cuCtxGetCacheConfig(CUfunc_cache* config) {
    return api([&] {
        require(config);
        *config = current()->cache_config;
    });
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
    return api([&] {
        require(config >= CU_FUNC_CACHE_PREFER_NONE && config <= CU_FUNC_CACHE_PREFER_EQUAL);
        current()->cache_config = config;
    });
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig* config) {
    return api([&] {
        require(config);
        *config = current()->shared_config;
    });
}

CUresult cuCtxSetSharedMemConfig(CUsharedconfig config) {
    return api([&] {
        require(config >= CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE &&
                config <= CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE);
        current();  // the bank size cannot be changed on this architecture; asking is no error
    });
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    return api([&] {
        current();
        if (least) *least = 0;
        if (greatest) *greatest = -5;
    });
}

CUresult cuCtxGetExecAffinity(CUexecAffinityParam*, CUexecAffinityType) {
    return api([&] {
        current();
        fail(CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY);
    });
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
    return api([&] {
        require(flags == 0);
        auto context = current();
        auto other = contexts().get(peer, CUDA_ERROR_INVALID_CONTEXT);
        require(&other->device != &context->device, CUDA_ERROR_INVALID_DEVICE);
        uint32_t bit = 1u << other->device.ordinal;
        require(!(context->peers.fetch_or(bit) & bit), CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
    });
}

CUresult cuCtxDisablePeerAccess(CUcontext peer) {
    return api([&] {
        auto context = current();
        auto other = contexts().get(peer, CUDA_ERROR_INVALID_CONTEXT);
        require(&other->device != &context->device, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
        uint32_t bit = 1u << other->device.ordinal;
        require(context->peers.fetch_and(~bit) & bit, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
    });
}
