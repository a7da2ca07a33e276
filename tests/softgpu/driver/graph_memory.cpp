// SPDX-License-Identifier: MIT
// Memory nodes. An allocation has its addresses from the making of its node until the last graph with the
// node is gone, and memory there from the step that allocates to the one that frees.
#include "graph.h"
#include "memory.h"
#include "pool.h"

namespace softgpu {
namespace {

std::map<CUdeviceptr, std::weak_ptr<GraphAllocation>>& allocations() {
    return immortal<std::map<CUdeviceptr, std::weak_ptr<GraphAllocation>>>();
}

struct Statistics {
    std::atomic<uint64_t> used = 0, used_high = 0, reserved_high = 0;
};
Statistics& statistics(int device) {
    static auto* all = new std::array<Statistics, kMaxDevices>;
    return (*all)[static_cast<size_t>(device)];
}

void raise(std::atomic<uint64_t>& high, uint64_t value) {
    for (uint64_t before = high; before < value && !high.compare_exchange_weak(before, value);) continue;
}

}  // namespace

GraphAllocation::~GraphAllocation() {
    std::unique_lock lock(graph_mutex());
    allocations().erase(address);
    if (memory_map().find(address)) free_now();
    device_addresses(device).release(address, taken);
}

void GraphAllocation::free_now() {
    memory_map().remove(address);
    decommit(address, taken);
    softgpu::device(device).give_back(taken);
    statistics(device).used -= taken;
}

AllocStep alloc_step(CUDA_MEM_ALLOC_NODE_PARAMS& p) {
    require(p.bytesize > 0 && (p.accessDescCount == 0 || p.accessDescs));
    require(p.poolProps.allocType == CU_MEM_ALLOCATION_TYPE_PINNED);
    require(p.poolProps.location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
            p.poolProps.handleTypes == CU_MEM_HANDLE_TYPE_NONE);
    auto allocation = std::make_shared<GraphAllocation>();
    auto& d = device(p.poolProps.location.id);
    allocation->device = d.ordinal;
    allocation->owner = current()->handle;
    allocation->size = p.bytesize;
    require(p.bytesize <= d.memory, CUDA_ERROR_OUT_OF_MEMORY);
    allocation->taken = (p.bytesize + kPoolAlignment - 1) / kPoolAlignment * kPoolAlignment;
    allocation->readers = allocation->writers = 1u << d.ordinal;
    AllocStep step{{}, {p.accessDescs, p.accessDescs + p.accessDescCount}, allocation};
    for (auto& access : step.access) apply_access(access, allocation->readers, allocation->writers);
    auto base = device_addresses(d.ordinal).allocate(allocation->taken, kPoolAlignment);
    require(base.has_value(), CUDA_ERROR_OUT_OF_MEMORY);
    allocation->address = p.dptr = *base;
    allocations()[*base] = allocation;
    step.params.poolProps = p.poolProps;
    step.params.bytesize = p.bytesize;
    step.params.dptr = p.dptr;
    return step;
}

std::shared_ptr<GraphAllocation> graph_allocation(CUdeviceptr address) {
    std::unique_lock lock(graph_mutex());
    auto found = allocations().find(address);
    return found == allocations().end() ? nullptr : found->second.lock();
}

bool in_graph_memory(CUdeviceptr address, size_t size) {
    std::unique_lock lock(graph_mutex());
    auto after = allocations().upper_bound(address);
    if (after == allocations().begin()) return false;
    auto allocation = std::prev(after)->second.lock();
    return allocation && address - allocation->address < allocation->size &&
           size <= allocation->size - (address - allocation->address);
}

Action allocate_action(const std::shared_ptr<GraphAllocation>& allocation) {
    return [allocation] {
        auto& d = device(allocation->device);
        try {
            d.take(allocation->taken);
        } catch (const Error& error) {
            throw Sticky{error.code, "no memory left for a graph's allocation"};
        }
        commit(allocation->address, allocation->taken);
        Range range;
        range.base = allocation->address;
        range.size = allocation->size;
        range.kind = MemoryKind::Pooled;
        range.device = allocation->device;
        range.readers = allocation->readers;
        range.writers = allocation->writers;
        memory_map().add(range);
        auto& numbers = statistics(allocation->device);
        uint64_t used = numbers.used += allocation->taken;
        raise(numbers.used_high, used);
        raise(numbers.reserved_high, used);
    };
}

Action free_action(const std::shared_ptr<GraphAllocation>& allocation) {
    return [allocation] {
        if (!memory_map().find(allocation->address))
            throw Sticky{CUDA_ERROR_INVALID_VALUE, "a graph freed memory that is not allocated"};
        allocation->free_now();
    };
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuDeviceGraphMemTrim(CUdevice dev) {
    return api([&] { device(dev); });  // what is freed is given back at once
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice dev, CUgraphMem_attribute which, void* value) {
    return api([&] {
        require(value);
        auto& numbers = statistics(device(dev).ordinal);
        auto put = [&](uint64_t number) { *static_cast<cuuint64_t*>(value) = number; };
        switch (which) {
            case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
            case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
                return put(numbers.used);
            case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
                return put(numbers.used_high);
            case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
                return put(numbers.reserved_high);
            default:
                fail(CUDA_ERROR_INVALID_VALUE);
        }
    });
}

CUresult cuDeviceSetGraphMemAttribute(CUdevice dev, CUgraphMem_attribute which, void* value) {
    return api([&] {
        require(value && *static_cast<cuuint64_t*>(value) == 0);
        auto& numbers = statistics(device(dev).ordinal);
        if (which == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
            numbers.used_high = numbers.used.load();
        else if (which == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)
            numbers.reserved_high = numbers.used.load();
        else
            fail(CUDA_ERROR_INVALID_VALUE);
    });
}
