// SPDX-License-Identifier: MIT
#include "managed_memory.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cricket/round_up.h"

namespace cricket::server {
namespace {

constexpr uint64_t page = 4096;

bool same_place(const CUmemLocation& a, const CUmemLocation& b) { return a.type == b.type && a.id == b.id; }

int ordinal_of(const CUmemLocation& location) {
    switch (location.type) {
        case CU_MEM_LOCATION_TYPE_DEVICE:
            return location.id;
        case CU_MEM_LOCATION_TYPE_HOST:
            return CU_DEVICE_CPU;
        default:
            return CU_DEVICE_INVALID;
    }
}

}  // namespace

void ManagedMemory::add(const ManagedAllocation& allocation) {
    ManagedAllocation& added = allocations_[allocation.address] = allocation;
    if (!added.id) added.id = next_id_++;
    hints_[allocation.address][0] = {};
}

void ManagedMemory::remove(uint64_t address) {
    allocations_.erase(address);
    hints_.erase(address);
}

const ManagedAllocation* ManagedMemory::find(uint64_t address, uint64_t bytes) const {
    auto next = allocations_.upper_bound(address);
    if (next == allocations_.begin()) return nullptr;
    const ManagedAllocation& allocation = std::prev(next)->second;
    const uint64_t inside = address - allocation.address;
    return inside < allocation.bytes && bytes <= allocation.bytes - inside ? &allocation : nullptr;
}

CUresult ManagedMemory::check(CUmemLocation location, bool numa) const {
    if (location.type == CU_MEM_LOCATION_TYPE_HOST) return CUDA_SUCCESS;
    if (location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA || location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT)
        return numa ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    if (location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    int devices = 0;
    if (const CUresult status = driver_.cuDeviceGetCount(&devices); status != CUDA_SUCCESS) return status;
    return location.id >= 0 && location.id < devices ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

// Applies `change` to the hints of whole pages that hold the range.
template <class Change>
CUresult ManagedMemory::change(uint64_t address, uint64_t bytes, const Change& change) {
    const ManagedAllocation* allocation = find(address, bytes);
    if (!allocation || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    Hints& hints = hints_.at(allocation->address);
    const uint64_t start = (address - allocation->address) / page * page;
    const uint64_t end = round_up(address - allocation->address + bytes, page);
    for (const uint64_t border : {start, end}) hints.try_emplace(border, std::prev(hints.upper_bound(border))->second);
    for (auto hint = hints.find(start); hint != hints.end() && hint->first < end; ++hint) change(hint->second);
    return CUDA_SUCCESS;
}

CUresult ManagedMemory::advise(uint64_t address, uint64_t bytes, CUmem_advise advice, CUmemLocation location) {
    const bool placed = advice == CU_MEM_ADVISE_SET_PREFERRED_LOCATION || advice == CU_MEM_ADVISE_SET_ACCESSED_BY ||
                        advice == CU_MEM_ADVISE_UNSET_ACCESSED_BY;
    if (placed) {
        const CUresult status = check(location, advice == CU_MEM_ADVISE_SET_PREFERRED_LOCATION);
        if (status != CUDA_SUCCESS) return status;
        if (location.type == CU_MEM_LOCATION_TYPE_HOST || location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT) location.id = 0;
    }
    switch (advice) {
        case CU_MEM_ADVISE_SET_READ_MOSTLY:
        case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
            return change(address, bytes, [&](Hint& hint) { hint.read_mostly = advice == CU_MEM_ADVISE_SET_READ_MOSTLY; });
        case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
            return change(address, bytes, [&](Hint& hint) { hint.preferred = location; });
        case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
            return change(address, bytes, [&](Hint& hint) { hint.preferred = {CU_MEM_LOCATION_TYPE_INVALID, 0}; });
        case CU_MEM_ADVISE_SET_ACCESSED_BY:
            return change(address, bytes, [&](Hint& hint) { hint.accessed_by.insert(ordinal_of(location)); });
        case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
            return change(address, bytes, [&](Hint& hint) { hint.accessed_by.erase(ordinal_of(location)); });
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult ManagedMemory::prefetch(uint64_t address, uint64_t bytes, CUmemLocation location) {
    if (const CUresult status = check(location, true); status != CUDA_SUCCESS) return status;
    if (location.type == CU_MEM_LOCATION_TYPE_HOST || location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT) location.id = 0;
    return change(address, bytes, [&](Hint& hint) { hint.prefetched = location; });
}

CUresult ManagedMemory::range_attribute(uint64_t address, uint64_t bytes, CUmem_range_attribute attribute, uint64_t size,
                                        std::vector<int32_t>* out) const {
    const ManagedAllocation* allocation = find(address, bytes);
    if (!allocation || bytes == 0 || size == 0 || size % sizeof(int32_t)) return CUDA_ERROR_INVALID_VALUE;
    if (attribute != CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY && size != sizeof(int32_t)) return CUDA_ERROR_INVALID_VALUE;
    const Hints& hints = hints_.at(allocation->address);
    const uint64_t start = address - allocation->address;
    const auto first = std::prev(hints.upper_bound(start));
    // What all pages of the range agree on.
    Hint all = first->second;
    bool same_preferred = true, same_prefetched = true;
    for (auto hint = std::next(first); hint != hints.end() && hint->first < start + bytes; ++hint) {
        all.read_mostly &= hint->second.read_mostly;
        same_preferred &= same_place(all.preferred, hint->second.preferred);
        same_prefetched &= same_place(all.prefetched, hint->second.prefetched);
        std::erase_if(all.accessed_by, [&](int device) { return !hint->second.accessed_by.count(device); });
    }
    constexpr CUmemLocation nowhere{CU_MEM_LOCATION_TYPE_INVALID, 0};
    const CUmemLocation preferred = same_preferred ? all.preferred : nowhere;
    const CUmemLocation prefetched = same_prefetched ? all.prefetched : nowhere;
    switch (attribute) {
        case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
            *out = {all.read_mostly};
            return CUDA_SUCCESS;
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
            *out = {ordinal_of(preferred)};
            return CUDA_SUCCESS;
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
            *out = {ordinal_of(prefetched)};
            return CUDA_SUCCESS;
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
            *out = {static_cast<int32_t>(preferred.type)};
            return CUDA_SUCCESS;
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
            *out = {preferred.id};
            return CUDA_SUCCESS;
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
            *out = {static_cast<int32_t>(prefetched.type)};
            return CUDA_SUCCESS;
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
            *out = {prefetched.id};
            return CUDA_SUCCESS;
        case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
            out->clear();
            for (int device : all.accessed_by)
                if (device >= 0) out->push_back(device);
            if (all.accessed_by.count(CU_DEVICE_CPU)) out->push_back(CU_DEVICE_CPU);
            out->resize(size / sizeof(int32_t), CU_DEVICE_INVALID);
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

nlohmann::json ManagedMemory::describe() const {
    using nlohmann::json;
    json list = json::array();
    for (const auto& [address, one] : allocations_) {
        json hints = json::array();
        for (const auto& [offset, hint] : hints_.at(address))
            hints.push_back({offset, hint.read_mostly, static_cast<int>(hint.preferred.type), hint.preferred.id,
                             static_cast<int>(hint.prefetched.type), hint.prefetched.id, hint.accessed_by});
        list.push_back({address, one.bytes, one.device, one.context, one.flags, one.id, hints});
    }
    return list;
}

void ManagedMemory::recreate(const nlohmann::json& description) {
    for (const auto& one : description) {
        const ManagedAllocation allocation{one[0], one[1], one[2], one[3], one[4], one[5]};
        add(allocation);
        next_id_ = std::max(next_id_, allocation.id + 1);
        for (const auto& hint : one[6]) {
            Hint& made = hints_[allocation.address][hint[0]];
            made.read_mostly = hint[1];
            made.preferred = {static_cast<CUmemLocationType>(hint[2].get<int>()), hint[3]};
            made.prefetched = {static_cast<CUmemLocationType>(hint[4].get<int>()), hint[5]};
            for (const auto& device : hint[6]) made.accessed_by.insert(device.get<int>());
        }
    }
}

}  // namespace cricket::server
