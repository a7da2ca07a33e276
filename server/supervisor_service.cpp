// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "call_watch.h"
#include "log.h"
#include "partial_directory.h"
#include "process_files.h"
#include "session_names.h"
#include "snapshot_store.h"
#include "supervisor.h"

namespace cricket::server {
namespace {

constexpr auto look_again = std::chrono::milliseconds(20);

OpResult check_directory(const std::string& directory) {
    if (directory.empty() || directory[0] != '/')
        return OpResult::failure("'" + directory + "' is no absolute path");
    return {};
}

}  // namespace

SupervisorService::~SupervisorService() {
    follow_restore();
    leave_to_criu();
    // The GPU's half of what is not going to be whole.
    for (const auto& [session, id] : halves_)
        supervisor_.tell(session, [id = id](ControlClient& client) { client.abort_snapshot({}, id); });
    for (const Saved& one : saved_)
        supervisor_.tell(one.session, [&](ControlClient& client) { client.abort_snapshot({}, one.id); });
    for (const auto& [id, session] : quiesced_) {
        OpResult result = OpResult::failure("it has ended");
        supervisor_.tell(session, [&](ControlClient& client) { result = client.resume({}); });
        if (result.ok)
            log_info("session %s goes on: %s", session_name(id).c_str(),
                     held_ ? "so does its program, which criu held" : "whoever had stopped it went away");
        else
            log_debug("session %s was not resumed: %s", session_name(id).c_str(), result.error.c_str());
    }
    remove_saved();
    clean_up();
}

// The program of what is left in quiesced_ goes on; what is left in saved_ is of no use then.
void SupervisorService::leave_to_criu() {
    if (!held_) return;
    const HeldByCriu::End end = held_->wait([this] { return supervisor_.ending(); });
    if (end == HeldByCriu::End::Ended)
        for (const auto& [id, session] : quiesced_) {
            const OpResult result = supervisor_.drop(session, true);
            if (result.ok) log_info("session %s was dropped: criu has ended its program", session_name(id).c_str());
            if (!result.ok) log_error("%s", result.error.c_str());
        }
    if (end != HeldByCriu::End::GoesOn) quiesced_.clear();
    if (end != HeldByCriu::End::GoesOn || held_->stays()) saved_.clear();
}

void SupervisorService::remove_saved() {
    for (const Saved& one : saved_) {
        remove_half_made(one.directory);
        try {
            if (::access(one.directory.c_str(), F_OK) != 0 || SnapshotReader(one.directory).info().checkpoint != one.checkpoint) continue;
            log_info("the dump that '%s' belongs to was not finished, and its program goes on: it is removed", one.directory.c_str());
            discard_directory(one.directory);
        } catch (const std::exception& error) {
            log_warn("'%s' stays, although its dump was not finished: %s", one.directory.c_str(), error.what());
        }
    }
}

void SupervisorService::follow_restore() {
    if (!restore_) return;
    // Once it is let go of, what becomes of the program is its own affair. Whether criu traces it does not tell: it does so only
    // for a moment, after it has said that all is restored.
    const bool ended = wait_end(criu_fd_.get(), [&] { return supervisor_.ending() || supervisor_.state_of(*restore_).let_go; });
    const pid_t program = supervisor_.state_of(*restore_).program;
    if (ended && (!program || is_ending(program))) supervisor_.drop_parked(*restore_);
    supervisor_.set_criu_restore(criu_, nullptr);
}

OpResult SupervisorService::criu_dumped(int32_t criu, int32_t program, bool stays) {
    std::string error;
    held_ = HeldByCriu::look(criu, program, stays, &error);
    return held_ ? OpResult{} : OpResult::failure(error);
}

// Only what criu itself has started is sure to be started again when all is restored.
OpResult SupervisorService::criu_restores(int32_t criu) {
    UniqueFd process = open_process(criu);
    if (restore_ || criu <= 0 || !process || parent_of(peer_) != criu)
        return OpResult::failure("process " + std::to_string(criu) + " did not start this one");
    criu_ = criu;
    criu_fd_ = std::move(process);
    restore_ = std::make_shared<CriuRestore>();
    supervisor_.set_criu_restore(criu, restore_);
    return {};
}

OpResult SupervisorService::keep(const std::string& target) {
    std::string error;
    const SessionRef session = supervisor_.find(target, &error);
    if (!session) return OpResult::failure(error);
    return supervisor_.keep(session);
}

OpResult SupervisorService::criu_restored(int32_t criu, int32_t program, bool let_go) {
    return supervisor_.restored(criu, program, let_go);
}

// Where cricketctl went away in the middle, criu may still be at work: it is made to end, which lets the program go on.
void SupervisorService::clean_up() {
    for (const std::string& folder : guarded_) {
        if (!PartialDirectory::is_partial(std::filesystem::path(folder).filename())) {
            remove_half_made(folder);
            continue;
        }
        if (::access(folder.c_str(), F_OK) != 0) continue;
        log_info("whoever made '%s' went away: it is removed", folder.c_str());
        while (!end_half_made(folder) && !supervisor_.ending())
            std::this_thread::sleep_for(look_again);  // until those who hold it have ended
    }
}

OpResult SupervisorService::guard(const std::string& directory) {
    if (OpResult checked = check_directory(directory); !checked.ok) return checked;
    guarded_.push_back(directory);
    return {};
}

ControlStatus SupervisorService::status() {
    ControlStatus result;
    result.pid = ::getpid();
    result.version = CRICKET_VERSION;
    result.driver = supervisor_.options().driver_path;
    result.sessions = supervisor_.statuses();
    return result;
}

OpResult SupervisorService::quiesce(const std::string& target, uint32_t timeout_ms, bool hold) {
    std::string error;
    const SessionRef session = supervisor_.find(target, &error);
    if (!session) return OpResult::failure(error);
    bool sent = false, answered = false;
    const OpResult result = supervisor_.ask(session, [&](ControlClient& client) {
        sent = true;
        OpResult quiesced = client.quiesce({}, timeout_ms, hold);
        answered = true;
        return quiesced;
    }, connection_);
    // What cannot be known is as if it were quiesced.
    if (answered ? result.ok && (!hold || hung_up(connection_)) : sent) quiesced_[session->id] = session;
    return result;
}

OpResult SupervisorService::resume(const std::string& target) {
    std::string error;
    const SessionRef session = supervisor_.find(target, &error);
    if (!session) return OpResult::failure(error);
    const OpResult result = supervisor_.ask(session, [](ControlClient& client) { return client.resume({}); });
    if (result.ok) quiesced_.erase(session->id);
    return result;
}

OpResult SupervisorService::snapshot(const std::string& target, const std::string& directory,
                                     const std::string& checkpoint) {
    if (const OpResult checked = check_directory(directory); !checked.ok) return checked;
    std::string error;
    const SessionRef session = supervisor_.find(target, &error);
    if (!session) return OpResult::failure(error);
    return supervisor_.ask(session,
                           [&](ControlClient& client) { return client.snapshot({}, directory, checkpoint); });
}

SnapshotState SupervisorService::ask_state(const std::string& target,
                                           const std::function<SnapshotState(ControlClient&)>& function) {
    SnapshotState state;
    const SessionRef session = supervisor_.find(target, &state.error);
    if (!session) return state;
    const OpResult asked = supervisor_.ask(session, [&](ControlClient& client) {
        state = function(client);
        return OpResult{};
    });
    if (!asked.ok) state.error = asked.error;
    return state;
}

SnapshotState SupervisorService::begin_snapshot(const std::string& target, const SnapshotRequest& request) {
    SnapshotState refused;
    for (const std::string& folder : {request.directory, request.base.empty() ? request.directory : request.base})
        if (const OpResult checked = check_directory(folder); !checked.ok) refused.error = checked.error;
    if (!refused.error.empty()) return refused;
    const SnapshotState state = ask_state(target, [&](ControlClient& client) { return client.begin_snapshot({}, request); });
    const std::filesystem::path folder = std::filesystem::path(request.directory).parent_path();
    std::string error;
    if (state.error.empty() && (request.frozen || PartialDirectory::is_partial(folder.filename())))
        if (const SessionRef session = supervisor_.find(target, &error)) {
            if (request.frozen)
                saved_.push_back({session, state.id, request.directory, request.checkpoint});
            else
                halves_.push_back({session, state.id});
        }
    return state;
}

SnapshotState SupervisorService::wait_snapshot(const std::string& target, uint64_t id) {
    return ask_state(target, [&](ControlClient& client) { return client.wait_snapshot({}, id); });
}

SnapshotState SupervisorService::snapshot_state(const std::string& target, uint64_t id) {
    return ask_state(target, [&](ControlClient& client) { return client.snapshot_state({}, id); });
}

SnapshotState SupervisorService::abort_snapshot(const std::string& target, uint64_t id) {
    return ask_state(target, [&](ControlClient& client) { return client.abort_snapshot({}, id); });
}

OpResult SupervisorService::drop(const std::string& target, bool force) {
    std::string error;
    const SessionRef session = supervisor_.find(target, &error);
    if (!session) return OpResult::failure(error);
    const OpResult result = supervisor_.drop(session, force);
    if (result.ok) {
        quiesced_.erase(session->id);
        log_info("session %s was dropped by request", session_name(session->id).c_str());
    }
    return result;
}

LoadResult SupervisorService::load(const std::string& directory, const std::string& devices) {
    if (OpResult checked = check_directory(directory); !checked.ok) return {std::move(checked), {}};
    return supervisor_.load(directory, devices, false, restore_.get());
}

LoadResult SupervisorService::begin_load(const std::string& directory, const std::string& devices, bool without_gpu) {
    if (OpResult checked = check_directory(directory); !checked.ok) return {std::move(checked), {}};
    SessionRef session;
    const OpResult begun = supervisor_.begin_load(directory, devices, false, without_gpu, restore_.get(), &session);
    if (!begun.ok) return {begun, {}};
    SessionStatus status;
    status.id = session->id;
    status.token = session->token;
    loading_[session_name(session->id)] = session;
    return {{}, std::move(status)};
}

LoadResult SupervisorService::finish_load(const std::string& target) {
    std::string error;
    const auto found = loading_.extract(target);
    const SessionRef session = found.empty() ? supervisor_.find(target, &error) : found.mapped();
    return session ? supervisor_.finish_load(session) : LoadResult{OpResult::failure(error), {}};
}

ReportResult SupervisorService::report(const std::string& target,
                                       const std::function<ReportResult(ControlClient&)>& function) {
    std::string error;
    const SessionRef session = supervisor_.find(target, &error);
    if (!session) return {OpResult::failure(error), {}};
    ReportResult answer;
    answer.result = supervisor_.ask(session, [&](ControlClient& client) {
        answer = function(client);
        return answer.result;
    });
    return answer;
}

ReportResult SupervisorService::survey(const std::string& target) {
    return report(target, [](ControlClient& client) { return client.survey({}); });
}

ReportResult SupervisorService::check(const std::string& target, const std::string& directory) {
    if (!directory.empty())
        if (OpResult checked = check_directory(directory); !checked.ok) return {std::move(checked), {}};
    return report(target, [&](ControlClient& client) { return client.check({}, directory); });
}

}  // namespace cricket::server
