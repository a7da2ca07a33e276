// SPDX-License-Identifier: MIT
#include <algorithm>
#include <optional>

#include "app_survey.h"
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

void require_running(const SessionStatus& session) {
    if (session.state == SessionState::Running) return;
    const std::string who = describe(session);
    switch (session.state) {
        case SessionState::Unresponsive:
            throw CommandError(who + " is unresponsive: its worker does not answer (is it stopped, or stuck in the driver?)");
        case SessionState::Starting: throw CommandError(who + " is only starting");
        default: throw CommandError(who + " is " + state_name(session.state) + ", not running; cricketctl resume lets a quiesced one go on");
    }
}

namespace {

// Of processes that are there.
std::vector<SessionStatus> sessions_below(ControlClient& control, pid_t root) {
    const std::vector<pid_t> tree = process_tree(root);
    std::vector<SessionStatus> below;
    for (SessionStatus& session : control.status().sessions)
        if (session.state != SessionState::Parked && std::ranges::find(tree, session.pid) != tree.end())
            below.push_back(std::move(session));
    return below;
}

void check_alone(const Tree& tree, const std::vector<SessionStatus>& below) {
    for (const SessionStatus& other : below)
        if (other.id != tree.session.id)
            throw CommandError(describe(tree.session) + " and " + describe(other) +
                               " belong together, and a checkpoint holds one " +
                               "session: criu with cricketctl as its action script saves both");
}

}  // namespace

void check_alone(ControlClient& control, const Tree& tree) {
    check_alone(tree, sessions_below(control, tree.root));
}

Tree find_tree(ControlClient& control, const std::string& target) {
    Tree found;
    const bool number =
        !target.empty() && target.size() < 10 && target.find_first_not_of("0123456789") == std::string::npos;
    std::vector<SessionStatus> below;
    if (number) below = sessions_below(control, found.root = std::stoi(target));
    if (below.empty()) {
        found.session = find_session(control, target);
        below = sessions_below(control, found.root = found.session.pid);
    } else {
        found.session = below[0];
    }
    if (found.session.state == SessionState::Parked)
        throw CommandError(describe(found.session) +
                           " is parked, its program is gone: take a snapshot instead");
    require_running(found.session);
    check_alone(found, below);
    return found;
}

}  // namespace cricket::ctl
