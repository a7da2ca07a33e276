// SPDX-License-Identifier: MIT
// What a snapshot takes of device memory while the session stands: which chunks have to be written at all, and where each is copied
// until it is.
#include <algorithm>
#include <cstring>
#include <set>

#include "checkpoint_parts.h"
#include "checkpoint_saver.h"
#include "chunk_hash.h"
#include "cricket/round_up.h"
#include "log.h"
#include "settings.h"

namespace cricket::server {
namespace {

constexpr uint64_t aside_alignment = 256;

}  // namespace

uint32_t Saver::lane_of(const CapturedRange& range) {
    uint64_t context = range.context;
    for (const auto& [number, device] : session_.context_devices)
        if (!context && device == range.device) context = number;
    if (!context) context = session_.context_devices.begin()->first;
    auto [place, is_new] = lane_numbers_.try_emplace(context, static_cast<uint32_t>(lanes_.size()));
    if (is_new) {
        Lane lane;
        lane.context = static_cast<CUcontext>(session_.objects.get(HandleKind::Context, context));
        lane.device = session_.context_devices.at(context);
        lanes_.push_back(lane);
    }
    if (const CUresult status = open_lane(driver_, lanes_[place->second]); status != CUDA_SUCCESS)
        fail_checkpoint("a context cannot be used: " + result_name(driver_, status));
    return place->second;
}

// Cuts a range into pieces that fit a buffer, without the chunks that need not be written.
void Saver::plan_range(const CapturedRange& range, const ContentId* ids) {
    const uint32_t lane = lane_of(range);
    Piece piece{range.address, 0, lane, range.part, range.offset, ids, 0, range.address};
    const auto close = [&] {
        if (piece.bytes) rest_.push_back(piece);
        piece.bytes = 0;
    };
    for (uint64_t done = 0; done < range.bytes;) {
        const uint64_t offset = range.offset + done;
        const auto bytes = static_cast<uint32_t>(
            std::min(range.bytes - done, snapshot_chunk_bytes - offset % snapshot_chunk_bytes));
        if (ids && *ids == zeros_id) {
            writer_->put_zeros(range.part, offset, bytes);
            close();
            done_ += bytes;
        } else if (ids && writer_->share(range.part, offset, bytes, *ids)) {
            close();
            done_ += bytes;
        } else {
            if (piece.bytes + bytes > job_bytes) close();
            if (!piece.bytes) piece = {range.address + done, 0, lane, range.part, offset, ids, 0, range.address};
            piece.bytes += bytes;
        }
        if (ids) ++ids;
        done += bytes;
    }
    close();
}

size_t Saver::chunks_of(const CapturedRange& range) {
    return (range.offset % snapshot_chunk_bytes + range.bytes + snapshot_chunk_bytes - 1) / snapshot_chunk_bytes;
}

// The kernel is loaded before the journal is copied, which has to know of it.
void Saver::prepare_hashing() {
    if (!writer_->identifies()) return;
    std::set<CUdevice> seen;
    for (const auto& [number, device] : std::map(session_.context_devices))
        if (seen.insert(device).second) hash_chunks(session_, executor_, number, {}, {});
}

// Ids of the chunks of ranges that any context of their device can read; the crew finds out those of the others.
void Saver::identify() {
    ids_.clear();
    hashed_.assign(capture_.ranges.size(), false);
    if (!writer_->identifies()) return;
    std::map<CUdevice, std::vector<size_t>> by_device;
    for (size_t i = 0; i < capture_.ranges.size(); ++i)
        if (!capture_.ranges[i].context) by_device[capture_.ranges[i].device].push_back(i);
    for (const auto& [device, ranges] : by_device) {
        uint64_t context = 0;
        for (const auto& [number, of] : session_.context_devices)
            if (!context && of == device) context = number;
        std::vector<HashedChunk> chunks;
        for (const size_t i : ranges) {
            const CapturedRange& range = capture_.ranges[i];
            for (uint64_t done = 0; done < range.bytes;) {
                const uint64_t left = snapshot_chunk_bytes - (range.offset + done) % snapshot_chunk_bytes;
                const auto bytes = static_cast<uint32_t>(std::min(range.bytes - done, left));
                chunks.push_back({range.address + done, bytes, 0});
                done += bytes;
            }
        }
        std::vector<ContentId> ids(chunks.size());
        const std::string why = context ? hash_chunks(session_, executor_, context, chunks, ids) : "no context is on its device";
        session_.forget_current();
        if (!why.empty()) {
            log_warn("memory of device %d is hashed here and not there: %s", device, why.c_str());
            continue;
        }
        for (size_t next = 0; const size_t i : ranges) {
            hashed_[i] = true;
            capture_.ranges[i].first_id = ids_.size();
            const size_t count = chunks_of(capture_.ranges[i]);
            ids_.insert(ids_.end(), ids.begin() + static_cast<ptrdiff_t>(next), ids.begin() + static_cast<ptrdiff_t>(next + count));
            next += count;
        }
    }
}

void Saver::plan() {
    aside_.clear();
    rest_.clear();
    for (size_t i = 0; i < capture_.ranges.size(); ++i)
        plan_range(capture_.ranges[i], hashed_[i] ? ids_.data() + capture_.ranges[i].first_id : nullptr);
}

// What finds room goes from rest_ to aside_.
void Saver::copy_aside() {
    std::map<CUdevice, uint64_t> wanted;
    for (const Piece& piece : rest_) wanted[lanes_[piece.lane].device] += round_up(piece.bytes, aside_alignment);
    struct Room {
        AsideMemory* memory;
        uint64_t end, used = 0;
    };
    std::map<CUdevice, Room> rooms;
    const uint64_t limit = settings::number(settings::aside_device).value_or(UINT64_MAX);
    for (const auto& [device, bytes] : wanted) {
        const auto lane = std::ranges::find(lanes_, device, &Lane::device);
        if (driver_.cuCtxSetCurrent(lane->context) != CUDA_SUCCESS) continue;
        memories_.push_back(std::make_unique<AsideMemory>(driver_));
        AsideMemory& memory = *memories_.back();
        uint64_t room = memory.take(device, bytes, limit);
        if (room < bytes && session_.device_memory.release_spares()) room = memory.take(device, bytes, limit);
        rooms[device] = {&memory, room};
    }
    struct Copy {
        uint64_t to = 0, from = 0, bytes = 0, range = 0;
        uint32_t lane = 0;
    } copy;
    const auto start = [&] {
        if (!copy.bytes) return;
        CUresult status = driver_.cuCtxSetCurrent(lanes_[copy.lane].context);
        if (status == CUDA_SUCCESS) status = driver_.cuMemcpyDtoDAsync(copy.to, copy.from, copy.bytes, lanes_[copy.lane].stream);
        if (status != CUDA_SUCCESS)
            fail_checkpoint(at_address("copying device memory", copy.from) + ": " + result_name(driver_, status));
    };
    std::vector<Piece> rest;
    std::vector<bool> used(lanes_.size());
    for (Piece piece : rest_) {
        const auto found = rooms.find(lanes_[piece.lane].device);
        if (found == rooms.end() || found->second.used + piece.bytes > found->second.end) {
            rest.push_back(piece);
            continue;
        }
        Room& room = found->second;
        const uint64_t to = room.memory->address() + room.used;
        if (copy.bytes && copy.range == piece.range && copy.from + copy.bytes == piece.address && copy.to + copy.bytes == to) {
            copy.bytes += piece.bytes;
        } else {
            start();
            copy = {to, piece.address, piece.bytes, piece.range, piece.lane};
        }
        used[piece.lane] = true;
        room.used = round_up(room.used + piece.bytes, aside_alignment);
        piece.address = to;
        piece.aside_end = room.used;
        aside_.push_back(piece);
    }
    start();
    for (size_t lane = 0; lane < lanes_.size(); ++lane) {
        if (!used[lane]) continue;
        CUresult status = driver_.cuCtxSetCurrent(lanes_[lane].context);
        if (status == CUDA_SUCCESS) status = driver_.cuStreamSynchronize(lanes_[lane].stream);
        if (status != CUDA_SUCCESS) fail_checkpoint("copying device memory: " + result_name(driver_, status));
    }
    rest_ = std::move(rest);
}

// What found no room on the device leaves it now.
void Saver::secure_rest() {
    uint64_t bytes = 0;
    for (const Piece& piece : rest_) bytes += round_up(piece.bytes, aside_alignment);
    std::byte* place = host_aside_.take(bytes, aside_host_limit());
    (place ? state_.aside_host : state_.streamed) = bytes;
    if (!place) {
        pull(rest_, false);
        return;
    }
    DevicePipe pipe(driver_, lanes_, bytes);
    std::vector<DeviceRun> runs;
    std::vector<std::byte*> places;
    for (const Piece& piece : rest_) {
        runs.push_back({piece.address, piece.bytes, piece.lane, runs.size()});
        places.push_back(place);
        host_pieces_.push_back({{place, piece.bytes}, piece.part, piece.offset, piece.ids});
        place += round_up(piece.bytes, aside_alignment);
    }
    pipe.pull(runs, stop_, [&](unsigned, const DeviceRun& run, std::span<std::byte> data) {
        std::memcpy(places[run.tag], data.data(), data.size());
    });
}

void Saver::context_ends(uint64_t context) {
    {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !on_device_; });
    }
    const auto found = lane_numbers_.find(context);
    if (found == lane_numbers_.end()) return;
    const uint32_t gone = found->second;  // its stream and events go with the context
    lanes_.erase(lanes_.begin() + gone);
    lane_numbers_.erase(found);
    for (auto& [number, lane] : lane_numbers_)
        if (lane > gone) --lane;
}

}  // namespace cricket::server
