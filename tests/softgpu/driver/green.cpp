// SPDX-License-Identifier: MIT
// Device resources, the descriptions made of them, and green contexts.
#include "green.h"

#include <bit>
#include <cstring>

#include "event.h"

namespace softgpu {
namespace {

constexpr unsigned kSmallest = 2, kAlignment = 2;  // multiprocessors of a group

// What a CUdevResource holds that is nobody else's business. Parts of different splits cannot be described together.
struct Inside {
    uint64_t multiprocessors;
    uint64_t split;  // 0: of a whole device or context, which may be split
    int32_t device;
    uint32_t magic;
};
constexpr uint32_t kMagic = 0x6772656e;
static_assert(sizeof(Inside) <= sizeof(CUdevResource::_internal_padding));

CUdevResource resource(const Inside& inside) {
    CUdevResource made{};
    if (!inside.multiprocessors) return made;  // CU_DEV_RESOURCE_TYPE_INVALID
    made.type = CU_DEV_RESOURCE_TYPE_SM;
    made.sm.smCount = static_cast<unsigned>(std::popcount(inside.multiprocessors));
    made.sm.minSmPartitionSize = kSmallest;
    made.sm.smCoscheduledAlignment = kAlignment;
    memcpy(made._internal_padding, &inside, sizeof inside);
    return made;
}

Inside inside(const CUdevResource& of) {
    require(of.type == CU_DEV_RESOURCE_TYPE_SM, CUDA_ERROR_INVALID_RESOURCE_TYPE);
    Inside found;
    memcpy(&found, of._internal_padding, sizeof found);
    require(found.magic == kMagic && found.device >= 0 && found.device < device_count() && found.multiprocessors &&
                (found.multiprocessors & ~all_multiprocessors()) == 0,
            CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
    return found;
}

CUdevResource whole(int ordinal, uint64_t multiprocessors) {
    return resource({multiprocessors, 0, ordinal, kMagic});
}

// Takes the lowest `count` multiprocessors out of `from`.
uint64_t take(uint64_t& from, unsigned count) {
    uint64_t taken = 0;
    for (; count > 0; --count) {
        const uint64_t lowest = from & -from;
        taken |= lowest;
        from &= ~lowest;
    }
    return taken;
}

using Descriptions = Registry<Inside, CUdevResourceDesc, 0x7c15>;
Descriptions& descriptions() {
    return immortal<Descriptions>();
}
using Greens = Registry<GreenContext, CUgreenCtx, 0x7c16>;
Greens& greens() {
    return immortal<Greens>();
}

struct ByContext {
    std::mutex mutex;
    std::map<CUcontext, std::shared_ptr<GreenContext>> map;
};
ByContext& by_context() {
    return immortal<ByContext>();
}

// The streams whose kernels run in it.
std::vector<std::shared_ptr<Stream>> streams_of(const GreenContext& green) {
    std::vector<std::shared_ptr<Stream>> found;
    std::unique_lock lock(green.primary->mutex);
    for (auto& stream : green.primary->streams)
        if (stream->green == green.handle) found.push_back(stream);
    return found;
}

std::shared_ptr<GreenContext> green_context(CUgreenCtx handle) {
    auto green = greens().get(handle, CUDA_ERROR_INVALID_CONTEXT);
    require(!green->ended, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    return green;
}

}  // namespace

uint64_t all_multiprocessors() {
    const int count = multiprocessors();
    return count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

std::shared_ptr<GreenContext> green_of(CUcontext handle) {
    auto& all = by_context();
    std::unique_lock lock(all.mutex);
    auto found = all.map.find(handle);
    return found == all.map.end() ? nullptr : found->second;
}

unsigned green_contexts_of(const Device& device) {
    auto& all = by_context();
    std::unique_lock lock(all.mutex);
    unsigned count = 0;
    for (auto& [context, green] : all.map)
        if (&green->device == &device && !green->ended) ++count;
    return count;
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuDeviceGetDevResource(CUdevice dev, CUdevResource* out, CUdevResourceType type) {
    return api([&] {
        require(out);
        require(type == CU_DEV_RESOURCE_TYPE_SM, CUDA_ERROR_INVALID_RESOURCE_TYPE);
        *out = whole(device(dev).ordinal, all_multiprocessors());
    });
}

CUresult cuCtxGetDevResource(CUcontext ctx, CUdevResource* out, CUdevResourceType type) {
    return api([&] {
        require(out);
        require(type == CU_DEV_RESOURCE_TYPE_SM, CUDA_ERROR_INVALID_RESOURCE_TYPE);
        auto green = green_of(ctx ? ctx : current_handle());
        *out = whole(context_or_current(ctx)->device.ordinal, green ? green->multiprocessors : all_multiprocessors());
    });
}

CUresult cuGreenCtxGetDevResource(CUgreenCtx handle, CUdevResource* out, CUdevResourceType type) {
    return api([&] {
        require(out);
        require(type == CU_DEV_RESOURCE_TYPE_SM, CUDA_ERROR_INVALID_RESOURCE_TYPE);
        auto green = green_context(handle);
        *out = whole(green->primary->device.ordinal, green->multiprocessors);
    });
}

CUresult cuDevSmResourceSplitByCount(CUdevResource* result, unsigned* groups, const CUdevResource* input,
                                     CUdevResource* remaining, unsigned flags, unsigned least) {
    return api([&] {
        constexpr unsigned kKnown =
            CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING | CU_DEV_SM_RESOURCE_SPLIT_MAX_POTENTIAL_CLUSTER_SIZE;
        require(groups && input && (flags & ~kKnown) == 0);
        const Inside of = inside(*input);
        require(of.split == 0, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
        require(least <= input->sm.smCount);
        const unsigned step = flags & CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING ? 1 : kAlignment;
        const unsigned size = std::max(flags & CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING ? 1 : kSmallest,
                                       (least + step - 1) / step * step);
        const unsigned most = static_cast<unsigned>(std::popcount(of.multiprocessors)) / size;
        if (!result) {
            *groups = most;
            return;
        }
        require(*groups > 0);
        static std::atomic<uint64_t> last_split = 0;
        const uint64_t split = ++last_split;
        *groups = std::min(*groups, most);
        uint64_t left = of.multiprocessors;
        for (unsigned i = 0; i < *groups; ++i) result[i] = resource({take(left, size), split, of.device, kMagic});
        if (remaining) *remaining = resource({left, split, of.device, kMagic});
    });
}

CUresult cuDevResourceGenerateDesc(CUdevResourceDesc* out, CUdevResource* resources, unsigned count) {
    return api([&] {
        require(out && resources && count > 0);
        auto all = std::make_shared<Inside>(inside(resources[0]));
        for (unsigned i = 1; i < count; ++i) {
            const Inside more = inside(resources[i]);
            require(more.device == all->device && more.split == all->split && more.split != 0 &&
                        (more.multiprocessors & all->multiprocessors) == 0,
                    CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
            all->multiprocessors |= more.multiprocessors;
        }
        *out = descriptions().add(std::move(all));
    });
}

CUresult cuGreenCtxCreate(CUgreenCtx* out, CUdevResourceDesc desc, CUdevice dev, unsigned flags) {
    return api([&] {
        require(out && flags == CU_GREEN_CTX_DEFAULT_STREAM);
        auto described = descriptions().get(desc, CUDA_ERROR_INVALID_VALUE);
        require(described->device == device(dev).ordinal);
        auto green = std::make_shared<GreenContext>(device(dev));
        CUcontext primary = nullptr;
        const CUresult retained = cuDevicePrimaryCtxRetain(&primary, dev);
        require(retained == CUDA_SUCCESS, retained);
        green->primary = contexts().get(primary);
        green->multiprocessors = described->multiprocessors;
        green->id = Context::next_id();
        green->handle = greens().add(green);
        green->context = contexts().reserve();
        green->default_stream = std::make_shared<Stream>(green->primary, Stream::Kind::Blocking, 0);
        green->default_stream->green = green->handle;
        green->default_stream->multiprocessors = green->multiprocessors;
        {
            std::unique_lock lock(green->primary->mutex);
            green->primary->streams.push_back(green->default_stream);
        }
        contexts().set(green->context, green->primary);
        auto& all = by_context();
        std::unique_lock lock(all.mutex);
        all.map[green->context] = green;
        *out = green->handle;
    });
}

CUresult cuGreenCtxDestroy(CUgreenCtx handle) {
    return api([&] {
        auto green = green_context(handle);
        contexts().remove(green->context);
        for (auto& stream : streams_of(*green)) {
            stream->orphaned = true;
            stream->close();
        }
        green->ended = true;
        green->default_stream.reset();
        green->primary.reset();
        const CUresult released = cuDevicePrimaryCtxRelease_v2(green->device.ordinal);
        require(released == CUDA_SUCCESS, released);
    });
}

CUresult cuCtxFromGreenCtx(CUcontext* out, CUgreenCtx handle) {
    return api([&] {
        require(out);
        *out = green_context(handle)->context;
    });
}

CUresult cuGreenCtxGetId(CUgreenCtx handle, unsigned long long* id) {
    return api([&] {
        require(id);
        *id = green_context(handle)->id;
    });
}

CUresult cuGreenCtxStreamCreate(CUstream* out, CUgreenCtx handle, unsigned flags, int priority) {
    return api([&] {
        require(out && flags == CU_STREAM_NON_BLOCKING);
        auto green = green_context(handle);
        *out = make_stream(green->primary, Stream::Kind::NonBlocking, priority, green.get())->handle;
    });
}

CUresult cuGreenCtxRecordEvent(CUgreenCtx handle, CUevent event_handle) {
    return api([&] {
        auto green = green_context(handle);
        auto event = events().get(event_handle);
        require(event->context == green->primary && !event->shared, CUDA_ERROR_INVALID_HANDLE);
        std::vector<CompletionRef> work;
        for (auto& stream : streams_of(*green)) {
            std::unique_lock lock(green->primary->mutex);
            if (stream != green->default_stream && stream->tail) work.push_back(stream->tail);
        }
        auto mark = green->default_stream->submit(nullptr, std::move(work));
        std::unique_lock lock(event->mutex);
        event->recorded = std::move(mark);
    });
}

CUresult cuGreenCtxWaitEvent(CUgreenCtx handle, CUevent event_handle) {
    return api([&] {
        auto green = green_context(handle);
        auto event = events().get(event_handle);
        const auto mark = event->latest();
        if (!mark || mark->done()) return;
        for (auto& stream : streams_of(*green)) stream->submit(nullptr, {mark});
    });
}

CUresult cuStreamGetGreenCtx(CUstream handle, CUgreenCtx* out) {
    return api([&] {
        require(out);
        *out = stream(handle)->green;
    });
}
