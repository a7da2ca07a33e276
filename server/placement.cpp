// SPDX-License-Identifier: MIT
#include "placement.h"

#include <algorithm>

#include "log.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr uint64_t block_bytes = 2u << 20, arena_bytes = 32u << 20;
constexpr size_t most_ranges = 1u << 16;
constexpr unsigned most_opened = 512;  // arenas, each by an allocation of one block
constexpr int region_shift = 40;       // what is reserved when all arenas are full lies far away

constexpr uint64_t down(uint64_t address, uint64_t to) { return address / to * to; }

}  // namespace

Placement::Placement(Session& session, const nlohmann::json& variables) : session_(session) {
    for (const auto& one : variables)
        variables_.insert({one.at("image").get<uint64_t>(), {one.at("context"), one.at("address"), one.at("bytes")}});
}

void Placement::before_load(uint64_t object, uint64_t context) {
    std::set<CUdeviceptr> fresh, all;
    for (auto [at, end] = variables_.equal_range(object); at != end; ++at) {
        const Variable& one = at->second;
        if (one.context != context) continue;
        for (uint64_t block = down(one.address, block_bytes); block < one.address + one.bytes; block += block_bytes) {
            all.insert(block);
            if (!shown_.contains(block)) fresh.insert(block);
        }
    }
    if (!fresh.empty() && session_.make_current(context) == CUDA_SUCCESS) {
        const CUdeviceptr first = *fresh.begin();
        CUdeviceptr there = 0;
        const bool reserved =
            session_.driver.cuMemAddressReserve(&there, block_bytes, block_bytes, first, 0) == CUDA_SUCCESS;
        if (reserved) session_.driver.cuMemAddressFree(there, block_bytes);
        // Not free in an arena that is there: something without variables has that block already. Else the arena is still to come.
        const auto near = [&](CUdeviceptr block) { return down(block, arena_bytes) == down(first, arena_bytes); };
        if ((reserved && there == first) || std::ranges::none_of(shown_, near)) make_next(first);
    }
    shown_.insert(all.begin(), all.end());
}

bool Placement::make_next(CUdeviceptr block) {
    const DriverTable& driver = session_.driver;
    std::vector<Range> ranges;
    for (unsigned opened = 0; ranges.size() < most_ranges;) {
        Range one{0, false};
        const CUresult status = driver.cuMemAddressReserve(&one.address, block_bytes, block_bytes, 0, 0);
        if (status != CUDA_SUCCESS || one.address >> region_shift != block >> region_shift) {
            if (status == CUDA_SUCCESS) driver.cuMemAddressFree(one.address, block_bytes);
            one.memory = true;
            if (++opened > most_opened || driver.cuMemAlloc(&one.address, block_bytes) != CUDA_SUCCESS) break;
        }
        ranges.push_back(one);
        if (one.address == block) {
            release({one});
            ranges.pop_back();
            log_debug("%zu ranges are kept free of what is loaded next, which is to lie at 0x%llx", ranges.size(), block);
            kept_.insert(kept_.end(), ranges.begin(), ranges.end());
            return true;
        }
        if (one.address + 2 * arena_bytes < block) break;  // below: they only go down from here
    }
    log_debug("what is loaded next is to lie at 0x%llx, which the driver does not come to", block);
    release(ranges);
    return false;
}

void Placement::release(const std::vector<Range>& ranges) {
    for (const Range& one : ranges)
        one.memory ? session_.driver.cuMemFree(one.address) : session_.driver.cuMemAddressFree(one.address, block_bytes);
}

void Placement::give_back() {
    if (std::ranges::any_of(kept_, &Range::memory)) session_.any_context();
    release(kept_);
    kept_.clear();
}

}  // namespace cricket::server
