// SPDX-License-Identifier: MIT
// The order of a snapshot's two phases, the files that it goes to, and what others may ask of one that is under way.
#include "checkpoint_saver.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>

#include "checkpoint_parts.h"
#include "cricket/clock.h"
#include "log.h"

namespace cricket::server {
namespace {

constexpr unsigned release_pause_us = 500;  // between pieces of the copy that are given back

// Adds the time from its making to its end, in microseconds.
class Timed {
  public:
    explicit Timed(uint64_t* sum) : sum_(sum), began_(now_ns()) {}
    ~Timed() { *sum_ += (now_ns() - began_) / 1000; }

  private:
    uint64_t* sum_;
    const uint64_t began_;
};

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

}  // namespace cricket::server
