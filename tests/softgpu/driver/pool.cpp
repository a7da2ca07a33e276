// SPDX-License-Identifier: MIT
#include "pool.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "graph.h"
#include "memory.h"
#include "sharing.h"

namespace softgpu {
namespace {

struct Pool {
    CUmemoryPool handle = nullptr;
    CUmemPoolProps props = {};
    int device = 0;
    bool is_default = false;
    std::shared_ptr<SharedFile> file;  // of an imported one: the other process's memory
    std::array<int, 3> reuse = {1, 1, 1};
    uint64_t threshold = 0;
    uint32_t readers = 0, writers = 0;  // bit per device
    uint64_t used = 0, used_high = 0, reserved = 0, reserved_high = 0;
    std::map<uint64_t, uint64_t> free;  // base -> size, of what streams have done with

    ~Pool() {
        for (auto& [base, size] : free) give_back(device, base, size);
    }
    static void give_back(int on, uint64_t base, uint64_t size) {
        decommit(base, size);
        device_addresses(on).release(base, size);
        softgpu::device(on).give_back(size);
    }
};

// One allocation, from the function that makes it until the stream has freed it. Between the submission of
// the free and that moment the same stream can have its place again.
struct Block {
    std::shared_ptr<Pool> pool;
    uint64_t taken = 0;
    CUcontext owner = nullptr;
    const Stream* freed_by = nullptr;  // null: in use
    uint64_t generation = 0;
};

std::mutex pools_mutex;  // of all pools and blocks
std::map<CUdeviceptr, Block>& blocks() {
    return immortal<std::map<CUdeviceptr, Block>>();
}

using Pools = Registry<Pool, CUmemoryPool, 0x7c0e>;
Pools& pools() {
    return immortal<Pools>();
}
std::shared_ptr<Pool> pool(CUmemoryPool handle) {
    return pools().get(handle, CUDA_ERROR_INVALID_VALUE);
}

struct DevicePools {
    std::shared_ptr<Pool> first;  // the default one
    CUmemoryPool current = nullptr;
};
std::map<int, DevicePools>& device_pools() {
    return immortal<std::map<int, DevicePools>>();
}

std::vector<std::weak_ptr<Pool>>& extra_pools() {
    return immortal<std::vector<std::weak_ptr<Pool>>>();
}

std::shared_ptr<Pool> make_pool(const CUmemPoolProps& props, int on) {
    auto made = std::make_shared<Pool>();
    made->props = props;
    made->device = on;
    made->readers = made->writers = 1u << on;
    made->handle = pools().reserve();
    pools().set(made->handle, made);
    return made;
}

DevicePools& of_device(int ordinal) {
    auto& own = device_pools()[device(ordinal).ordinal];
    if (!own.first) {
        CUmemPoolProps props = {};
        props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
        props.location = {CU_MEM_LOCATION_TYPE_DEVICE, {ordinal}};
        own.first = make_pool(props, ordinal);
        own.first->is_default = true;
        own.current = own.first->handle;
    }
    return own;
}

// Gives pages back until no more than `keep` bytes are held.
void trim(Pool& of, uint64_t keep) {
    while (!of.free.empty() && of.reserved > keep) {
        auto [base, size] = *of.free.begin();
        Pool::give_back(of.device, base, size);
        of.reserved -= size;
        of.free.erase(of.free.begin());
    }
}

void use(Pool& of, uint64_t size) {
    of.used += size;
    of.used_high = std::max(of.used_high, of.used);
}

// A place that this stream has freed, whether it has come to that or not; 0 when there is none.
CUdeviceptr take_back(const std::shared_ptr<Pool>& of, uint64_t size, uint64_t taken, const Stream* by) {
    for (auto& [base, block] : blocks()) {
        if (block.pool != of || block.freed_by != by || block.taken != taken) continue;
        block.freed_by = nullptr;
        ++block.generation;
        memory_map().resize(base, size);
        return base;
    }
    return 0;
}

// A place that is free by now, or a new one.
CUdeviceptr find_place(Pool& of, uint64_t taken) {
    for (auto it = of.free.begin(); it != of.free.end(); ++it) {
        auto [base, size] = *it;
        if (size < taken) continue;
        of.free.erase(it);
        if (size > taken) of.free.emplace(base + taken, size - taken);
        return base;
    }
    auto& d = device(of.device);
    d.take(taken);
    auto fresh = device_addresses(of.device).allocate(taken, kPoolAlignment);
    if (!fresh) {
        d.give_back(taken);
        fail(CUDA_ERROR_OUT_OF_MEMORY);
    }
    commit(*fresh, taken);
    of.reserved += taken;
    of.reserved_high = std::max(of.reserved_high, of.reserved);
    return *fresh;
}

CUdeviceptr allocate(const std::shared_ptr<Pool>& of, uint64_t size, const Stream& by) {
    std::unique_lock lock(pools_mutex);
    require(!of->file, CUDA_ERROR_NOT_PERMITTED);
    require(size <= device(of->device).memory, CUDA_ERROR_OUT_OF_MEMORY);
    uint64_t taken = (size + kPoolAlignment - 1) / kPoolAlignment * kPoolAlignment;
    require(!of->props.maxSize || of->used + taken <= of->props.maxSize, CUDA_ERROR_OUT_OF_MEMORY);
    auto base = take_back(of, size, taken, &by);
    if (!base) {
        base = find_place(*of, taken);
        Range range;
        range.base = base;
        range.size = size;
        range.kind = MemoryKind::Pooled;
        range.device = of->device;
        range.readers = of->readers;
        range.writers = of->writers;
        memory_map().add(range);
        blocks()[base] = {of, taken, by.context->handle};
    }
    use(*of, taken);
    return base;
}

// The block is free when no later allocation of the same stream has it again.
void free_now(CUdeviceptr base, uint64_t generation) {
    std::unique_lock lock(pools_mutex);
    auto found = blocks().find(base);
    if (found == blocks().end() || found->second.generation != generation) return;
    auto [of, taken] = std::pair(found->second.pool, found->second.taken);
    blocks().erase(found);
    if (of->file) return unmap_shared(base);
    memory_map().remove(base);
    of->free.emplace(base, taken);
}

// False when the address is no block's.
bool free_in(const std::shared_ptr<Stream>& on, CUdeviceptr base) {
    uint64_t generation;
    {
        std::unique_lock lock(pools_mutex);
        auto found = blocks().find(base);
        if (found == blocks().end()) return false;
        auto& block = found->second;
        require(!block.freed_by);
        block.freed_by = on.get();
        block.pool->used -= block.taken;
        generation = ++block.generation;
    }
    on->submit([=] { free_now(base, generation); });
    return true;
}

AllocStep captured_allocation(const Pool& of, size_t size, const Stream& on) {
    CUDA_MEM_ALLOC_NODE_PARAMS p = {};
    p.poolProps = of.props;
    p.poolProps.handleTypes = CU_MEM_HANDLE_TYPE_NONE;
    p.bytesize = size;
    require(on.capture.sequence != nullptr, CUDA_ERROR_ILLEGAL_STATE);  // another thread may have ended it
    return alloc_step(p, *on.capture.sequence->graph, on.capture.tail);
}

void allocate_in(CUdeviceptr* out, size_t size, const std::shared_ptr<Pool>& of,
                 const std::shared_ptr<Stream>& on) {
    require(out && size > 0);
    if (capturing(*on)) {
        std::unique_lock lock(graph_mutex());
        auto step = captured_allocation(*of, size, *on);
        *out = step.params.dptr;
        captured(on, std::move(step));
        return;
    }
    *out = allocate(of, size, *on);
}

}  // namespace

void release_pools(int ordinal) {
    std::unique_lock lock(pools_mutex);
    std::set<std::shared_ptr<Pool>> all;
    if (auto own = device_pools().find(ordinal); own != device_pools().end()) all.insert(own->second.first);
    for (auto& pool : extra_pools())
        if (auto held = pool.lock(); held && held->device == ordinal) all.insert(held);
    for (auto& pool : all)
        if (pool->reserved > pool->threshold) trim(*pool, pool->threshold);
}

void forget_pooled(CUcontext owner) {
    std::unique_lock lock(pools_mutex);
    for (auto it = blocks().begin(); it != blocks().end();) {
        auto& [base, block] = *it;
        if (block.owner != owner) {
            ++it;
            continue;
        }
        if (block.pool->file) {
            unmap_shared(base);
        } else {
            memory_map().remove(base);
            if (!block.freed_by) block.pool->used -= block.taken;
            block.pool->free.emplace(base, block.taken);
        }
        it = blocks().erase(it);
    }
    for (auto& [ordinal, own] : device_pools()) trim(*own.first, 0);
}

bool free_pooled(CUdeviceptr pointer) {
    if (auto allocation = graph_allocation(pointer)) {
        std::unique_lock lock(graph_mutex());
        require(allocation->outstanding);
        allocation->outstanding = false;
        free_action(allocation)();
        return true;
    }
    return free_in(default_stream(), pointer);
}

CUmemoryPool pool_of(CUdeviceptr pointer) {
    std::unique_lock lock(pools_mutex);
    auto after = blocks().upper_bound(pointer);
    if (after == blocks().begin()) return nullptr;
    auto& [base, block] = *std::prev(after);
    return pointer - base < block.taken ? block.pool->handle : nullptr;
}

void apply_access(const CUmemAccessDesc& access, uint32_t& readers, uint32_t& writers) {
    require(access.location.type == CU_MEM_LOCATION_TYPE_DEVICE);
    uint32_t bit = 1u << device(access.location.id).ordinal;
    readers &= ~bit;
    writers &= ~bit;
    switch (access.flags) {
        case CU_MEM_ACCESS_FLAGS_PROT_NONE:
            break;
        case CU_MEM_ACCESS_FLAGS_PROT_READWRITE:
            writers |= bit;
            [[fallthrough]];
        case CU_MEM_ACCESS_FLAGS_PROT_READ:
            readers |= bit;
            break;
        default:
            fail(CUDA_ERROR_INVALID_VALUE);
    }
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuMemAllocAsync(CUdeviceptr* out, size_t size, CUstream handle) {
    return api([&] {
        auto on = stream(handle);
        require(out);
        *out = 0;
        if (size == 0) return;
        std::shared_ptr<Pool> of;
        {
            std::unique_lock lock(pools_mutex);
            of = pool(of_device(on->context->device.ordinal).current);
        }
        allocate_in(out, size, of, on);
    });
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* out, size_t size, CUmemoryPool handle, CUstream on) {
    return api([&] { allocate_in(out, size, pool(handle), stream(on)); });
}

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream handle) {
    return api([&] {
        auto on = stream(handle);
        if (capturing(*on)) {
            std::unique_lock lock(graph_mutex());
            auto allocation = graph_allocation(pointer);
            require(allocation && !allocation->freed_by && on->capture.sequence);
            allocation->freed_by = on->capture.sequence->graph.get();
            captured(on, FreeStep{pointer, allocation});
            return;
        }
        if (auto allocation = graph_allocation(pointer)) {
            std::unique_lock lock(graph_mutex());
            require(allocation->outstanding);
            allocation->outstanding = false;
            on->submit(free_action(allocation));
            return;
        }
        if (free_in(on, pointer)) return;
        // Any other allocation can be freed in a stream, too.
        auto range = memory_map().find(pointer);
        require(range && range->base == pointer && range->kind == MemoryKind::Device);
        on->submit([pointer] {
            if (memory_map().find(pointer)) free_range(memory_map().remove(pointer));
        });
    });
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* out, CUdevice dev) {
    return api([&] {
        require(out);
        std::unique_lock lock(pools_mutex);
        *out = of_device(dev).first->handle;
    });
}

CUresult cuDeviceGetMemPool(CUmemoryPool* out, CUdevice dev) {
    return api([&] {
        require(out);
        std::unique_lock lock(pools_mutex);
        *out = of_device(dev).current;
    });
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool handle) {
    return api([&] {
        std::unique_lock lock(pools_mutex);
        require(pool(handle)->device == device(dev).ordinal);
        of_device(dev).current = handle;
    });
}

namespace {

int device_of(const CUmemLocation* location, CUmemAllocationType type) {
    require(location && type == CU_MEM_ALLOCATION_TYPE_PINNED);
    require(location->type == CU_MEM_LOCATION_TYPE_DEVICE, CUDA_ERROR_NOT_SUPPORTED);
    return location->id;
}

}  // namespace

CUresult cuMemGetDefaultMemPool(CUmemoryPool* out, CUmemLocation* location, CUmemAllocationType type) {
    return api([&] {
        require(out);
        std::unique_lock lock(pools_mutex);
        *out = of_device(device_of(location, type)).first->handle;
    });
}

CUresult cuMemGetMemPool(CUmemoryPool* out, CUmemLocation* location, CUmemAllocationType type) {
    return api([&] {
        require(out);
        std::unique_lock lock(pools_mutex);
        *out = of_device(device_of(location, type)).current;
    });
}

CUresult cuMemSetMemPool(CUmemLocation* location, CUmemAllocationType type, CUmemoryPool handle) {
    return api([&] {
        std::unique_lock lock(pools_mutex);
        int dev = device_of(location, type);
        require(pool(handle)->device == device(dev).ordinal);
        of_device(dev).current = handle;
    });
}

CUresult cuMemPoolCreate(CUmemoryPool* out, const CUmemPoolProps* props) {
    return api([&] {
        require(out && props && props->allocType == CU_MEM_ALLOCATION_TYPE_PINNED);
        require(props->location.type == CU_MEM_LOCATION_TYPE_DEVICE, CUDA_ERROR_NOT_SUPPORTED);
        require((props->handleTypes & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR}) == 0,
                CUDA_ERROR_NOT_SUPPORTED);
        require(props->location.id >= 0 && props->location.id < device_count());
        std::unique_lock lock(pools_mutex);
        auto made = make_pool(*props, device(props->location.id).ordinal);
        extra_pools().push_back(made);
        *out = made->handle;
    });
}

CUresult cuMemPoolDestroy(CUmemoryPool handle) {
    return api([&] {
        std::unique_lock lock(pools_mutex);
        auto gone = pool(handle);
        require(!gone->is_default);
        auto& own = of_device(gone->device);
        if (own.current == handle) own.current = own.first->handle;
        pools().remove(handle);  // its memory goes when the last allocation of it is freed
        std::erase_if(extra_pools(), [&](auto& weak) { return weak.lock() == gone; });
    });
}

CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t keep) {
    return api([&] {
        std::unique_lock lock(pools_mutex);
        trim(*pool(handle), keep);
    });
}

CUresult cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute which, void* value) {
    return api([&] {
        require(value);
        std::unique_lock lock(pools_mutex);
        auto of = pool(handle);
        auto number = [&] { return *static_cast<const cuuint64_t*>(value); };
        switch (which) {
            case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
            case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
            case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
                of->reuse[static_cast<size_t>(which) - 1] = *static_cast<const int*>(value) != 0;
                return;
            case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
                of->threshold = number();
                return;
            case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
                require(number() == 0);
                of->reserved_high = of->reserved;
                return;
            case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
                require(number() == 0);
                of->used_high = of->used;
                return;
            default:
                fail(CUDA_ERROR_INVALID_VALUE);
        }
    });
}

CUresult cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute which, void* value) {
    return api([&] {
        require(value);
        std::unique_lock lock(pools_mutex);
        auto of = pool(handle);
        auto put = [&](uint64_t number) { *static_cast<cuuint64_t*>(value) = number; };
        switch (which) {
            case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
            case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
            case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
                *static_cast<int*>(value) = of->reuse[static_cast<size_t>(which) - 1];
                return;
            case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
                return put(of->threshold);
            case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
                return put(of->reserved);
            case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
                return put(of->reserved_high);
            case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
                return put(of->used);
            case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
                return put(of->used_high);
            default:
                fail(CUDA_ERROR_INVALID_VALUE);
        }
    });
}

CUresult cuMemPoolSetAccess(CUmemoryPool handle, const CUmemAccessDesc* list, size_t count) {
    return api([&] {
        require(list && count);
        std::unique_lock lock(pools_mutex);
        auto of = pool(handle);
        auto readers = of->readers, writers = of->writers;
        for (size_t i = 0; i < count; ++i) {
            // A device always reaches its own memory.
            require(list[i].location.id != of->device || list[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
            apply_access(list[i], readers, writers);
        }
        of->readers = readers;
        of->writers = writers;
        for (auto& [base, block] : blocks())
            if (block.pool == of) memory_map().update(base, readers, writers);
    });
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool handle, CUmemLocation* location) {
    return api([&] {
        require(flags && location && location->type == CU_MEM_LOCATION_TYPE_DEVICE);
        std::unique_lock lock(pools_mutex);
        auto of = pool(handle);
        uint32_t bit = 1u << device(location->id).ordinal;
        *flags = of->writers & bit   ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                 : of->readers & bit ? CU_MEM_ACCESS_FLAGS_PROT_READ
                                     : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    });
}

CUresult cuMemPoolExportToShareableHandle(void* out, CUmemoryPool handle, CUmemAllocationHandleType type,
                                          unsigned long long flags) {
    return api([&] {
        require(out && flags == 0 && type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        auto of = pool(handle);
        require(of->props.handleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR && !of->file);
        *static_cast<int*>(out) = exported(device_file(of->device));
    });
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool* out, void* handle, CUmemAllocationHandleType type,
                                            unsigned long long flags) {
    return api([&] {
        require(out && flags == 0 && type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        auto file = import_file(static_cast<int>(reinterpret_cast<intptr_t>(handle)));
        std::unique_lock lock(pools_mutex);
        CUmemPoolProps props = {};
        props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
        props.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
        props.location.id = file->device;
        auto made = make_pool(props, device(file->device).ordinal);
        made->file = std::move(file);
        extra_pools().push_back(made);
        *out = made->handle;
    });
}

namespace {

struct ExportedPointer {
    uint64_t magic, offset, size;
};
constexpr uint64_t kPointerMagic = 0x746e696f70677073;

}  // namespace

CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData* out, CUdeviceptr pointer) {
    return api([&] {
        require(out);
        std::unique_lock lock(pools_mutex);
        auto found = blocks().find(pointer);
        require(found != blocks().end() && !found->second.freed_by);
        auto& of = *found->second.pool;
        require(of.props.handleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR && !of.file);
        ExportedPointer data = {kPointerMagic, pointer - device_base(of.device),
                                memory_map().find(pointer)->size};
        *out = {};
        memcpy(out, &data, sizeof data);
    });
}

CUresult cuMemPoolImportPointer(CUdeviceptr* out, CUmemoryPool handle, CUmemPoolPtrExportData* shared) {
    return api([&] {
        require(out && shared);
        auto context = current();
        ExportedPointer data;
        memcpy(&data, shared, sizeof data);
        std::unique_lock lock(pools_mutex);
        auto of = pool(handle);
        require(of->file && data.magic == kPointerMagic);
        Range range;
        range.size = data.size;
        range.kind = MemoryKind::Pooled;
        range.device = of->device;
        range.readers = of->readers;
        range.writers = of->writers;
        *out = map_shared(of->file, data.offset, range);
        blocks()[*out] = {of, 0, context->handle};
    });
}
