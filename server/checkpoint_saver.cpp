// SPDX-License-Identifier: MIT
#include "checkpoint_saver.h"

#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "checkpoint_parts.h"
#include "chunk_hash.h"
#include "log.h"
#include "settings.h"

namespace cricket::server {
namespace {

constexpr uint64_t aside_alignment = 256;
constexpr unsigned release_pause_us = 500;  // between pieces of the copy that are given back
constexpr uint64_t job_bytes = DevicePipe::buffer_bytes;
static_assert(job_bytes % snapshot_chunk_bytes == 0);

uint64_t now_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

// Adds the time from its making to its end, in microseconds.
class Timed {
  public:
    explicit Timed(uint64_t* sum) : sum_(sum), began_(now_ns()) {}
    ~Timed() { *sum_ += (now_ns() - began_) / 1000; }

  private:
    uint64_t* sum_;
    const uint64_t began_;
};

uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

}  // namespace

Saver::Saver(Session& session, Executor& executor) : session_(session), executor_(executor), driver_(session.driver) {}

Saver::~Saver() { abort(); }

void Saver::prepare(const SnapshotRequest& request) {
    {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !busy_; });
        busy_ = true;
        state_ = {};
        state_.id = ++last_id_;
        state_.phase = SnapshotPhase::Securing;
    }
    began_ns_ = now_ns();
    stop_ = false;
    done_ = 0;
    try {
        request_ = request;
        capture_ = {};
        SnapshotOptions options;
        options.base = request.base;
        options.identify = request.series || !request.base.empty();
        options.compress = static_cast<int>(request.compress);
        writer_ = std::make_unique<SnapshotWriter>(request.directory, options);
        if (!request.base.empty() && !writer_->base_refusal().empty())
            log_warn("the base '%s' is of little use: %s", request.base.c_str(), writer_->base_refusal().c_str());
    } catch (const std::exception& error) {
        finish(error.what());
        throw;
    }
}

void Saver::cancel(const std::string& why) { finish(why); }

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

SnapshotPack& Saver::pack_of(unsigned worker) {
    if (!packs_[worker]) packs_[worker] = &writer_->add_pack();
    return *packs_[worker];
}

// Off the device and into the packs.
void Saver::pull(std::span<const Piece> pieces, bool background) {
    uint64_t bytes = 0;
    std::vector<DeviceRun> runs;
    for (const Piece& piece : pieces) {
        runs.push_back({piece.address, piece.bytes, piece.lane, runs.size()});
        bytes += piece.bytes;
    }
    if (runs.empty()) return;
    std::atomic<size_t> left{0};
    std::atomic<bool> over{false};
    OwnThread releaser;
    struct End {
        std::atomic<bool>& over;
        OwnThread& releaser;
        ~End() {
            over = true;
            releaser.join();
        }
    } end{over, releaser};
    if (background) releaser = OwnThread(crew_stacks - 1, [&] { release_behind(pieces, left, over); });
    DevicePipe pipe(driver_, lanes_, bytes);
    pipe.pull(
        runs, stop_,
        [&](unsigned worker, const DeviceRun& run, std::span<std::byte> data) {
            const Piece& piece = pieces[run.tag];
            pack_of(worker).put(piece.part, piece.offset, data, piece.ids);
            done_ += data.size();
        },
        [&](size_t now) { left = now; });
}

// Gives back what has left the device, on a thread of its own: that takes a while, and the copies do not wait for it.
void Saver::release_behind(std::span<const Piece> pieces, const std::atomic<size_t>& left, const std::atomic<bool>& over) {
    for (size_t released = 0; !over;) {
        bool some = false;
        for (const size_t until = left; released < until; ++released)
            for (const auto& memory : memories_)
                if (memory->device() == lanes_[pieces[released].lane].device)
                    some |= memory->release_before(pieces[released].aside_end);
        if (some) note_held();
        ::usleep(release_pause_us);
    }
}

// Memory of our own into the packs.
void Saver::write_host(std::span<const CapturedPiece> pieces) {
    std::vector<CapturedPiece> jobs;
    uint64_t bytes = 0;
    for (const CapturedPiece& piece : pieces) {
        bytes += piece.data.size();
        for (size_t at = 0; at < piece.data.size(); at += job_bytes)
            jobs.push_back({piece.data.subspan(at, std::min<size_t>(job_bytes, piece.data.size() - at)), piece.part,
                            piece.offset + at, piece.ids ? piece.ids + at / snapshot_chunk_bytes : nullptr});
    }
    if (jobs.empty()) return;
    std::atomic<size_t> next{0};
    with_crew(std::min<unsigned>(crew_size(bytes), static_cast<unsigned>(jobs.size())), stop_, [&](unsigned worker) {
        for (size_t i; !stop_ && (i = next.fetch_add(1)) < jobs.size();) {
            const CapturedPiece& job = jobs[i];
            pack_of(worker).put(job.part, job.offset, job.data, job.ids);
            done_ += job.data.size();
        }
    });
}

void Saver::begin(bool coordinated) {
    try {
        packs_.assign(crew_stacks, nullptr);
        capture_.info.checkpoint = request_.checkpoint;
        SnapshotState figures;
        {
            const Timed timed(&figures.secured);
            {
                const Timed part(&figures.captured);
                prepare_hashing();
                capture_session(session_, executor_, coordinated, request_.without_gpu, *writer_, capture_);
            }
            for (const CapturedPiece& piece : capture_.host) figures.total += piece.data.size();
            for (const CapturedPiece& piece : capture_.array_pieces) figures.total += piece.data.size();
            figures.total += capture_.device_bytes();
            {
                const Timed part(&figures.hashed);
                identify();
                plan();
            }
            {
                const Timed part(&figures.copied);
                copy_aside();
            }
            {
                const Timed part(&figures.stream);
                if (!rest_.empty()) secure_rest();
                write_host(capture_.host);
            }
            unmap_captured(session_, capture_);
            session_.forget_current();
        }
        if (stop_) fail_checkpoint("the snapshot was ended before it was complete");
        figures.aside_host = state_.aside_host;
        figures.streamed = state_.streamed;
        for (const Piece& piece : aside_) figures.aside_device += piece.bytes;
        note_held();
        on_device_ = !aside_.empty();
        {
            std::lock_guard lock(mutex_);
            figures.id = state_.id;
            figures.phase = SnapshotPhase::Writing;
            state_ = figures;
        }
        thread_.join();  // of the snapshot before: the next has its stack
        thread_ = OwnThread(0, [this] { write_in_background(); });
    } catch (const std::exception& error) {
        on_device_ = false;
        unmap_captured(session_, capture_);
        session_.forget_current();
        finish(error.what());
        throw;
    }
}

void Saver::write_in_background() {
    ::prctl(PR_SET_TIMERSLACK, 1'000);
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;  // no capture of the application forbids us anything
    if (driver_.cuThreadExchangeStreamCaptureMode) driver_.cuThreadExchangeStreamCaptureMode(&mode);
    std::string error;
    try {
        pull(aside_, true);
        memories_.clear();
        note_held();
        driver_.cuCtxSetCurrent(nullptr);
        {
            std::lock_guard lock(mutex_);
            on_device_ = false;
        }
        changed_.notify_all();
        write_host(host_pieces_);
        host_aside_.release();
        describe_calls(capture_, *writer_);
        write_host(capture_.images);
        write_host(capture_.array_pieces);
        const auto made = static_cast<unsigned>(std::ranges::count_if(packs_, [](auto* pack) { return pack != nullptr; }));
        std::vector<SnapshotPack*> packs = packs_;
        std::erase(packs, nullptr);
        with_crew(made, stop_, [&](unsigned worker) { packs[worker]->sync(); });
        if (stop_) fail_checkpoint("the snapshot was ended before it was complete");
        writer_->finish(capture_.info, std::move(capture_.meta));
    } catch (const std::exception& failure) {
        error = failure.what();
    }
    finish(error);
}

// Nothing of the snapshot stays but its figures.
void Saver::finish(const std::string& error) {
    SnapshotFigures figures;
    if (writer_) figures = writer_->figures();
    memories_.clear();
    note_held();
    host_aside_.release();
    writer_.reset();
    capture_ = {};
    ids_ = {};
    aside_ = {};
    rest_ = {};
    host_pieces_ = {};
    std::function<void()> then;
    SnapshotState done;
    {
        std::lock_guard lock(mutex_);
        on_device_ = false;
        state_.error = error;
        state_.phase = error.empty() ? SnapshotPhase::Complete : SnapshotPhase::Failed;
        state_.zeros = figures.zeros;
        state_.shared = figures.shared;
        state_.written = figures.written;
        state_.total = std::max(state_.total, figures.bytes);
        state_.done = done_;
        state_.complete = (now_ns() - began_ns_) / 1000;
        done = state_;
        then = std::exchange(then_, nullptr);
    }
    if (error.empty())
        log_info("'%s' is complete: %.1f MiB (%.1f zero, %.1f shared, %.1f written) in %.3f s; the session stood %.1f ms "
                 "(capture %.1f, hash %.1f, copy %.1f, stream %.1f)",
                 request_.directory.c_str(), static_cast<double>(done.total) / 1048576, static_cast<double>(done.zeros) / 1048576,
                 static_cast<double>(done.shared) / 1048576, static_cast<double>(done.written) / 1048576,
                 static_cast<double>(done.complete) / 1e6, static_cast<double>(done.secured) / 1e3,
                 static_cast<double>(done.captured) / 1e3, static_cast<double>(done.hashed) / 1e3,
                 static_cast<double>(done.copied) / 1e3, static_cast<double>(done.stream) / 1e3);
    else
        log_warn("no snapshot in '%s': %s", request_.directory.c_str(), error.c_str());
    {
        std::lock_guard lock(mutex_);
        busy_ = false;
        changed_.notify_all();
    }
    if (then) then();
}

SnapshotState Saver::state() const {
    std::lock_guard lock(mutex_);
    SnapshotState now = state_;
    if (busy_) {
        now.done = done_;
        now.complete = (now_ns() - began_ns_) / 1000;
    }
    return now;
}

SnapshotState Saver::wait(uint64_t id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !busy_ || state_.id != id; });
    if (state_.id == id) return state_;
    SnapshotState unknown;
    unknown.id = id;
    unknown.error = "another snapshot came after it";
    return unknown;
}

bool Saver::active() const {
    std::lock_guard lock(mutex_);
    return busy_;
}

void Saver::wait_idle() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !busy_; });
}

void Saver::abort() {
    stop_ = true;
    wait_idle();
}

void Saver::when_idle(std::function<void()> then) {
    {
        std::lock_guard lock(mutex_);
        if (busy_) {
            then_ = std::move(then);
            return;
        }
    }
    then();
}

bool Saver::make_room() {
    const uint64_t before = held();
    if (before == 0) return false;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held() < before; });
    return true;
}

uint64_t Saver::held_aside(CUdevice device) { return held_[static_cast<size_t>(device) % held_.size()]; }

void Saver::note_held() {
    std::array<uint64_t, std::tuple_size_v<decltype(held_)>> now{};
    for (const auto& memory : memories_)
        if (memory->held()) now[static_cast<size_t>(memory->device()) % now.size()] += memory->held();
    for (size_t i = 0; i < now.size(); ++i) held_[i] = now[i];
    {
        std::lock_guard lock(mutex_);  // so that nobody misses it
    }
    changed_.notify_all();
}

uint64_t Saver::held() const {
    uint64_t sum = 0;
    for (const auto& one : held_) sum += one;
    return sum;
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
