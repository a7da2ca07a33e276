// SPDX-License-Identifier: MIT
#include <algorithm>
#include <optional>

#include "command.h"
#include "process_files.h"
#include "session_names.h"
#include "waiting_program.h"

namespace cricket::ctl {

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

std::vector<SessionStatus> sessions_below(ControlClient& control, pid_t root) {
    std::vector<SessionStatus> below;
    for (SessionStatus& session : control.status().sessions)
        if (server::descends_from(session.pid, root) &&
            (session.state != SessionState::Parked || server::waits_for_session(session.pid, session.epoch)))
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
