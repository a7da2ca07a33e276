// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>

#include "command.h"
#include "cricket/unique_fd.h"
#include "cricket/wire.h"
#include "process_files.h"
#include "rpc/ring/channel.h"
#include "session_names.h"

namespace cricket::ctl {

namespace fs = std::filesystem;
using server::ControlClient;
using server::SessionState;
using server::SessionStatus;

SessionStatus find_session(ControlClient& control, const std::string& target) {
    std::optional<SessionStatus> found;
    bool several = false;
    for (SessionStatus& session : control.status().sessions) {
        if (target == server::session_name(session.id) || target == server::token_text(session.token))
            return session;
        if (target != std::to_string(session.pid)) continue;
        // A pid may have been used again: the one that lives is meant, not those parked.
        if (found && (session.state == SessionState::Parked) != (found->state == SessionState::Parked)) {
            if (found->state == SessionState::Parked) {
                found = std::move(session);
                several = false;
            }
            continue;
        }
        several = found.has_value();
        found = std::move(session);
    }
    if (!found) throw CommandError("no session belongs to " + target + " (see cricketctl status)");
    if (several)
        throw CommandError("several sessions belong to pid " + target + ": name one as 'status' does");
    return std::move(*found);
}

void require_saveable(const SessionStatus& session) {
    if (session.state == SessionState::Running || session.state == SessionState::Parked) return;
    const std::string who = describe(session);
    switch (session.state) {
        case SessionState::Unresponsive:
            throw CommandError(who + " is unresponsive: its worker does not answer (is it stopped, or stuck in the driver?)");
        case SessionState::Starting: throw CommandError(who + " is only starting");
        default: throw CommandError(who + " is " + state_name(session.state) + ", not running; cricketctl resume lets a quiesced one go on");
    }
}

namespace {

// Whether this process is the session's, as it was when the session was saved: the answer to its last hello came back with its
// channel, and names the session's epoch.
bool waits_for(pid_t pid, uint64_t epoch) {
    const std::string memfd = std::string("/memfd:").append(ring::memfd_name);
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
        if (!fs::read_symlink(entry.path(), error).native().starts_with(memfd)) continue;
        const UniqueFd channel(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
        uint64_t magic = 0, answered = 0;
        if (channel && ::pread(channel.get(), &magic, sizeof magic, 0) == sizeof magic && magic == wire::channel_magic &&
            ::pread(channel.get(), &answered, sizeof answered, ring::page + offsetof(wire::ServerPage, answered_epoch)) ==
                sizeof answered &&
            answered == epoch)
            return true;
    }
    return false;
}

}  // namespace

std::vector<SessionStatus> sessions_below(ControlClient& control, pid_t root) {
    std::vector<SessionStatus> below;
    for (SessionStatus& session : control.status().sessions)
        if (server::descends_from(session.pid, root) &&
            (session.state != SessionState::Parked || waits_for(session.pid, session.epoch)))
            below.push_back(std::move(session));
    return below;
}

void check_no_other(ControlClient& control, const Tree& tree) {
    for (const SessionStatus& one : sessions_below(control, tree.root))
        if (std::ranges::find(tree.sessions, one.id, &SessionStatus::id) == tree.sessions.end())
            throw CommandError(describe(one) + " belongs to what is saved, and has begun only now");
}

Tree find_tree(ControlClient& control, const std::string& target) {
    Tree found;
    const bool number =
        !target.empty() && target.size() < 10 && target.find_first_not_of("0123456789") == std::string::npos;
    if (number) found.sessions = sessions_below(control, found.root = std::stoi(target));
    if (found.sessions.empty()) {
        const SessionStatus session = find_session(control, target);
        found.sessions = sessions_below(control, found.root = session.pid);
        if (found.sessions.empty() && session.state == SessionState::Parked)
            throw CommandError(describe(session) + " is parked: its program has ended; take a snapshot instead");
    }
    if (found.sessions.empty()) throw CommandError("no session belongs to " + target + " any more");
    for (const SessionStatus& session : found.sessions) require_saveable(session);
    return found;
}

}  // namespace cricket::ctl
