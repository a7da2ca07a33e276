// SPDX-License-Identifier: MIT
// What is done with sessions from threads that may wait: control calls, the end of parking, the state folder.
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "call_watch.h"
#include "log.h"
#include "settings.h"
#include "snapshot_store.h"
#include "supervisor.h"
#include "waiting_program.h"

namespace cricket::server {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto default_patience = 10s;   // a worker that says nothing for so long is stuck, or stopped
constexpr auto silent_patience = 500ms;  // as one that was found so a moment ago
constexpr auto between_greetings = 2s;   // of a worker that is at work for somebody
constexpr auto status_patience = 3s;     // people look at the list of sessions
constexpr auto drop_patience = 15s;   // a forced drop that takes longer becomes a kill
constexpr auto exit_patience = 60s;   // freeing a GPU takes seconds; longer, and the worker is stuck
constexpr uint32_t end_quiesce_ms = 30000;

std::chrono::seconds worker_patience() {
    const auto set = settings::number(settings::worker_patience);
    return set ? std::chrono::seconds(*set) : default_patience;
}

template <typename Number>
bool parse_number(const std::string& text, Number* value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
    return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string Supervisor::worker_name(const SessionRef& session) {
    std::lock_guard lock(mutex_);
    const std::string name = "the worker of session " + session_name(session->id);
    return session->worker > 0 ? name + " (process " + std::to_string(session->worker) + ")" : name;
}

// Throws ControlError.
ControlClient Supervisor::connect_worker(const SessionRef& session, std::chrono::milliseconds patience) {
    const std::string name = worker_name(session);
    bool silent = false;
    {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return session->started || session->gone || ending_; });
        silent = session->silent;
    }
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        throw ControlError(std::string("cannot make a socket pair: ") + std::strerror(errno));
    UniqueFd ours(ends[0]), theirs(ends[1]);
    LinkMessage message;
    message.kind = LinkKind::Control;
    if (!send_link_message(session->link.get(), message, {theirs.get()}))
        throw ControlError(name + (errno == EAGAIN ? " does not answer" : " has ended"));
    theirs.reset();
    ControlClient client(std::move(ours), name);
    const auto note = [&](bool answers) {
        std::lock_guard lock(mutex_);
        session->silent = !answers;
    };
    try {
        client.greet(silent ? std::min(patience, silent_patience) : patience);
    } catch (const ControlError&) {
        note(false);
        throw;
    }
    note(true);
    return client;
}

OpResult Supervisor::ask(const SessionRef& session, const std::function<OpResult(ControlClient&)>& function, int caller) {
    try {
        ControlClient client = connect_worker(session, worker_patience());
        auto looked = std::chrono::steady_clock::now();
        CallWatch watch(client.fd(), [&]() -> std::string {
            if (caller >= 0 && hung_up(caller)) return "whoever asked has gone away";
            if (std::chrono::steady_clock::now() - looked < std::min<std::chrono::seconds>(between_greetings, worker_patience())) return {};
            try {
                connect_worker(session, worker_patience());
            } catch (const ControlError& error) {
                return error.what();
            }
            looked = std::chrono::steady_clock::now();
            return {};
        });
        try {
            return function(client);
        } catch (const ControlError& error) {
            const std::string why = watch.end();
            return OpResult::failure(why.empty() ? error.what() : why);
        }
    } catch (const std::exception& error) {
        return OpResult::failure(error.what());
    }
}

void Supervisor::tell(const SessionRef& session, const std::function<void(ControlClient&)>& function) {
    bool answered = false;
    for (;;) {
        const OpResult result = ask(session, [&](ControlClient& client) {
            function(client);
            answered = true;
            return OpResult{};
        });
        std::unique_lock lock(mutex_);
        if (answered || changed_.wait_for(lock, between_greetings, [&] { return session->gone || ending_; })) return;
        log_debug("%s: it is tried again", result.error.c_str());
    }
}

SessionStatus Supervisor::status_of(const SessionRef& session) {
    SessionStatus status;
    bool started = false;
    {
        std::lock_guard lock(mutex_);
        status.id = session->id;
        status.token = session->token;
        status.pid = session->client_pid;
        status.program = session->program;
        status.started = status.state_since = session->began;
        started = session->started;
    }
    if (!started) return status;
    try {
        const ControlStatus answer = connect_worker(session, std::min(status_patience, worker_patience())).status(status_patience);
        if (answer.sessions.size() != 1) throw ControlError("it answered with no session");
        status = answer.sessions[0];
    } catch (const std::exception& error) {
        log_debug("no status of session %s: %s", session_name(session->id).c_str(), error.what());
        status.state = SessionState::Unresponsive;
    }
    status.id = session->id;
    status.token = session->token;
    return status;
}

bool Supervisor::ending() {
    std::lock_guard lock(mutex_);
    return ending_;
}

std::vector<SessionStatus> Supervisor::statuses() {
    std::vector<SessionRef> all;
    {
        std::lock_guard lock(mutex_);
        for (const auto& [id, session] : sessions_) all.push_back(session);
    }
    std::vector<SessionStatus> result;
    for (const SessionRef& session : all) {
        SessionStatus status = status_of(session);
        std::lock_guard lock(mutex_);
        if (!session->gone) result.push_back(std::move(status));
    }
    return result;
}

SessionRef Supervisor::find(const std::string& target, std::string* error) {
    const auto by = [&](const auto& matches) -> SessionRef {
        std::lock_guard lock(mutex_);
        for (const auto& [id, session] : sessions_)
            if (matches(*session)) return session;
        return nullptr;
    };
    uint64_t id = 0;
    int32_t pid = 0;
    wire::Token token;
    SessionRef found;
    if (target.size() > 1 && target[0] == 's' && parse_number(target.substr(1), &id)) {
        found = by([&](const SupervisedSession& session) { return session.id == id; });
        if (!found) *error = "there is no session " + target;
    } else if (parse_token(target, &token)) {
        found = by([&](const SupervisedSession& session) { return session.token == token; });
        if (!found) *error = "there is no session " + target;
    } else if (parse_number(target, &pid) && pid > 0) {
        // A pid may have been used again: the one that lives is meant, not those parked.
        std::vector<SessionStatus> candidates;
        for (SessionStatus& status : statuses())
            if (status.pid == pid) candidates.push_back(std::move(status));
        if (candidates.size() > 1)
            std::erase_if(candidates,
                          [](const SessionStatus& one) { return one.state == SessionState::Parked; });
        if (candidates.size() == 1) {
            found = by([&](const SupervisedSession& session) { return session.id == candidates[0].id; });
            if (!found) *error = "the session of pid " + target + " has just ended";
        } else {
            *error = candidates.empty()
                         ? "no session belongs to pid " + target
                         : "several sessions belong to pid " + target + ": name one as 'status' does";
        }
    } else {
        *error = "'" + target + "' is neither a session (such as s1) nor a pid";
    }
    return found;
}

bool Supervisor::wait_gone(const SessionRef& session, std::chrono::seconds patience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return session->gone; });
}

void Supervisor::kill_worker(const SessionRef& session) {
    std::lock_guard lock(mutex_);
    if (session->worker > 0) ::kill(session->worker, SIGKILL);
}

OpResult Supervisor::drop(const SessionRef& session, bool force) {
    if (!force)
        if (const SessionStatus status = status_of(session); status.state == SessionState::Parked && waits_for_session(status.pid, status.epoch))
            return OpResult::failure("process " + std::to_string(status.pid) + " is there, and comes to it with its next CUDA call");
    bool started = false;
    {
        std::lock_guard lock(mutex_);
        if (session->gone) return {};
        session->ending = true;
        started = session->started;
    }
    OpResult result;
    if (started) {
        bool answered = false;
        result = ask(session, [&](ControlClient& client) {
            try {
                const OpResult answer = client.drop({}, force, force ? drop_patience : no_hurry);
                answered = true;
                return answer;
            } catch (const ControlError& error) {
                return OpResult::failure(error.what());
            }
        });
        if (!result.ok && (answered || !force)) {
            std::lock_guard lock(mutex_);
            if (!session->gone && session->error.empty()) {
                session->ending = false;
                return result;
            }
        }
    }
    // A worker that cannot be asked may just be ending.
    if (wait_gone(session, started ? drop_patience : 0s)) return {};
    log_warn("the worker of session %s does not end by itself and is killed",
             session_name(session->id).c_str());
    kill_worker(session);
    if (wait_gone(session, drop_patience)) return {};
    return OpResult::failure("the worker of session " + session_name(session->id) +
                             " cannot be killed (is it stuck in "
                             "the driver?)");
}

OpResult Supervisor::begin_load(const std::string& directory, const std::string& devices, bool from_state_dir, bool without_gpu,
                                CriuRestore* restore, SessionRef* begun) {
    wire::Token token;
    try {
        const SnapshotReader reader(directory);
        if (!parse_token(reader.info().session, &token))
            return OpResult::failure("'" + directory + "/manifest.json' names no session");
    } catch (const SnapshotError& error) {
        return OpResult::failure(error.what());
    }
    bool there_already = false;
    const SessionRef session = on_main([&]() -> SessionRef {
        {
            std::lock_guard lock(mutex_);
            there_already = std::any_of(sessions_.begin(), sessions_.end(),
                                        [&](const auto& one) { return one.second->token == token; });
        }
        if (there_already) return nullptr;
        SessionRef started = start_session(token, directory, {}, devices, without_gpu);
        std::lock_guard lock(mutex_);
        if (started && !without_gpu) started->loaded_from = directory;
        if (started && from_state_dir) started->stored_at = directory;
        if (started && restore) restore->loaded.push_back(started);
        return started;
    });
    if (there_already) return OpResult::failure("session " + token_text(token) + " is here already; drop it first");
    if (!session) return OpResult::failure("the server cannot start another session");
    *begun = session;
    return wait_loaded(session, true);
}

OpResult Supervisor::wait_loaded(const SessionRef& session, bool only_checked) {
    std::string why;
    {
        std::unique_lock lock(mutex_);
        const auto there = [&] { return session->started || (only_checked && session->checked && !session->gone); };
        changed_.wait(lock, [&] { return there() || session->gone || ending_; });
        if (there()) return {};
        why = session->error.empty() ? "the server is ending" : session->error;
    }
    drop(session, true);
    return OpResult::failure("'" + session->loaded_from + "' cannot be loaded: " + why);
}

LoadResult Supervisor::finish_load(const SessionRef& session) {
    const OpResult result = wait_loaded(session, false);
    return {result, result.ok ? status_of(session) : SessionStatus{}};
}

LoadResult Supervisor::load(const std::string& directory, const std::string& devices, bool from_state_dir, CriuRestore* restore) {
    SessionRef session;
    const OpResult begun = begin_load(directory, devices, from_state_dir, false, restore, &session);
    return begun.ok ? finish_load(session) : LoadResult{begun, {}};
}

void Supervisor::set_criu_restore(pid_t criu, std::shared_ptr<CriuRestore> restore) {
    std::lock_guard lock(mutex_);
    if (restore)
        criu_restores_[criu] = std::move(restore);
    else
        criu_restores_.erase(criu);
}

CriuRestore Supervisor::state_of(const CriuRestore& restore) {
    std::lock_guard lock(mutex_);
    return restore;
}

OpResult Supervisor::restored(pid_t criu, pid_t program, bool let_go) {
    std::lock_guard lock(mutex_);
    const auto found = criu_restores_.find(criu);
    if (found == criu_restores_.end()) return {};  // it is not followed
    for (const SessionRef& session : found->second->loaded)
        if (session->gone || session->ending)
            return OpResult::failure("session " + session_name(session->id) + ", which was loaded for this restore, is gone");
    found->second->program = program;
    found->second->let_go = let_go;
    return {};
}

OpResult Supervisor::keep(const SessionRef& session) {
    std::lock_guard lock(mutex_);
    const std::string name = "session " + session_name(session->id);
    if (session->gone || session->ending) return OpResult::failure(name + " is being dropped");
    for (const auto& [criu, restore] : criu_restores_)
        if (std::ranges::find(restore->loaded, session) != restore->loaded.end())
            return OpResult::failure(name + " was loaded for criu (process " + std::to_string(criu) + "), which is restoring it");
    return {};
}

void Supervisor::drop_parked(const CriuRestore& restore) {
    for (const SessionRef& session : state_of(restore).loaded) {
        if (status_of(session).state != SessionState::Parked) continue;
        log_info("session %s is dropped: criu has ended and restored no program for it", session_name(session->id).c_str());
        if (const OpResult result = drop(session, true); !result.ok) log_error("%s", result.error.c_str());
    }
}

void Supervisor::housekeeping() {
    const auto limit = options_.park_timeout;
    const auto pause = limit.count() == 0 ? 30s : std::clamp(limit / 4, 1s, 30s);
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            const auto ended = [this] { return ending_; };
            if (changed_.wait_for(lock, pause, ended)) return;
            for (const auto& [id, session] : sessions_) {
                if (session->unlinked == std::chrono::steady_clock::time_point{} || session->worker <= 0 ||
                    std::chrono::steady_clock::now() - session->unlinked < exit_patience)
                    continue;
                log_warn("the worker of session %s has let go of its link and does not end: it is killed",
                         session_name(id).c_str());
                ::kill(session->worker, SIGKILL);
            }
        }
        if (limit.count() == 0) continue;
        const int64_t now = std::time(nullptr);
        for (const SessionStatus& status : statuses()) {
            if (status.state != SessionState::Parked || now - status.state_since < limit.count()) continue;
            if (waits_for_session(status.pid, status.epoch)) continue;  // however long it does without CUDA
            std::string error;
            const SessionRef session = find(session_name(status.id), &error);
            if (!session) continue;
            log_info("session %s (%s, pid %d) is dropped: parked for %lld s", session_name(status.id).c_str(),
                     status.program.c_str(), status.pid, static_cast<long long>(now - status.state_since));
            if (const OpResult result = drop(session, false); !result.ok)
                log_warn("session %s stays: %s", session_name(status.id).c_str(), result.error.c_str());
        }
    }
}

void Supervisor::load_state() {
    std::error_code error;
    if (!options_.state_dir.empty()) {
        for (const auto& entry : fs::directory_iterator(options_.state_dir, error)) {
            wire::Token token;
            if (!parse_token(entry.path().filename(), &token)) continue;
            const LoadResult loaded = load(entry.path(), {}, true, nullptr);
            if (loaded.result.ok)
                log_info("session %s came back from %s", session_name(loaded.session.id).c_str(),
                         entry.path().c_str());
            else
                log_error("%s stays where it is: %s", entry.path().c_str(), loaded.result.error.c_str());
        }
    }
    std::lock_guard lock(mutex_);
    open_ = true;  // hellos and control calls have waited in their sockets
    wake();
}

void Supervisor::end_session(const SessionRef& session) {
    bool started = false;
    std::string stored;
    {
        std::lock_guard lock(mutex_);
        started = session->started;
        stored = session->stored_at;
    }
    const std::string name = session_name(session->id);
    if (started && !options_.state_dir.empty() && stored.empty()) {
        const std::string place = options_.state_dir + "/" + token_text(session->token);
        OpResult saved = ask(session, [](ControlClient& client) { return client.quiesce({}, end_quiesce_ms, false); });
        if (saved.ok)
            saved = ask(session, [&](ControlClient& client) { return client.snapshot({}, place, {}); });
        if (saved.ok)
            log_info("session %s is kept in %s", name.c_str(), place.c_str());
        else if (saved.error != program_has_ended && !hung_up(session->link.get()))  // else it ends by itself
            log_error("session %s is lost: %s", name.c_str(), saved.error.c_str());
    }
    if (const OpResult result = drop(session, true); !result.ok) log_error("%s", result.error.c_str());
    wake();
}

}  // namespace cricket::server
