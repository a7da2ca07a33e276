// SPDX-License-Identifier: MIT
#include "host_image.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>

#include "cricket/clock.h"
#include "cricket/round_up.h"
#include "host_memory.h"
#include "snapshot_store.h"

namespace cricket::server {
namespace {

uint64_t bytes_of(const HostImage::Ranges& ranges) {
    uint64_t sum = 0;
    for (const auto& [address, range] : ranges) sum += range.bytes;
    return sum;
}

}  // namespace

const HostImage::Piece* HostImage::piece_of(uint64_t offset, uint64_t* inside) const {
    auto next = pieces_.upper_bound(offset);
    if (next == pieces_.begin()) return nullptr;
    const auto& [start, piece] = *std::prev(next);
    if (inside) *inside = offset - start;
    return offset - start < piece.bytes ? &piece : nullptr;
}

void HostImage::forget() {
    pieces_.clear();
    written_.clear();
    copy_.release();
}

void HostImage::expire(uint64_t executed) {
    if (!open() && executed != executed_) forget();
}

void HostImage::take_all(const Ranges& ranges, uint64_t executed) {
    forget();
    for (const auto& [address, range] : ranges) pieces_[range.offset] = {range.bytes, nullptr};
    executed_ = executed;
}

bool HostImage::room_for(const Ranges& ranges) {
    return bytes_of(ranges) <= free_host_memory() / 2;
}

bool HostImage::copy(const Ranges& ranges, uint64_t until_ns) {
    constexpr uint64_t at_once = 64u << 20;  // between looks at the clock
    forget();
    std::byte* to = copy_.take(bytes_of(ranges), UINT64_MAX);
    if (!to) return false;
    for (const auto& [address, range] : ranges) {
        for (uint64_t done = 0; done < range.bytes; done += at_once) {
            if (now_ns() > until_ns) return forget(), false;
            std::memcpy(to + done, memory_ + range.offset + done, std::min(at_once, range.bytes - done));
        }
        pieces_[range.offset] = {range.bytes, to};
        to += range.bytes;
    }
    return true;
}

void HostImage::close(uint64_t executed) {
    if (!open()) return;
    for (auto& [offset, piece] : pieces_) {
        for (uint64_t i = 0; i < piece.bytes; i += page) {
            const std::byte *now = memory_ + offset + i, *before = piece.copy + i;
            if (std::memcmp(now, before, page) == 0) continue;
            Bits& bits = written_[offset + i];
            for (uint64_t k = 0; k < page; ++k) bits[k / 64] |= uint64_t(now[k] != before[k]) << (k % 64);
        }
        piece.copy = nullptr;
    }
    copy_.release();
    executed_ = executed;
}

void HostImage::bring(uint64_t offset, std::byte* theirs) const {
    const std::byte* now = memory_ + offset;
    uint64_t inside = 0;
    if (const Piece* piece = piece_of(offset, &inside); piece && piece->copy) {
        const std::byte* before = piece->copy + inside;
        if (std::memcmp(now, before, page) == 0) return;
        for (uint64_t k = 0; k < page; ++k)
            if (now[k] != before[k]) theirs[k] = now[k];
        return;
    }
    auto found = written_.find(offset);
    if (found == written_.end()) return;
    for (uint64_t k = 0; k < page; ++k)
        if (found->second[k / 64] >> (k % 64) & 1) theirs[k] = now[k];
}

nlohmann::json HostImage::save(SnapshotWriter& writer) const {
    nlohmann::json saved{{"pieces", nlohmann::json::array()}, {"pages", written_.size()}};
    for (const auto& [offset, piece] : pieces_) saved["pieces"].push_back({offset, piece.bytes});
    auto& out = writer.begin("host_written");
    for (const auto& [offset, bits] : written_) {
        out.write(&offset, sizeof offset);
        out.write(bits.data(), sizeof bits);
    }
    return saved;
}

void HostImage::load(const nlohmann::json& saved, SnapshotReader& reader, uint64_t executed) {
    forget();
    executed_ = executed;
    for (const auto& piece : saved.at("pieces")) pieces_[piece.at(0)] = {piece.at(1), nullptr};
    const uint64_t pages = saved.at("pages");
    uint64_t at = 0;
    for (uint64_t i = 0; i < pages; ++i) {
        uint64_t offset = 0;
        Bits bits;
        reader.read("host_written", at, &offset, sizeof offset);
        reader.read("host_written", at + sizeof offset, bits.data(), sizeof bits);
        at += sizeof offset + sizeof bits;
        written_[offset] = bits;
    }
}

}  // namespace cricket::server
