// SPDX-License-Identifier: MIT
#include "heap.h"

#include <algorithm>

#include "memory.h"

namespace softgpu {

// Blocks lie one after the other from the start of the heap to its end; free neighbours merge when space is
// sought.
struct DeviceHeap::Block {
    uint64_t size;  // of the payload, a multiple of 16
    uint64_t used;
};

namespace {

AddressAllocator& heap_addresses() {
    static auto* allocator = new AddressAllocator(kHeapBase, kHeapSize);
    return *allocator;
}

}  // namespace

DeviceHeap::DeviceHeap(int device, CUcontext owner) : device_(device), owner_(owner) {}

DeviceHeap::~DeviceHeap() {
    if (!base_) return;
    memory_map().remove(base_);
    decommit(base_, size_);
    heap_addresses().release(base_, size_);
}

void DeviceHeap::resize(size_t size) {
    std::unique_lock lock(mutex_);
    require(!base_ && size <= kHeapSize / 2);
    size_ = std::max<size_t>(4096, (size + 4095) / 4096 * 4096);
}

void DeviceHeap::create() {
    auto base = heap_addresses().allocate(size_, kGranularity);
    if (!base) return;
    commit(*base, size_);
    *reinterpret_cast<Block*>(*base) = {size_ - sizeof(Block), 0};
    Range range;
    range.base = *base;
    range.size = size_;
    range.kind = MemoryKind::Heap;
    range.device = device_;
    range.owner = owner_;
    memory_map().add(range);
    base_ = *base;
}

DeviceHeap::Block* DeviceHeap::next(Block* block) const {
    auto address = reinterpret_cast<uint64_t>(block + 1) + block->size;
    return address + sizeof(Block) > base_ + size_ ? nullptr : reinterpret_cast<Block*>(address);
}

void* DeviceHeap::allocate(size_t size) {
    std::unique_lock lock(mutex_);
    if (!base_) create();
    if (!base_ || size == 0 || size > size_) return nullptr;
    size = (size + 15) / 16 * 16;
    for (auto block = reinterpret_cast<Block*>(base_); block; block = next(block)) {
        if (block->used) continue;
        for (auto after = next(block); after && !after->used; after = next(block))
            block->size += sizeof(Block) + after->size;
        if (block->size < size) continue;
        if (block->size >= size + sizeof(Block) + 16) {
            // From its end: the first small piece of a heap is at the heap's end, as on a real device.
            block->size -= size + sizeof(Block);
            block = reinterpret_cast<Block*>(reinterpret_cast<char*>(block + 1) + block->size);
            block->size = size;
        }
        block->used = 1;
        return block + 1;
    }
    return nullptr;
}

void DeviceHeap::release(void* address) {
    std::unique_lock lock(mutex_);
    if (!base_) return;
    for (auto block = reinterpret_cast<Block*>(base_); block; block = next(block))
        if (block + 1 == address) block->used = 0;
}

}  // namespace softgpu
