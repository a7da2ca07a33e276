// SPDX-License-Identifier: MIT
// A worker: one process, one session. The control thread (the process's first) serves the supervisor's link; the
// executor thread owns the session and does everything that touches it, commands of the control threads included.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "checkpoint_saver.h"
#include "client_process.h"
#include "executor.h"
#include "rpc/ring/spinning.h"
#include "session.h"
#include "worker_config.h"
#include "worker_ops.h"

namespace cricket::server {

class Worker final : public WorkerOps {
  public:
    // `exchange`: what it shares with other sessions goes through it; null: nothing.
    Worker(const WorkerConfig& config, const DriverTable& driver, Exchange* exchange = nullptr);
    ~Worker() override;

    // Opens the driver, or restores a snapshot; then the executor runs. Reports why not.
    OpResult start();
    // Reads the clients' pageable memory.
    void use(Fetcher& fetcher) { session_.fetcher = &fetcher; }
    // The application's CUDA_* variables, as they are set.
    void set_environment(const Variables& environment) {
        session_.environment = environment;
        for (const std::string& variable : environment)  // the driver's own log is to go where kernels' text goes
            if (variable == "CUDA_LOG_FILE=stdout" || variable == "CUDA_LOG_FILE=stderr")
                session_.device_text.set_possible(true);
    }
    // Called by the executor when the session must end (a client that breaks the protocol).
    void on_end(std::function<void()> end) { end_ = std::move(end); }

    // Called by start() when the snapshot to restore has been found to fit.
    void on_checked(std::function<void()> checked) { checked_ = std::move(checked); }
    // Called by start() when the driver has put something in another place than it had: to begin anew with config.place.
    void on_displaced(std::function<void()> displaced) { displaced_ = std::move(displaced); }

    // Waits for a snapshot that is being written.
    void finish_snapshot() { saver_.wait_idle(); }

    void attach(const wire::Hello& hello, const ucred& peer, UniqueFd channel, UniqueFd host) override;
    void attach_stream(const ucred& peer, UniqueFd connection) override;
    void offer(const wire::ImageOffer& offer, UniqueFd file) override { session_.images.offer(offer, std::move(file)); }
    void replaced(uint64_t process_started) override;
    void told_of_dumps(bool told) override { told_of_dumps_ = told; }
    void opened(uint64_t inode, uint64_t until_ns, std::function<void()> settling, std::function<void()> settled) override;
    SessionStatus status() override;
    OpResult quiesce(uint32_t timeout_ms, const std::function<bool()>& unwanted) override;
    OpResult resume() override;
    OpResult snapshot(const std::string& directory, const std::string& checkpoint) override;
    ReportResult survey() override;
    ReportResult check(const std::string& directory) override;
    SnapshotState begin_snapshot(const SnapshotRequest& request) override;
    SnapshotState wait_snapshot(uint64_t id) override;
    SnapshotState snapshot_state(uint64_t id) override;
    SnapshotState abort_snapshot(uint64_t id) override;
    OpResult drop(bool force) override;

  private:
    unsigned long long id() const { return config_.session_id; }
    // A command for the executor's thread, behind those already there; on_executor() waits for its end.
    std::future<OpResult> post(std::function<OpResult()> command);
    OpResult on_executor(const std::function<OpResult()>& command);
    // Gives up a command that the executor has not begun within `timeout_ms` (0: never), being in a call that does not come back,
    // or that nobody wants any more: then it is never begun.
    OpResult on_executor_within(uint32_t timeout_ms, const std::function<bool()>& unwanted, const std::function<OpResult()>& command);
    void run();
    void run_commands();
    bool may_step();
    bool stands_still();
    void settle_for_dump(uint64_t inode);
    void look_at_copy();
    void note_standstill();
    void park();
    static constexpr char another_program[] = "runs another program now";
    void end_with_client(const char* what);  // which its process did
    void settle();
    void settle_unless_callbacks();
    void step_joining();
    std::string begin_joining(const wire::Hello& hello, const ucred& peer, ring::Channel& channel, UniqueFd host);
    void idle(uint64_t idle_ns);
    void sleep(uint64_t most_us);
    void set_state(SessionState state);
    void publish_status();
    void attach_once_more(const wire::Hello& hello, const ucred& peer);
    void begin_epoch(const wire::Hello& hello, const ucred& peer, std::unique_ptr<ring::RingServer> server);
    void do_attach(const wire::Hello& hello, const ucred& peer, UniqueFd channel, UniqueFd host);
    std::string epoch_refusal(const wire::Hello& hello) const;
    void serve_stream(const ucred& peer, UniqueFd connection);
    void end();
    OpResult look_at_images(uint32_t timeout_ms, const std::function<bool()>& unwanted);
    OpResult stand_for_snapshot(bool live, bool* stopped);

    const WorkerConfig config_;
    Session session_;
    Executor executor_;
    Saver saver_;
    std::unique_ptr<ring::RingServer> ring_;
    std::string no_driver_;  // why the driver's cuInit failed
    ClientProcess client_;
    uint64_t looked_at_client_ = 0;  // monotonic ns
    // A client that comes back to device work that waits for its callbacks. ring_ is still the channel of its earlier life.
    struct Joining {
        wire::Hello hello{};
        ucred peer{};
        UniqueFd channel_fd, host_fd, pidfd;
        ring::Channel channel;
        uint64_t shown = 0;  // ticket of the callback it is running
    };
    std::unique_ptr<Joining> joining_;
    // Parked, and to stay so until resume(): the client that comes meanwhile is taken then.
    bool held_ = false;
    struct Comer {
        wire::Hello hello;
        ucred peer;
        UniqueFd channel, host;
    };
    std::optional<Comer> held_off_;
    ring::SpinBudget spin_budget_;  // of ns without work
    uint64_t spin_ = 0;             // of it, this time
    bool asleep_ = false;           // since there was work
    uint64_t dumped_tail_ = 0;      // of the ring when host memory was copied for a dump
    uint64_t behind_callback_ = 0;  // calls looked at since a callback is due
    bool client_host_wins_ = false;  // loaded from a coordinated checkpoint: its client has the host memory, which was not saved here
    SessionState state_ = SessionState::Starting;
    std::function<void()> end_, displaced_, checked_ = [] {};
    std::atomic<bool> told_of_dumps_{true};
    std::atomic<bool> plain_{false};  // a client over a plain transport has the executor to itself
    bool over_ = false;  // the session has ended; commands are still answered

    std::mutex mutex_;  // guards what follows
    std::condition_variable changed_;
    std::deque<std::packaged_task<OpResult()>> commands_;
    std::atomic<bool> have_commands_{false};
    bool sleeps_ = false;  // the executor, on the ring
    std::atomic<bool> stop_{false};
    SessionStatus published_;
    bool status_wanted_ = false;
    std::thread thread_;
};

}  // namespace cricket::server
