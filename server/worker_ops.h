// SPDX-License-Identifier: MIT
// What the supervisor can ask of a worker. The link (worker_link.cpp) calls these from the worker's control
// thread; the worker (worker.cpp) implements them. Every operation either happens wholly or reports why not.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cricket/image_offer.h"
#include "cricket/unique_fd.h"
#include "cricket/wire.h"
#include "snapshot_request.h"

namespace cricket::server {

// Why a session cannot be stopped whose program has said goodbye: it ends by itself.
inline constexpr char program_has_ended[] = "the program has ended";

struct OpResult {
    bool ok = true;
    std::string error;  // one line naming the object in the way
    static OpResult failure(std::string why) { return {false, std::move(why)}; }
};

// Unresponsive: its worker does not answer, as the supervisor finds.
enum class SessionState : uint32_t { Starting = 0, Running = 1, Parked = 2, Quiesced = 3, Unresponsive = 4 };

// A function that the application used in vain.
struct UnsupportedUse {
    std::string function;
    std::string library;  // file name of the object that called it; empty where that is not known
    uint64_t times = 0;
};

struct SessionStatus {
    uint64_t id = 0;
    wire::Token token{};
    uint64_t epoch = 0;
    int32_t pid = 0;  // of the client, in the server's pid namespace; the last one while parked
    std::string program;
    SessionState state = SessionState::Starting;
    uint64_t device_bytes = 0;
    uint64_t host_bytes = 0;
    uint64_t calls = 0;       // executed since the session began
    int64_t started = 0;      // unix seconds
    int64_t state_since = 0;  // unix seconds
    std::vector<UnsupportedUse> unsupported;
};

// A JSON object as text; which keys it has is written where it is made (checkpoint_survey.h, live_check.h).
struct ReportResult {
    OpResult result;
    std::string report;
};

class WorkerOps {
  public:
    virtual ~WorkerOps() = default;
    // A client's hello for this session. Answers in the channel itself, refusals included.
    virtual void attach(const wire::Hello& hello, const ucred& peer, UniqueFd channel, UniqueFd host) = 0;
    // A client's stream connection (plain RPC, --listen-rpc), its attach call still unread. A worker that does not
    // speak it closes the connection.
    virtual void attach_stream(const ucred& peer, UniqueFd connection) {
        (void)peer;
        connection.reset();
    }
    // A file for a call to load. Does not wait.
    virtual void offer(const wire::ImageOffer& offer, UniqueFd file) {
        (void)offer;
        file.reset();
    }
    // The process that started at this time has begun another session: what it attached before, it has let go.
    virtual void replaced(uint64_t process_started) { (void)process_started; }
    // Whether opened() will tell of the client's dumps; before each attach().
    virtual void told_of_dumps(bool told) { (void)told; }
    // Somebody, most likely criu, opens the client's host memory and waits until `settled` is called, if `settling` was by
    // `until_ns` (the monotonic clock). Does not wait; both may be called from any thread.
    virtual void opened(uint64_t inode, uint64_t until_ns, std::function<void()> settling, std::function<void()> settled) {
        (void)inode, (void)until_ns, (void)settling;
        settled();
    }
    virtual SessionStatus status() = 0;
    // Stops execution at a call boundary and waits for the device, at most `timeout_ms`, and until nobody wants it any more
    // (`unwanted`, which is asked from another thread; empty: somebody does). Blocks.
    virtual OpResult quiesce(uint32_t timeout_ms, const std::function<bool()>& unwanted) = 0;
    virtual OpResult resume() = 0;
    // Writes a snapshot of a parked or quiesced session into `directory` (must not exist or be an older
    // snapshot's). Blocks until it is complete and renamed into place. `checkpoint` names the checkpoint that
    // this is a half of and goes into the manifest (SnapshotInfo::checkpoint); empty for a snapshot of its
    // own.
    virtual OpResult snapshot(const std::string& directory, const std::string& checkpoint) = 0;
    // The same in two steps: begin_snapshot() blocks until the content is secured, wait_snapshot() until it is complete.
    // `error` of their answers is that of the call or of the snapshot. `id` 0: the last one.
    virtual SnapshotState begin_snapshot(const SnapshotRequest& request) {
        SnapshotState state;
        state.id = 1;
        state.error = snapshot(request.directory, request.checkpoint).error;
        state.phase = state.error.empty() ? SnapshotPhase::Complete : SnapshotPhase::Failed;
        return last_snapshot_ = state;
    }
    virtual SnapshotState wait_snapshot(uint64_t id) { return snapshot_state(id); }
    virtual SnapshotState snapshot_state(uint64_t id) {
        (void)id;
        return last_snapshot_;
    }
    virtual SnapshotState abort_snapshot(uint64_t id) { return wait_snapshot(id); }
    // What a snapshot would refuse and how much it would hold. Changes nothing, waits for nothing on the device.
    virtual ReportResult survey() { return {OpResult::failure("this worker cannot be surveyed"), {}}; }
    // Compares the session's device memory with a snapshot (empty: the one it was loaded from) and proves that its
    // contexts answer. The session is parked or quiesced.
    virtual ReportResult check(const std::string& directory) {
        return {OpResult::failure("this worker cannot be compared with " + directory), {}};
    }
    // Ends the session (the worker exits after answering). Refused while a client is attached unless `force`.
    virtual OpResult drop(bool force) = 0;

  private:
    SnapshotState last_snapshot_;
};

}  // namespace cricket::server
