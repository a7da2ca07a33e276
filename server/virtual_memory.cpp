// SPDX-License-Identifier: MIT
#include "virtual_memory.h"

#include <nlohmann/json.hpp>

#include "cricket/round_up.h"
#include "cricket/wire.h"
#include "log.h"

namespace cricket::server {
namespace {

constexpr uint64_t granule = 2u << 20;
constexpr uint64_t large = 1u << 30;
constexpr uint64_t host_page = 4096;
constexpr int tries = 16;

bool power_of_two(uint64_t n) { return n && (n & (n - 1)) == 0; }

CUresult refuse_host(const char* what) {
    log_error("%s: memory of the host in the virtual-memory API cannot cross", what);
    return CUDA_ERROR_NOT_SUPPORTED;
}

bool of_host(const CUmemLocation& location) {
    return location.type == CU_MEM_LOCATION_TYPE_HOST || location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA;
}

}  // namespace

VirtualMemory::VirtualMemory(const DriverTable& driver, Objects& objects, DeviceMemory& device_memory)
    : driver_(driver), objects_(objects), device_memory_(device_memory) {
    free_.give(wire::virtual_base, wire::virtual_span);
}

bool VirtualMemory::reserve_exactly(uint64_t address, uint64_t bytes) {
    CUdeviceptr got = 0;
    if (driver_.cuMemAddressReserve(&got, bytes, granule, address, 0) != CUDA_SUCCESS) return false;
    if (got == address) return true;
    driver_.cuMemAddressFree(got, bytes);
    return false;
}

CUresult VirtualMemory::reserve(uint64_t bytes, uint64_t alignment, uint64_t wanted, uint64_t flags,
                                CUdeviceptr* out) {
    if (bytes == 0 || bytes % host_page || flags || wanted % host_page || (alignment && !power_of_two(alignment)))
        return CUDA_ERROR_INVALID_VALUE;
    if (bytes > wire::virtual_span) return CUDA_ERROR_OUT_OF_MEMORY;
    const uint64_t whole = round_up(bytes, granule);
    // The driver puts large ranges elsewhere unless they begin at such a border.
    const uint64_t step = std::max({alignment, granule, bytes >= large ? large : granule});
    uint64_t address = 0;
    if (wanted && wanted % step == 0 && free_.take_exact(wanted, whole)) {
        if (reserve_exactly(wanted, bytes)) {
            reservations_[wanted] = {bytes, true};
            *out = wanted;
            return CUDA_SUCCESS;
        }
        free_.give(wanted, whole);
    }
    // What the driver does not give stays taken: something of this process is there.
    for (int i = 0; i < tries && free_.take(whole, step, &address); ++i) {
        if (!reserve_exactly(address, bytes)) continue;
        reservations_[address] = {bytes, true};
        *out = address;
        return CUDA_SUCCESS;
    }
    if (!device_memory_.take_addresses(whole, step, &address)) return CUDA_ERROR_OUT_OF_MEMORY;
    reservations_[address] = {bytes, false};
    *out = address;
    return CUDA_SUCCESS;
}

CUresult VirtualMemory::free(CUdeviceptr address, uint64_t bytes) {
    auto found = reservations_.find(address);
    if (found == reservations_.end() || found->second.bytes != bytes) return CUDA_ERROR_INVALID_VALUE;
    auto mapped = mappings_.lower_bound(address);
    if (mapped != mappings_.end() && mapped->first < address + bytes) return CUDA_ERROR_INVALID_VALUE;
    if (found->second.own) {
        if (const CUresult status = driver_.cuMemAddressFree(address, bytes); status != CUDA_SUCCESS) return status;
        free_.give(address, round_up(bytes, granule));
    } else {
        device_memory_.give_addresses(address, round_up(bytes, granule));
    }
    reservations_.erase(found);
    return CUDA_SUCCESS;
}

const VirtualMemory::Reservation* VirtualMemory::find(uint64_t address, uint64_t bytes, uint64_t* start) const {
    auto next = reservations_.upper_bound(address);
    if (next == reservations_.begin()) return nullptr;
    --next;
    const uint64_t inside = address - next->first;
    if (inside >= next->second.bytes || bytes > next->second.bytes - inside) return nullptr;
    if (start) *start = next->first;
    return &next->second;
}

CUresult VirtualMemory::create(uint64_t bytes, const CUmemAllocationProp& properties, uint64_t flags,
                               uint64_t* number) {
    if (of_host(properties.location)) return refuse_host("cuMemCreate");
    Physical made;
    made.bytes = bytes;
    made.properties = properties;
    made.properties.win32HandleMetaData = nullptr;
    const CUresult status = driver_.cuMemCreate(&made.handle, bytes, &made.properties, flags);
    if (status != CUDA_SUCCESS) return status;
    made.references = 1;
    *number = objects_.add(HandleKind::MemAllocation, reinterpret_cast<void*>(made.handle));
    allocations_[*number] = made;
    return CUDA_SUCCESS;
}

// An allocation whose handle the application still holds.
VirtualMemory::Physical* VirtualMemory::living(uint64_t number) {
    auto found = allocations_.find(number);
    return found == allocations_.end() || !found->second.references ? nullptr : &found->second;
}

void VirtualMemory::settle(uint64_t number) {
    auto found = allocations_.find(number);
    if (found == allocations_.end() || found->second.references || found->second.mappings) return;
    if (found->second.published && exchange) exchange->withdraw(found->second.shared.name);
    driver_.cuMemRelease(found->second.handle);
    objects_.remove(HandleKind::MemAllocation, number);
    allocations_.erase(found);
}

CUresult VirtualMemory::release(uint64_t number) {
    Physical* allocation = living(number);
    if (!allocation) return CUDA_ERROR_INVALID_VALUE;
    --allocation->references;
    settle(number);
    return CUDA_SUCCESS;
}

CUresult VirtualMemory::map(CUdeviceptr address, uint64_t bytes, uint64_t offset, uint64_t number, uint64_t flags) {
    Physical* allocation = living(number);
    if (!allocation || bytes == 0 || !find(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
    const CUresult status = driver_.cuMemMap(address, bytes, offset, allocation->handle, flags);
    if (status != CUDA_SUCCESS) return status;
    mappings_[address] = {bytes, offset, number, {}};
    ++allocation->mappings;
    return CUDA_SUCCESS;
}

CUresult VirtualMemory::unmap(CUdeviceptr address, uint64_t bytes) {
    if (bytes == 0 || !find(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
    // Whole mappings only; what is not mapped between them does not matter.
    auto first = mappings_.upper_bound(address);
    if (first != mappings_.begin() && std::prev(first)->first + std::prev(first)->second.bytes > address) --first;
    auto last = first;
    for (; last != mappings_.end() && last->first < address + bytes; ++last)
        if (last->first < address || last->first + last->second.bytes > address + bytes) return CUDA_ERROR_INVALID_VALUE;
    while (first != last) {
        const CUresult status = driver_.cuMemUnmap(first->first, first->second.bytes);
        if (status != CUDA_SUCCESS) return status;
        const uint64_t number = first->second.allocation;
        first = mappings_.erase(first);
        --allocations_.at(number).mappings;
        settle(number);
    }
    return CUDA_SUCCESS;
}

CUresult VirtualMemory::set_access(CUdeviceptr address, uint64_t bytes, const std::vector<CUmemAccessDesc>& access) {
    if (bytes == 0 || access.empty() || !find(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
    const CUresult status = driver_.cuMemSetAccess(address, bytes, access.data(), access.size());
    if (status != CUDA_SUCCESS) return status;
    for (auto mapping = mappings_.lower_bound(address); mapping != mappings_.end() && mapping->first < address + bytes; ++mapping)
        for (const CUmemAccessDesc& one : access)
            if (one.location.type == CU_MEM_LOCATION_TYPE_DEVICE) mapping->second.access[one.location.id] = one.flags;
    return CUDA_SUCCESS;
}

CUresult VirtualMemory::get_access(CUdeviceptr address, const CUmemLocation& location, unsigned long long* flags) {
    if (!address) return CUDA_ERROR_INVALID_VALUE;
    if (location.type == CU_MEM_LOCATION_TYPE_INVALID) return CUDA_ERROR_INVALID_DEVICE;
    if (!find(address, 1)) return CUDA_ERROR_INVALID_VALUE;
    return driver_.cuMemGetAccess(flags, &location, address);
}

CUresult VirtualMemory::properties(uint64_t number, CUmemAllocationProp* out) {
    Physical* allocation = living(number);
    if (!allocation) return CUDA_ERROR_INVALID_VALUE;
    const CUresult status = driver_.cuMemGetAllocationPropertiesFromHandle(out, allocation->handle);
    out->win32HandleMetaData = nullptr;
    return status;
}

CUresult VirtualMemory::retain(CUdeviceptr address, uint64_t* number) {
    auto next = mappings_.upper_bound(address);
    if (next == mappings_.begin()) return CUDA_ERROR_INVALID_VALUE;
    --next;
    if (address - next->first >= next->second.bytes) return CUDA_ERROR_INVALID_VALUE;
    *number = next->second.allocation;
    ++allocations_.at(*number).references;
    return CUDA_SUCCESS;
}

CUresult VirtualMemory::export_name(uint64_t number, CUmemAllocationHandleType type, uint64_t flags, SharedHandle* out) {
    Physical* allocation = living(number);
    if (!allocation) return CUDA_ERROR_INVALID_VALUE;
    if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) {
        alignas(16) std::byte room[128];  // the driver says what is wrong with it; what it gives names nothing elsewhere
        const CUresult status = driver_.cuMemExportToShareableHandle(room, allocation->handle, type, flags);
        return status == CUDA_SUCCESS ? CUDA_ERROR_NOT_SUPPORTED : status;
    }
    int fd = -1;
    const CUresult status = driver_.cuMemExportToShareableHandle(&fd, allocation->handle, type, flags);
    if (status != CUDA_SUCCESS) return status;
    const UniqueFd exported(fd);
    if (!allocation->published) {
        SharedHandle& shared = allocation->shared;
        shared.magic = shared_magic;
        shared.kind = SharedKind::Allocation;
        shared.chunk = shared.bytes = allocation->bytes;
        if (!exchange || !exchange->publish(exported.get(), &shared.name)) return CUDA_ERROR_OUT_OF_MEMORY;
        allocation->published = true;
    }
    *out = allocation->shared;
    return CUDA_SUCCESS;
}

CUresult VirtualMemory::import_name(const SharedHandle& shared, uint64_t* number) {
    if (shared.magic != shared_magic || shared.kind != SharedKind::Allocation) return CUDA_ERROR_INVALID_VALUE;
    const UniqueFd fd = exchange ? exchange->fetch(shared.name) : UniqueFd();
    if (!fd) return CUDA_ERROR_INVALID_VALUE;
    Physical made;
    const CUresult status = driver_.cuMemImportFromShareableHandle(
        &made.handle, reinterpret_cast<void*>(static_cast<intptr_t>(fd.get())), CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (status != CUDA_SUCCESS) return status;
    *number = objects_.add(HandleKind::MemAllocation, reinterpret_cast<void*>(made.handle));
    auto [place, is_new] = allocations_.try_emplace(*number, made);
    if (!is_new) driver_.cuMemRelease(made.handle);  // the driver's own handle again: one reference of it is enough
    Physical& allocation = place->second;
    allocation.bytes = shared.bytes;
    allocation.imported |= is_new;
    ++allocation.references;
    return CUDA_SUCCESS;
}

std::string VirtualMemory::refusal() const {
    for (const auto& [number, allocation] : allocations_) {
        if (allocation.imported) return "the session holds memory of another session (made by cuMemImportFromShareableHandle)";
        if (allocation.published) return "the session's memory is shared with others (by cuMemExportToShareableHandle)";
    }
    return {};
}

nlohmann::json VirtualMemory::describe() const {
    using nlohmann::json;
    json all{{"reservations", json::array()}, {"allocations", json::array()}, {"mappings", json::array()}};
    for (const auto& [address, one] : reservations_) all["reservations"].push_back({address, one.bytes, one.own});
    for (const auto& [number, one] : allocations_) {
        const CUmemAllocationProp& p = one.properties;
        all["allocations"].push_back({number, one.bytes, one.references, static_cast<int>(p.type), static_cast<int>(p.requestedHandleTypes),
                                      p.location.id, p.allocFlags.compressionType, p.allocFlags.gpuDirectRDMACapable,
                                      p.allocFlags.usage});
    }
    for (const auto& [address, one] : mappings_) {
        json access = json::array();
        for (const auto& [device, flags] : one.access) access.push_back({device, flags});
        all["mappings"].push_back({address, one.bytes, one.offset, one.allocation, access});
    }
    return all;
}

CUresult VirtualMemory::recreate(const nlohmann::json& description) {
    for (const auto& one : description.at("reservations")) {
        const uint64_t address = one[0], bytes = one[1], whole = round_up(bytes, granule);
        const bool own = one[2];
        if (own ? !free_.take_exact(address, whole) || !reserve_exactly(address, bytes)
                : !device_memory_.take_addresses_at(address, whole))
            return CUDA_ERROR_OUT_OF_MEMORY;
        reservations_[address] = {bytes, own};
    }
    for (const auto& one : description.at("allocations")) {
        const uint64_t number = one[0];
        Physical made;
        made.bytes = one[1];
        made.references = one[2];
        made.properties.type = static_cast<CUmemAllocationType>(one[3].get<int>());
        made.properties.requestedHandleTypes = static_cast<CUmemAllocationHandleType>(one[4].get<int>());
        made.properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {one[5]}};
        made.properties.allocFlags.compressionType = one[6];
        made.properties.allocFlags.gpuDirectRDMACapable = one[7];
        made.properties.allocFlags.usage = one[8];
        const CUresult status = driver_.cuMemCreate(&made.handle, made.bytes, &made.properties, 0);
        if (status != CUDA_SUCCESS) return status;
        objects_.add(HandleKind::MemAllocation, reinterpret_cast<void*>(made.handle), number);
        allocations_[number] = made;
    }
    for (const auto& one : description.at("mappings")) {
        const uint64_t address = one[0], bytes = one[1], offset = one[2], number = one[3];
        auto allocation = allocations_.find(number);
        if (allocation == allocations_.end() || !find(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
        CUresult status = driver_.cuMemMap(address, bytes, offset, allocation->second.handle, 0);
        if (status != CUDA_SUCCESS) return status;
        mappings_[address] = {bytes, offset, number, {}};
        ++allocation->second.mappings;
        for (const auto& access : one[4]) {
            CUmemAccessDesc desc{};
            desc.location = {CU_MEM_LOCATION_TYPE_DEVICE, {access[0]}};
            desc.flags = static_cast<CUmemAccess_flags>(access[1].get<unsigned>());
            if (status = set_access(address, bytes, {desc}); status != CUDA_SUCCESS) return status;
        }
    }
    return CUDA_SUCCESS;
}

std::map<uint64_t, CUdeviceptr> VirtualMemory::mapped_whole() const {
    std::map<uint64_t, CUdeviceptr> found;
    for (const auto& [address, mapping] : mappings_) {
        const Physical& allocation = allocations_.at(mapping.allocation);
        if (mapping.offset || mapping.bytes != allocation.bytes) continue;
        const auto access = mapping.access.find(allocation.properties.location.id);
        if (access != mapping.access.end() && access->second == CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
            found[mapping.allocation] = address;
    }
    return found;
}

CUresult VirtualMemory::map_aside(const Physical& allocation, CUdeviceptr* address) {
    uint64_t place = 0;
    const uint64_t whole = round_up(allocation.bytes, granule);
    if (!device_memory_.take_addresses(whole, granule, &place)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult status = driver_.cuMemMap(place, allocation.bytes, 0, allocation.handle, 0);
    if (status == CUDA_SUCCESS) {
        CUmemAccessDesc access{};
        access.location = allocation.properties.location;
        access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        status = driver_.cuMemSetAccess(place, allocation.bytes, &access, 1);
        if (status != CUDA_SUCCESS) driver_.cuMemUnmap(place, allocation.bytes);
    }
    if (status != CUDA_SUCCESS) device_memory_.give_addresses(place, whole);
    *address = place;
    return status;
}

void VirtualMemory::unmap_aside(const Physical& allocation, CUdeviceptr address) {
    driver_.cuMemUnmap(address, allocation.bytes);
    device_memory_.give_addresses(address, round_up(allocation.bytes, granule));
}

}  // namespace cricket::server
