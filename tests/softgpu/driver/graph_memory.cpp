// SPDX-License-Identifier: MIT
// Memory nodes. An allocation has its addresses from the making of its node until the last graph with the
// node is gone, and memory there from the step that allocates to the one that frees. Addresses are chosen as
// NVIDIA's driver chooses them (measured on an H200, driver 580), since kernels hold them: who makes graphs again
// has to get the same.
#include <algorithm>
#include <utility>

#include "graph.h"
#include "memory.h"
#include "pool.h"

namespace softgpu {
namespace {

// Several in one place where a graph has it again; the latest is the last of them.
std::multimap<CUdeviceptr, std::weak_ptr<GraphAllocation>>& allocations() {
    return immortal<std::multimap<CUdeviceptr, std::weak_ptr<GraphAllocation>>>();
}

constexpr uint64_t kExtent = 32 << 20;  // extents are multiples of it

// The addresses of one device that extents are made of, one behind the other. What graphs have returned is
// never joined, but a part of it may be had.
class Extents {
  public:
    explicit Extents(unsigned device) : fresh_(kGraphBase + device * kPart), end_(fresh_ + kPart) {}

    // `wish`: where the extent would lie directly behind the one before it; 0: anywhere. The smallest that was
    // returned is taken otherwise, the latest of those of one size.
    uint64_t take(uint64_t size, uint64_t wish) {
        auto found = returned_.end();
        for (auto it = returned_.begin(); it != returned_.end(); ++it) {
            if (it->size < size) continue;
            bool better = found == returned_.end() || (found->base != wish && it->size <= found->size);
            if (better || it->base == wish) found = it;
        }
        if (found != returned_.end() && wish != fresh_) {
            auto base = found->base;
            *found = {base + size, found->size - size};
            if (found->size == 0) returned_.erase(found);
            return base;
        }
        require(size <= end_ - fresh_, CUDA_ERROR_OUT_OF_MEMORY);
        return std::exchange(fresh_, fresh_ + size);
    }

    void give_back(const Extent& extent) { returned_.push_back(extent); }

  private:
    static constexpr uint64_t kPart = kGraphSize / kMaxDevices;
    uint64_t fresh_;
    const uint64_t end_;
    std::vector<Extent> returned_;  // the latest last
};

Extents& extents(int device) {
    static auto* all = [] {
        auto* list = new std::vector<Extents>;
        for (unsigned i = 0; i < kMaxDevices; ++i) list->emplace_back(i);
        return list;
    }();
    return (*all)[static_cast<size_t>(device)];
}

// Of this graph, or of the one that it is inside of. A graph that has become another's child keeps its own.
std::shared_ptr<GraphHeap> heap_of(Graph& graph, int device) {
    auto of = &graph;
    while (of->owner && of->heaps.empty()) of = of->owner->graph;
    auto& heap = of->heaps[device];
    if (!heap) heap = std::make_shared<GraphHeap>();
    heap->device = device;
    return heap;
}

// What the graph has freed before these nodes' successor can be had again by it: the place of the smallest that
// fits, 0 when there is none.
uint64_t had_again(const GraphHeap& heap, const std::vector<Dependency>& before, uint64_t size) {
    std::shared_ptr<GraphAllocation> from;
    std::pair<uint64_t, uint64_t> best = {};
    std::set<const Node*> seen;
    auto open = before;
    while (!open.empty()) {
        auto node = open.back().node;
        open.pop_back();
        if (!seen.insert(node).second) continue;
        open.insert(open.end(), node->before.begin(), node->before.end());
        auto free = std::get_if<FreeStep>(&node->step);
        auto freed = free ? free->allocation.lock() : nullptr;
        if (!freed || freed->heap.get() != &heap) continue;
        for (auto& [base, room] : freed->rest) {
            if (room < size || (from && std::pair(room, base) >= std::pair(best.second, best.first))) continue;
            from = freed;
            best = {base, room};
        }
    }
    if (!from) return 0;
    auto [base, room] = best;
    from->rest.erase(base);
    if (room > size) from->rest.emplace(base + size, room - size);
    return base;
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

GraphHeap::~GraphHeap() {
    std::unique_lock lock(graph_mutex());
    // The first one comes back last, to be the first that is had again.
    for (auto it = extents.rbegin(); it != extents.rend(); ++it)
        softgpu::extents(device).give_back(*it);
}

uint64_t GraphHeap::allocate(uint64_t size) {
    auto found = free.end();
    for (auto it = free.begin(); it != free.end(); ++it)
        if (it->second >= size && (found == free.end() || it->second < found->second)) found = it;
    if (found == free.end()) {
        uint64_t room = (size + kExtent - 1) / kExtent * kExtent;
        uint64_t wish = extents.empty() ? 0 : extents.back().base + extents.back().size;
        uint64_t base = softgpu::extents(device).take(room, wish);
        extents.push_back({base, room});
        // Directly behind the last one, it is one with what is left of that.
        auto behind = free.lower_bound(base);
        if (base == wish && behind != free.begin()) {
            auto left = std::prev(behind);
            if (left->first + left->second == base) found = left;
        }
        if (found == free.end())
            found = free.emplace(base, room).first;
        else
            found->second += room;
    }
    auto [base, room] = *found;
    free.erase(found);
    if (room > size) free.emplace(base + size, room - size);
    return base;
}

GraphAllocation::~GraphAllocation() {
    std::unique_lock lock(graph_mutex());
    auto [first, last] = allocations().equal_range(address);
    while (first != last) first = first->second.expired() ? allocations().erase(first) : std::next(first);
    if (there) free_now();
}

void GraphAllocation::free_now() {
    there = false;
    memory_map().remove(address);
    decommit(address, taken);
    softgpu::device(device).give_back(taken);
    statistics(device).used -= taken;
}

AllocStep alloc_step(CUDA_MEM_ALLOC_NODE_PARAMS& p, Graph& into, const std::vector<Dependency>& before) {
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
    allocation->heap = heap_of(into, d.ordinal);
    auto base = had_again(*allocation->heap, before, allocation->taken);
    if (!base) base = allocation->heap->allocate(allocation->taken);
    allocation->rest.emplace(base, allocation->taken);
    allocation->address = p.dptr = base;
    allocations().emplace(base, allocation);
    step.params.poolProps = p.poolProps;
    step.params.bytesize = p.bytesize;
    step.params.dptr = p.dptr;
    return step;
}

std::shared_ptr<GraphAllocation> graph_allocation(CUdeviceptr address) {
    std::unique_lock lock(graph_mutex());
    auto [first, last] = allocations().equal_range(address);
    while (first != last)
        if (auto found = (--last)->second.lock()) return found;
    return nullptr;
}

bool in_graph_memory(CUdeviceptr address, size_t size) {
    std::unique_lock lock(graph_mutex());
    return std::any_of(allocations().begin(), allocations().upper_bound(address), [&](auto& entry) {
        auto allocation = entry.second.lock();
        return allocation && address - allocation->address < allocation->size &&
               size <= allocation->size - (address - allocation->address);
    });
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
        allocation->there = true;
        auto& numbers = statistics(allocation->device);
        uint64_t used = numbers.used += allocation->taken;
        raise(numbers.used_high, used);
        raise(numbers.reserved_high, used);
    };
}

Action free_action(const std::shared_ptr<GraphAllocation>& allocation) {
    return [allocation] {
        if (!allocation->there)
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
