// SPDX-License-Identifier: MIT
// A worker's snapshots, in two phases. While the session stands, everything small is copied and device memory copied aside:
// on the device where there is room, else to the host's memory, else straight to the files. Then the session goes on, and a
// thread of ours with its crew writes the copy out.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "aside_memory.h"
#include "checkpoint_capture.h"
#include "crew.h"
#include "device_pipe.h"
#include "host_aside.h"
#include "snapshot_request.h"

namespace cricket::server {

class Saver final : public SnapshotHooks {
  public:
    Saver(Session& session, Executor& executor);
    ~Saver();

    // Before the session is stopped, on a control thread: waits until an earlier snapshot is complete, makes the folder, and
    // reads the base. Throws std::runtime_error. begin() or cancel() must follow.
    void prepare(const SnapshotRequest& request);
    void cancel(const std::string& why);
    // On the executor's thread, the session standing: secures the content. Throws std::runtime_error naming what is in the
    // way; nothing is left then.
    void begin(bool coordinated);

    // From any thread.
    SnapshotState state() const;
    SnapshotState wait(uint64_t id);  // until it is complete or has failed
    bool active() const;
    bool securing() const { return state().phase == SnapshotPhase::Securing; }
    void wait_idle();
    void abort();  // waits for its end
    // Called once, by whoever ends the snapshot under way; at once when there is none.
    void when_idle(std::function<void()> then);

    // SnapshotHooks: on the executor's thread.
    bool make_room() override;
    uint64_t held_aside(CUdevice device) override;
    void context_ends(uint64_t context) override;

  private:
    struct Piece {  // of device memory, with where it belongs
        uint64_t address = 0;
        uint32_t bytes = 0, lane = 0, part = 0;
        uint64_t offset = 0;
        const ContentId* ids = nullptr;
        uint64_t aside_end = 0;  // in its device's aside memory
        uint64_t range = 0;      // address of the range that it is of: copies do not cross ranges
    };
    // What a crew's member takes at once.
    static constexpr uint64_t job_bytes = DevicePipe::buffer_bytes;
    static_assert(job_bytes % snapshot_chunk_bytes == 0);

    // checkpoint_secure.cpp
    uint32_t lane_of(const CapturedRange& range);
    void prepare_hashing();
    void identify();
    void plan();
    void plan_range(const CapturedRange& range, const ContentId* ids);
    void copy_aside();
    void secure_rest();
    static size_t chunks_of(const CapturedRange& range);

    // checkpoint_saver.cpp
    void write_host(std::span<const CapturedPiece> pieces);
    void write_in_background();
    void pull(std::span<const Piece> pieces, bool background);
    void release_behind(std::span<const Piece> pieces, const std::atomic<size_t>& left, const std::atomic<bool>& over);
    SnapshotPack& pack_of(unsigned worker);
    void finish(const std::string& error);
    void note_held();
    uint64_t held() const;

    Session& session_;
    Executor& executor_;
    const DriverTable& driver_;
    std::vector<Lane> lanes_;
    std::map<uint64_t, uint32_t> lane_numbers_;  // by context

    // Of the snapshot under way.
    SnapshotRequest request_;
    std::unique_ptr<SnapshotWriter> writer_;
    Capture capture_;
    std::vector<ContentId> ids_;
    std::vector<bool> hashed_;  // by range
    std::vector<Piece> aside_, rest_;
    std::vector<std::unique_ptr<AsideMemory>> memories_;
    HostAside host_aside_;
    std::vector<CapturedPiece> host_pieces_;  // in host_aside_
    std::vector<SnapshotPack*> packs_;        // by worker
    uint64_t began_ns_ = 0;
    OwnThread thread_;
    std::atomic<bool> stop_{false};
    std::atomic<uint64_t> done_{0};
    std::array<std::atomic<uint64_t>, 16> held_{};  // aside, by device
    std::atomic<bool> on_device_{false};  // the device is still being read

    mutable std::mutex mutex_;  // of what follows
    mutable std::condition_variable changed_;
    bool busy_ = false;
    SnapshotState state_;
    std::function<void()> then_;
    uint64_t last_id_ = 0;
};

}  // namespace cricket::server
