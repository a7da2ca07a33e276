// SPDX-License-Identifier: MIT
#include "aside_memory.h"

#include <algorithm>

#include "cricket/round_up.h"
#include "places.h"

namespace cricket::server {
namespace {

constexpr uint64_t room_a_device = places::tib;
constexpr uint64_t granule = 2u << 20;
constexpr uint64_t piece_bytes = 256u << 20;
constexpr uint64_t least_margin = 64u << 20, largest_margin = 1u << 30;  // that stay free for the application

}  // namespace

uint64_t AsideMemory::take(CUdevice device, uint64_t wanted, uint64_t limit) {
    release();
    size_t free = 0, total = 0;
    if (driver_.cuMemGetInfo(&free, &total) != CUDA_SUCCESS) return 0;
    const uint64_t margin = std::clamp<uint64_t>(free / 16, least_margin, largest_margin);
    uint64_t bytes = free > margin ? std::min<uint64_t>(free - margin, limit) : 0;
    bytes = std::min(round_up(wanted, granule), bytes / granule * granule);
    const uint64_t here = places::device_aside.address + static_cast<uint64_t>(device) * room_a_device;
    if (bytes == 0 || bytes > room_a_device) return 0;
    CUdeviceptr got = 0;
    if (driver_.cuMemAddressReserve(&got, bytes, granule, here, 0) != CUDA_SUCCESS) return 0;
    if (got != here) {  // never where the driver likes: that would move what it places later
        driver_.cuMemAddressFree(got, bytes);
        return 0;
    }
    device_ = device;
    address_ = here;
    reserved_ = bytes;
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    CUmemAccessDesc access{};
    access.location = properties.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    while (held_ < bytes) {
        Piece piece{held_, std::min(piece_bytes, bytes - held_), 0};
        if (driver_.cuMemCreate(&piece.handle, piece.bytes, &properties, 0) != CUDA_SUCCESS) break;
        CUresult status = driver_.cuMemMap(address_ + piece.offset, piece.bytes, 0, piece.handle, 0);
        if (status == CUDA_SUCCESS) {
            status = driver_.cuMemSetAccess(address_ + piece.offset, piece.bytes, &access, 1);
            if (status != CUDA_SUCCESS) driver_.cuMemUnmap(address_ + piece.offset, piece.bytes);
        }
        if (status != CUDA_SUCCESS) {
            driver_.cuMemRelease(piece.handle);
            break;
        }
        pieces_.push_back(piece);
        held_ += piece.bytes;
    }
    return held_;
}

bool AsideMemory::release_before(uint64_t offset) {
    const size_t before = first_;
    for (; first_ < pieces_.size() && pieces_[first_].offset + pieces_[first_].bytes <= offset; ++first_) {
        driver_.cuMemUnmap(address_ + pieces_[first_].offset, pieces_[first_].bytes);
        driver_.cuMemRelease(pieces_[first_].handle);
        held_ -= pieces_[first_].bytes;
    }
    return first_ != before;
}

void AsideMemory::release() {
    release_before(UINT64_MAX);
    if (reserved_) driver_.cuMemAddressFree(address_, reserved_);
    pieces_.clear();
    first_ = 0;
    address_ = reserved_ = held_ = 0;
}

}  // namespace cricket::server
