// SPDX-License-Identifier: MIT
#include <optional>

#include "command.h"
#include "session_names.h"

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

SessionStatus find_running(ControlClient& control, const std::string& target) {
    SessionStatus found = find_session(control, target);
    if (found.state == SessionState::Parked)
        throw CommandError(describe(found) + " is parked, its program is gone: take a snapshot instead");
    if (found.state != SessionState::Running)
        throw CommandError(describe(found) + " is not running; cricketctl resume lets a stopped one go on");
    return found;
}

}  // namespace cricket::ctl
