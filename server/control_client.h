// SPDX-License-Identifier: MIT
// The caller's end of the control program, over libtirpc's connection-oriented transport.
#pragma once

#include <chrono>
#include <stdexcept>
#include <string>

#include "control_service.h"
#include "cricket/unique_fd.h"

namespace cricket::server {

// The peer cannot be reached, went away, or answered what is no answer.
struct ControlError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline constexpr std::chrono::seconds no_hurry{24 * 3600};

// One call at a time. All calls throw ControlError.
class ControlClient {
  public:
    // `peer_name` is what errors call the other side.
    ControlClient(UniqueFd fd, std::string peer_name);
    // Connects to the server's control socket; refuses one that belongs to another user than ours or root.
    static ControlClient connect(const std::string& path);
    ~ControlClient();
    // Waits for the other side to answer anything at all.
    void greet(std::chrono::milliseconds patience);
    // The socket, which stays ours: shutting it down ends a call under way with an error, from a signal handler too.
    int fd() const;
    ControlClient(ControlClient&& other) noexcept;
    ControlClient(const ControlClient&) = delete;

    ControlStatus status(std::chrono::seconds timeout = std::chrono::seconds(60));
    OpResult quiesce(const std::string& target, uint32_t timeout_ms, bool hold);
    OpResult resume(const std::string& target);
    OpResult snapshot(const std::string& target, const std::string& directory, const std::string& checkpoint);
    SnapshotState begin_snapshot(const std::string& target, const SnapshotRequest& request);
    SnapshotState wait_snapshot(const std::string& target, uint64_t id);
    SnapshotState snapshot_state(const std::string& target, uint64_t id);
    SnapshotState abort_snapshot(const std::string& target, uint64_t id);
    OpResult drop(const std::string& target, bool force, std::chrono::seconds timeout = no_hurry);
    LoadResult load(const std::string& directory, const std::string& devices = {});
    LoadResult begin_load(const std::string& directory, const std::string& devices, bool without_gpu = false);
    LoadResult finish_load(const std::string& target);
    ReportResult survey(const std::string& target);
    ReportResult check(const std::string& target, const std::string& directory);
    OpResult guard(const std::string& directory);
    OpResult criu_dumped(int32_t criu, int32_t program, bool stays);
    OpResult criu_restores(int32_t criu);
    OpResult keep(const std::string& target);
    OpResult criu_restored(int32_t criu, int32_t program, bool let_go);

  private:
    void require_answer(int status) const;  // clnt_stat
    template <typename Procedure, typename Arguments, typename Result>
    void call(Procedure procedure, Arguments* arguments, Result* result, std::chrono::seconds timeout);
    template <typename Procedure, typename Arguments>
    LoadResult load_call(Procedure procedure, Arguments* arguments);
    template <typename Procedure, typename Arguments>
    ReportResult report(Procedure procedure, Arguments* arguments);
    template <typename Procedure, typename Arguments>
    SnapshotState snapshot_call(Procedure procedure, Arguments* arguments);
    template <typename Procedure, typename Arguments>
    OpResult simple(Procedure procedure, Arguments* arguments, std::chrono::seconds timeout = no_hurry);

    void* client_ = nullptr;  // CLIENT of libtirpc, which closes the fd
    std::string peer_name_;
};

}  // namespace cricket::server
