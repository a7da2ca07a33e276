// SPDX-License-Identifier: MIT
// What the control program's procedures mean, without RPC: implemented by the supervisor (for cricketctl) and
// by the worker's link (for the supervisor), called by control_server, and offered to callers by
// ControlClient.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "worker_ops.h"

namespace cricket::server {

struct ControlStatus {
    int32_t pid = 0;
    std::string version, driver;
    std::vector<SessionStatus> sessions;
};

struct LoadResult {
    OpResult result;
    SessionStatus session;
};

// One object a connection; called from that connection's thread only.
class ControlService {
  public:
    virtual ~ControlService() = default;
    virtual ControlStatus status() = 0;
    virtual OpResult quiesce(const std::string& target, uint32_t timeout_ms, bool hold) = 0;
    virtual OpResult resume(const std::string& target) = 0;
    virtual OpResult snapshot(const std::string& target, const std::string& directory,
                              const std::string& checkpoint) = 0;
    virtual SnapshotState begin_snapshot(const std::string& target, const SnapshotRequest& request) = 0;
    virtual SnapshotState wait_snapshot(const std::string& target, uint64_t id) = 0;
    virtual SnapshotState snapshot_state(const std::string& target, uint64_t id) = 0;
    virtual SnapshotState abort_snapshot(const std::string& target, uint64_t id) = 0;
    virtual OpResult drop(const std::string& target, bool force) = 0;
    // `devices`: of ctl_load_args.
    virtual LoadResult load(const std::string& directory, const std::string& devices) = 0;
    // The same in two steps: what cannot be restored is refused by the first; `target` is the name of the session that it tells.
    virtual LoadResult begin_load(const std::string& directory, const std::string& devices, bool without_gpu) = 0;
    virtual LoadResult finish_load(const std::string& target) = 0;
    virtual ReportResult survey(const std::string& target) = 0;
    virtual OpResult guard(const std::string&) { return OpResult::failure("nothing is guarded here"); }
    virtual OpResult criu_dumped(int32_t, int32_t, bool) { return OpResult::failure("criu is not followed here"); }
    virtual OpResult keep(const std::string&) { return OpResult::failure("a worker keeps its session"); }
    virtual OpResult criu_restores(int32_t) { return OpResult::failure("criu is not followed here"); }
    virtual OpResult criu_restored(int32_t, int32_t, bool) { return OpResult::failure("criu is not followed here"); }
    virtual ReportResult check(const std::string& target, const std::string& directory) = 0;
    // True when the connection is to end after the answer just sent.
    virtual bool finished() { return false; }
};

// Serves one connection until the peer closes it or the service has finished; where it is the peer that cannot be served, why. The peer
// has been authorized by the caller; its RPC credentials are not looked at. `patience`: for its first call, and for it to take what it
// is answered; 0: for ever.
const char* serve_control(int fd, ControlService& service, std::chrono::seconds patience = {});

}  // namespace cricket::server
