// SPDX-License-Identifier: MIT
// The process that owns the socket and no GPU: it starts a worker for each session, hands it the hellos of
// its client, and answers cricketctl. Nothing that a client or a worker does ends it.
//
// Threads: the main thread polls sockets, links and signals, and starts and reaps workers; each control
// connection has one; one drops sessions that were parked too long. Everything shared is under mutex_, which
// is never held over a call to a worker.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "control_client.h"
#include "control_service.h"
#include "criu_watch.h"
#include "dump_watch.h"
#include "environment.h"
#include "hello_socket.h"
#include "link_message.h"
#include "nvml/nvml_starter.h"
#include "paths.h"
#include "rpc_listener.h"
#include "session_names.h"

namespace cricket::server {

struct SupervisorOptions {
    std::string socket_path;
    std::string driver_path;
    std::string nvml_library;                 // of choose_nvml(); empty: none
    std::string state_dir;                    // empty: sessions end with the server
    std::chrono::seconds park_timeout{3600};  // 0: for ever
    std::vector<std::string> listen_rpc;      // further addresses for clients over plain RPC
};

struct SupervisedSession {
    uint64_t id = 0;
    wire::Token token{};
    UniqueFd link;  // sending is safe from any thread; closed with the last reference

    // Under the supervisor's mutex:
    pid_t worker = -1;     // -1 once it has been reaped
    bool started = false;  // the worker said so
    bool checked = false;  // the worker said of a snapshot that it can be restored here
    std::string error;     // why it did not start, or how it ended
    bool gone = false;     // no longer among the sessions
    bool ending = false;   // told to end: whatever its worker's status is then, it is no accident
    bool silent = false;   // its worker did not answer the last time: the next time less patience is due
    std::string loaded_from;  // a snapshot; empty: none
    std::string
        stored_at;  // its snapshot in the state folder, to be removed once it is older than the session
    int32_t client_pid = 0;
    std::string program;
    int64_t began = 0;                                 // unix seconds
    std::chrono::steady_clock::time_point unlinked{};  // when the worker closed its link without ending

    // Of the main thread: the last hello to a worker that has not started yet, to be answered if it never
    // does.
    std::optional<ReceivedHello> unanswered;
};
using SessionRef = std::shared_ptr<SupervisedSession>;

// What was loaded for a criu that is at work. Under the supervisor's mutex.
struct CriuRestore {
    std::vector<SessionRef> loaded;
    pid_t program = 0;    // once it is restored
    bool let_go = false;  // which it is a little later
};

class Supervisor {
  public:
    // Binds the sockets; throws PathError. SIGCHLD, SIGTERM and SIGINT must be blocked in every thread.
    explicit Supervisor(SupervisorOptions options);
    ~Supervisor();
    int run();  // until SIGTERM or SIGINT; returns the exit status

    // What the control plane is made of (supervisor_sessions.cpp); from any thread but the main one.
    std::vector<SessionStatus> statuses();
    // The session that `target` names, or null and why.
    SessionRef find(const std::string& target, std::string* error);
    // Runs `function` with a fresh control connection to the session's worker, once that is ready. A failure that names the
    // worker if it does not answer, does not go on answering while `function` waits, or ends; and if the other end of
    // `caller`, a socket, hangs up meanwhile (-1: nobody's). Never throws.
    OpResult ask(const SessionRef& session, const std::function<OpResult(ControlClient&)>& function, int caller = -1);
    // The same, again and again until the worker has answered, the session is gone, or the server is ending.
    void tell(const SessionRef& session, const std::function<void(ControlClient&)>& function);
    OpResult drop(const SessionRef& session, bool force);
    // Two steps: begin_load() refuses what cannot be restored here, and the session that it returns is loaded further; then
    // its end is waited for. What fails leaves no session.
    // `restore`: for which it is loaded, or null.
    OpResult begin_load(const std::string& directory, const std::string& devices, bool from_state_dir, bool without_gpu, CriuRestore* restore,
                        SessionRef* begun);
    LoadResult finish_load(const SessionRef& session);
    LoadResult load(const std::string& directory, const std::string& devices, bool from_state_dir, CriuRestore* restore);
    const SupervisorOptions& options() const { return options_; }
    bool ending();
    // By the process id of criu; null ends it.
    void set_criu_restore(pid_t criu, std::shared_ptr<CriuRestore> restore);
    CriuRestore state_of(const CriuRestore& restore);
    OpResult restored(pid_t criu, pid_t program, bool let_go);
    OpResult keep(const SessionRef& session);  // refused while it may go
    void drop_parked(const CriuRestore& restore);

  private:
    // Main thread
    void on_hello();
    void on_offer(const ReceivedOffer& offer);
    void on_stream(PlainAttach attach);
    void on_control();
    bool on_signal();
    void on_link(const SessionRef& session);
    void on_opened();
    void on_exchange(const SessionRef& session, const LinkMessage& message, std::vector<UniqueFd> fds);
    void reap();
    void begin_end();
    SessionRef start_session(const wire::Token& token, const std::string& restore_dir, const Variables& environment,
                             const std::string& devices = {}, bool without_gpu = false);
    SessionRef session_for(const wire::Hello& hello, wire::Refusal* refusal, std::string* error);
    void replaced(const SessionRef& by, pid_t pid);
    void adopt(const SessionRef& session, const wire::Hello& hello, const ucred& peer);
    void collect_connections(bool all);

    // Any thread
    SessionRef on_main(std::function<SessionRef()> function);
    SessionStatus status_of(const SessionRef& session);
    std::string worker_name(const SessionRef& session);
    ControlClient connect_worker(const SessionRef& session, std::chrono::milliseconds patience);
    OpResult wait_loaded(const SessionRef& session, bool only_checked);
    bool wait_gone(const SessionRef& session, std::chrono::seconds patience);
    void kill_worker(const SessionRef& session);
    void housekeeping();
    void load_state();
    void end_session(const SessionRef& session);
    void wake();

    struct ControlConnection {
        UniqueFd fd;
        std::thread thread;
        std::atomic<bool> ended{false};
    };
    struct Died {
        wire::Token token;
        wire::Refusal refusal;
        std::string how;
    };
    struct Task {
        std::function<SessionRef()> function;
        std::promise<SessionRef> result;
    };

    SupervisorOptions options_;
    HelloSocket hello_socket_;
    BoundSocket control_socket_;
    Reception reception_;
    RpcListener rpc_listener_;
    NvmlStarter nvml_;
    UniqueFd signals_, wake_;
    DumpWatch dump_watch_;

    std::mutex mutex_;
    std::condition_variable changed_;  // a session started, failed or went; the server is ending
    std::map<uint64_t, SessionRef> sessions_;
    std::deque<Died> died_;  // sessions that ended by accident
    std::deque<Task> tasks_;
    struct Published {
        UniqueFd fd;
        uint64_t session;  // that left it; it goes with that session
    };
    std::map<SharedName, Published> published_;
    std::map<pid_t, std::shared_ptr<CriuRestore>> criu_restores_;
    bool ending_ = false, open_ = false;
    uint64_t next_id_ = 1;

    std::list<ControlConnection> connections_;  // of the main thread
    std::vector<std::thread> helpers_;          // of the main thread; joined at the end
};

// The control plane as one connection of cricketctl sees it. What it quiesced without `hold` goes on when it
// ends; a folder that it made goes unless it was finished.
class SupervisorService : public ControlService {
  public:
    // `connection`: to cricketctl, the process `peer`.
    SupervisorService(Supervisor& supervisor, int connection, pid_t peer) : supervisor_(supervisor), connection_(connection), peer_(peer) {}
    ~SupervisorService() override;
    ControlStatus status() override;
    OpResult quiesce(const std::string& target, uint32_t timeout_ms, bool hold) override;
    OpResult resume(const std::string& target) override;
    OpResult snapshot(const std::string& target, const std::string& directory,
                      const std::string& checkpoint) override;
    SnapshotState begin_snapshot(const std::string& target, const SnapshotRequest& request) override;
    SnapshotState wait_snapshot(const std::string& target, uint64_t id) override;
    SnapshotState snapshot_state(const std::string& target, uint64_t id) override;
    SnapshotState abort_snapshot(const std::string& target, uint64_t id) override;
    OpResult drop(const std::string& target, bool force) override;
    LoadResult load(const std::string& directory, const std::string& devices) override;
    LoadResult begin_load(const std::string& directory, const std::string& devices, bool without_gpu) override;
    LoadResult finish_load(const std::string& target) override;
    ReportResult survey(const std::string& target) override;
    ReportResult check(const std::string& target, const std::string& directory) override;
    OpResult guard(const std::string& directory) override;
    OpResult criu_dumped(int32_t criu, int32_t program, bool stays) override;
    OpResult criu_restores(int32_t criu) override;
    OpResult keep(const std::string& target) override;
    OpResult criu_restored(int32_t criu, int32_t program, bool let_go) override;

  private:
    SnapshotState ask_state(const std::string& target, const std::function<SnapshotState(ControlClient&)>& function);
    ReportResult report(const std::string& target, const std::function<ReportResult(ControlClient&)>& function);
    void clean_up();
    void leave_to_criu();
    void follow_restore();
    void remove_saved();

    // A snapshot in the folder of a criu that somebody else drives.
    struct Saved {
        SessionRef session;
        uint64_t id;
        std::string directory, checkpoint;
    };
    Supervisor& supervisor_;
    const int connection_;
    const pid_t peer_;  // at the other end
    std::map<uint64_t, SessionRef> quiesced_;
    std::vector<std::string> guarded_;                     // folders that are made over this connection
    std::vector<std::pair<SessionRef, uint64_t>> halves_;  // snapshots begun for folders that somebody else makes
    std::map<std::string, SessionRef> loading_;  // by name
    std::vector<Saved> saved_;
    std::optional<HeldByCriu> held_;
    pid_t criu_ = 0;  // that restores
    UniqueFd criu_fd_;
    std::shared_ptr<CriuRestore> restore_;
};

}  // namespace cricket::server
