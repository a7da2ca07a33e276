// SPDX-License-Identifier: MIT
// The main thread: who comes to the sockets, who of the workers ends, and when everything does.
#include "supervisor.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>

#include "log.h"
#include "partial_directory.h"
#include "process_files.h"
#include "worker_process.h"

namespace cricket::server {
namespace {

constexpr size_t most_sessions = 4096;
constexpr size_t most_control_connections = 256;
constexpr std::chrono::seconds stranger_patience{10};
constexpr size_t most_died_remembered = 1024;
constexpr size_t most_published = 100'000;

std::string describe_end(int status) {
    if (WIFSIGNALED(status)) {
        const int signal = WTERMSIG(status);
        return "its worker died of signal " + std::to_string(signal) + " (" + ::strsignal(signal) + ")";
    }
    return "its worker ended with status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

Supervisor::Supervisor(SupervisorOptions options)
    : options_(std::move(options)),
      hello_socket_(options_.socket_path),
      control_socket_(control_path(options_.socket_path), SOCK_STREAM),
      nvml_(options_.socket_path, options_.nvml_library) {
    rpc_listener_.listen("unix:" + options_.socket_path + ".rpc");
    for (const std::string& address : options_.listen_rpc) rpc_listener_.listen(address);
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&set, signal);
    signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!signals_ || !wake_)
        throw PathError(std::string("cannot make a signalfd or eventfd: ") + std::strerror(errno));
}

Supervisor::~Supervisor() = default;

void Supervisor::wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored = ::write(wake_.get(), &one, sizeof one);
}

int Supervisor::run() {
    helpers_.emplace_back([this] { housekeeping(); });
    helpers_.emplace_back([this] { load_state(); });
    for (;;) {
        std::vector<pollfd> waiting = {{signals_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}, {dump_watch_.get(), POLLIN, 0}};
        std::vector<SessionRef> linked;
        bool open = false, ending = false;
        {
            std::lock_guard lock(mutex_);
            open = open_ && !ending_;
            ending = ending_;
            for (const auto& [id, session] : sessions_)
                if (session->link && session->worker > 0 && session->error.empty()) linked.push_back(session);
            if (ending && sessions_.empty()) break;
        }
        const size_t first_link = waiting.size();
        for (const SessionRef& session : linked) waiting.push_back({session->link.get(), POLLIN, 0});
        const size_t first_socket = waiting.size();
        if (open) {
            waiting.push_back({hello_socket_.get(), POLLIN, 0});
            waiting.push_back({control_socket_.get(), POLLIN, 0});
            rpc_listener_.add_to(&waiting);
            nvml_.add_to(&waiting);
        }
        int timeout = dump_watch_.expire();
        for (const int one : {rpc_listener_.timeout(), nvml_.timeout()})
            if (open && one >= 0) timeout = timeout < 0 ? one : std::min(timeout, one);
        if (::poll(waiting.data(), waiting.size(), timeout) < 0 && errno != EINTR) {
            log_error("poll: %s", std::strerror(errno));
            break;
        }
        uint64_t count;
        [[maybe_unused]] const ssize_t ignored = ::read(wake_.get(), &count, sizeof count);
        if (waiting[0].revents && !on_signal()) break;
        for (size_t i = 0; i < linked.size(); ++i)
            if (waiting[first_link + i].revents) on_link(linked[i]);
        if (waiting[2].revents) on_opened();
        std::deque<Task> tasks;
        {
            std::lock_guard lock(mutex_);
            tasks.swap(tasks_);
        }
        for (Task& task : tasks) task.result.set_value(task.function());
        if (open) {
            if (waiting[first_socket].revents) on_hello();
            if (waiting[first_socket + 1].revents) on_control();
            for (PlainAttach& attach : rpc_listener_.process(waiting)) on_stream(std::move(attach));
            nvml_.start_if_asked(waiting);
        }
        collect_connections(false);
    }
    {
        std::lock_guard lock(mutex_);
        ending_ = true;
        for (const auto& [id, session] : sessions_)
            if (session->worker > 0) ::kill(session->worker, SIGKILL);
        for (Task& task : tasks_) task.result.set_value(nullptr);
        tasks_.clear();
    }
    changed_.notify_all();
    collect_connections(true);
    for (std::thread& helper : helpers_) helper.join();
    helpers_.clear();
    hello_socket_.close();
    control_socket_.unlink();
    rpc_listener_.close();
    nvml_.close();
    dump_watch_.close();
    log_info("ended");
    return 0;
}

SessionRef Supervisor::on_main(std::function<SessionRef()> function) {
    std::future<SessionRef> result;
    {
        std::lock_guard lock(mutex_);
        if (ending_) return nullptr;
        tasks_.push_back({std::move(function), {}});
        result = tasks_.back().result.get_future();
    }
    wake();
    return result.get();
}

SessionRef Supervisor::start_session(const wire::Token& token, const std::string& restore_dir,
                                     const Variables& environment, const std::string& devices, bool without_gpu) {
    auto session = std::make_shared<SupervisedSession>();
    session->token = token;
    session->began = std::time(nullptr);
    {
        std::lock_guard lock(mutex_);
        if (ending_ || sessions_.size() >= most_sessions) return nullptr;
        session->id = next_id_++;
    }
    try {
        WorkerProcess worker = start_worker({session->id, options_.driver_path, restore_dir, devices, without_gpu, environment});
        session->worker = worker.pid;
        session->link = std::move(worker.link);
    } catch (const std::system_error& error) {
        log_error("cannot start a worker: %s", error.what());
        return nullptr;
    }
    std::lock_guard lock(mutex_);
    sessions_[session->id] = session;
    std::erase_if(died_, [&](const auto& one) { return one.token == token; });
    return session;
}

// The session a hello belongs to: a known one, or a new one when the client has none yet.
SessionRef Supervisor::session_for(const wire::Hello& hello, wire::Refusal* refusal, std::string* error) {
    {
        std::lock_guard lock(mutex_);
        for (const auto& [id, session] : sessions_)
            if (session->token == hello.token && session->worker > 0) return session;
        for (const Died& one : died_) {
            if (!(one.token == hello.token)) continue;
            *refusal = one.refusal;
            *error = one.how;
            return nullptr;
        }
    }
    if (hello.epoch != 0) {
        *refusal = wire::Refusal::UnknownSession;
        *error = "no session " + token_text(hello.token) + " here; load its snapshot";
        return nullptr;
    }
    SessionRef session = start_session(
        hello.token, {},
        read_variables(hello.environment, std::min<uint64_t>(hello.environment_bytes, sizeof hello.environment)));
    if (!session) {
        *refusal = wire::Refusal::Internal;
        *error = "the server cannot start another session";
    }
    return session;
}

void Supervisor::adopt(const SessionRef& session, const wire::Hello& hello, const ucred& peer) {
    std::string stored;
    {
        std::lock_guard lock(mutex_);
        session->client_pid = peer.pid;
        session->program = hello.program;
        stored.swap(session->stored_at);
    }
    if (!stored.empty()) remove_tree(stored);  // from now on it is older than the session
    log_debug("hello of %s (pid %d) goes to session %s", hello.program, peer.pid,
              session_name(session->id).c_str());
}

// A process that begins a session has no other: one that it had it lost by exec.
void Supervisor::replaced(const SessionRef& by, pid_t pid) {
    std::vector<SessionRef> others;
    {
        std::lock_guard lock(mutex_);
        for (const auto& [id, session] : sessions_)
            if (session != by && session->client_pid == pid && session->worker > 0) others.push_back(session);
    }
    LinkMessage message;
    message.kind = LinkKind::Replaced;
    message.request = others.empty() ? 0 : process_start_time(pid);
    for (const SessionRef& session : others) send_link_message(session->link.get(), message, {});
}

void Supervisor::on_hello() {
    bool more = true;
    for (int burst = 0; more && burst < 64; ++burst) {
        std::optional<ReceivedOffer> offer;
        std::optional<ReceivedHello> received = hello_socket_.receive(&more, &offer);
        if (offer) on_offer(*offer);
        if (!received) continue;
        wire::Refusal refusal = wire::Refusal::None;
        std::string error;
        const SessionRef session = session_for(received->hello, &refusal, &error);
        if (!session) {
            refuse_hello(*received, refusal, error);
            continue;
        }
        LinkMessage message;
        message.kind = LinkKind::Hello;
        message.ok = dump_watch_.watch(received->host.get(), session->id);  // before it is attached: no dump after that is missed
        message.hello = received->hello;
        message.peer = received->peer;
        if (send_link_message(session->link.get(), message,
                              {received->channel.get(), received->host.get()})) {
            if (received->hello.epoch == 0) replaced(session, received->peer.pid);
            adopt(session, received->hello, received->peer);
            if (!session->started) session->unanswered = std::move(received);
        } else  // it is dying, or stuck; the client says hello again
            log_warn("session %s does not take a hello: %s", session_name(session->id).c_str(),
                     std::strerror(errno));
    }
}

// What does not reach its worker is asked for again by the call that needs it.
void Supervisor::on_offer(const ReceivedOffer& offer) {
    SessionRef session;
    {
        std::lock_guard lock(mutex_);
        for (const auto& [id, one] : sessions_)
            if (one->token == offer.offer.token && !one->gone) session = one;
    }
    LinkMessage message;
    message.kind = LinkKind::Image;
    message.image = offer.offer;
    if (!session)
        log_warn("an image is offered to a session that is not there");
    else if (!send_link_message(session->link.get(), message, {offer.file.get()}))
        log_warn("session %s does not take an image: %s", session_name(session->id).c_str(), std::strerror(errno));
}

void Supervisor::on_stream(PlainAttach attach) {
    wire::Refusal refusal = wire::Refusal::None;
    std::string error;
    SessionRef session;
    if (attach.hello.protocol != wire::protocol_version) {
        refusal = wire::Refusal::Protocol;
        error = "the client speaks protocol version " + std::to_string(attach.hello.protocol) +
                ", the server " + std::to_string(wire::protocol_version);
    } else {
        session = session_for(attach.hello, &refusal, &error);
    }
    if (!session) return refuse_stream(attach, refusal, error);
    LinkMessage message;
    message.kind = LinkKind::Stream;
    message.hello = attach.hello;
    message.peer = attach.peer;
    if (send_link_message(session->link.get(), message, {attach.connection.get()}))
        adopt(session, attach.hello, attach.peer);
    else
        refuse_stream(attach, wire::Refusal::Internal, "the session's worker does not take a connection");
}

void Supervisor::on_control() {
    UniqueFd fd = reception_.accept(control_socket_.get(), options_.socket_path + ".control");
    if (!fd) return;
    ucred peer{};
    socklen_t length = sizeof peer;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
        (peer.uid != ::geteuid() && peer.uid != 0)) {
        if (log_of_strangers())
            log_warn("control connection of pid %d refused: it belongs to uid %d, the server to uid %d", peer.pid,
                     static_cast<int>(peer.uid), static_cast<int>(::geteuid()));
        return;
    }
    if (connections_.size() >= most_control_connections) {
        if (log_of_strangers())
            log_warn("control connection of pid %d refused: there are %zu already", peer.pid,
                     connections_.size());
        return;
    }
    ControlConnection& connection = connections_.emplace_back();
    connection.fd = std::move(fd);
    try {
        connection.thread = std::thread([this, &connection, pid = peer.pid] {
            {
                SupervisorService service(*this, connection.fd.get(), pid);
                const char* why = serve_control(connection.fd.get(), service, stranger_patience);
                if (why && log_of_strangers()) log_warn("control connection of pid %d closed: %s", pid, why);
                ::shutdown(connection.fd.get(), SHUT_RDWR);
            }  // which may wait for a program or criu to end
            connection.ended = true;
            wake();
        });
    } catch (const std::system_error& error) {
        log_error("a control connection cannot be answered: %s", error.what());
        connections_.pop_back();
    }
}

void Supervisor::collect_connections(bool all) {
    for (auto it = connections_.begin(); it != connections_.end();) {
        if (all) ::shutdown(it->fd.get(), SHUT_RDWR);
        if (all || it->ended) {
            it->thread.join();
            it = connections_.erase(it);
        } else {
            ++it;
        }
    }
}

void Supervisor::on_link(const SessionRef& session) {
    ReceivedLinkMessage received = receive_link_message(session->link.get(), false);
    if (received.outcome == ReceivedLinkMessage::Outcome::Nothing) return;
    const LinkKind kind = received.message.kind;
    if (received.outcome == ReceivedLinkMessage::Outcome::Message && kind == LinkKind::Settling) return dump_watch_.begun(received.message.request);
    if (received.outcome == ReceivedLinkMessage::Outcome::Message && kind == LinkKind::Settled) return dump_watch_.let_go(received.message.request);
    if (received.outcome == ReceivedLinkMessage::Outcome::Message && kind != LinkKind::Started && kind != LinkKind::Checked)
        return on_exchange(session, received.message, std::move(received.fds));
    std::lock_guard lock(mutex_);
    if (received.outcome == ReceivedLinkMessage::Outcome::Closed) {
        // The worker is about to end; its status says how. Until then its link is not polled.
        if (session->error.empty()) session->error = "its worker ended";
        session->unlinked = std::chrono::steady_clock::now();
    } else if (kind == LinkKind::Checked) {
        session->checked = true;
    } else if (received.message.ok) {
        session->started = true;
        session->unanswered.reset();  // the worker answers it
        log_info("session %s is ready (worker %d)", session_name(session->id).c_str(), session->worker);
    } else {
        session->error = received.message.text[0] ? received.message.text : "its worker gave no reason";
        log_error("session %s did not start: %s", session_name(session->id).c_str(), session->error.c_str());
    }
    changed_.notify_all();
}

void Supervisor::on_opened() {
    for (const DumpWatch::Opened& opened : dump_watch_.take()) {
        SessionRef session;
        {
            std::lock_guard lock(mutex_);
            if (auto found = sessions_.find(opened.session); found != sessions_.end()) session = found->second;
        }
        LinkMessage message;
        message.kind = LinkKind::Opened;
        message.request = opened.number;
        message.inode = opened.inode;
        message.until_ns = opened.until_ns;
        if (!session || !send_link_message(session->link.get(), message)) dump_watch_.let_go(opened.number);
    }
}

// A worker that does not read its answer waits for it in vain: the others are not held up.
void Supervisor::on_exchange(const SessionRef& session, const LinkMessage& message, std::vector<UniqueFd> fds) {
    LinkMessage answer;
    answer.kind = LinkKind::Answer;
    answer.request = message.request;
    std::vector<int> with;
    std::lock_guard lock(mutex_);
    auto found = published_.find(message.name);
    if (message.kind == LinkKind::Publish) {
        answer.ok = fds.size() == 1 && found == published_.end() && published_.size() < most_published;
        if (answer.ok) published_[message.name] = {std::move(fds[0]), session->id};
    } else if (message.kind == LinkKind::Withdraw) {
        if (found != published_.end() && found->second.session == session->id) published_.erase(found);
        return;
    } else if (message.kind == LinkKind::Fetch) {
        answer.ok = found != published_.end();
        if (answer.ok) with.push_back(found->second.fd.get());
    } else {
        log_error("the worker of session %s sent message %u", session_name(session->id).c_str(),
                  static_cast<unsigned>(message.kind));
        return;
    }
    if (!send_link_message(session->link.get(), answer, with))
        log_warn("session %s does not take an answer: %s", session_name(session->id).c_str(), std::strerror(errno));
}

void Supervisor::reap() {
    nvml_.reap();
    std::vector<SessionRef> all;
    {
        std::lock_guard lock(mutex_);
        for (const auto& [id, session] : sessions_) all.push_back(session);
    }
    for (const SessionRef& session : all) {
        int status = 0;
        if (session->worker <= 0 || ::waitpid(session->worker, &status, WNOHANG) != session->worker) continue;
        if (session->error.empty()) on_link(session);  // its last word may be why it did not start
        std::string stored;
        Died died;
        {
            std::lock_guard lock(mutex_);
            const bool in_order = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            const bool accident = !in_order && !session->ending;
            const std::string how = describe_end(status);
            const std::string line = "session " + session_name(session->id) + " (" +
                                     (session->program.empty() ? "no client yet" : session->program) +
                                     ", pid " + std::to_string(session->client_pid) + ") ended" +
                                     (in_order ? "" : ": " + how);
            if (accident)
                log_error("%s", line.c_str());
            else
                log_info("%s", line.c_str());
            if (session->error.empty() || session->error == "its worker ended") session->error = how;
            if (accident && session->started)
                died = {session->token, wire::Refusal::Internal, "the session is lost: " + how};
            else if (accident && session->client_pid > 0)
                died = {session->token, wire::Refusal::Driver, "the session cannot start: " + session->error};
            if (!died.how.empty()) {
                died_.push_back(died);
                if (died_.size() > most_died_remembered) died_.pop_front();
            }
            session->worker = -1;
            session->gone = true;
            dump_watch_.forget(session->id);
            std::erase_if(published_, [&](const auto& one) { return one.second.session == session->id; });
            if (session->started && !ending_) stored.swap(session->stored_at);
            sessions_.erase(session->id);
        }
        if (!stored.empty()) remove_tree(stored);
        if (session->unanswered && !died.how.empty())
            refuse_hello(*session->unanswered, died.refusal, died.how);
        session->unanswered.reset();
        changed_.notify_all();
    }
}

// False when everything is to end this instant.
bool Supervisor::on_signal() {
    signalfd_siginfo info{};
    bool asked = false;
    while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
        if (info.ssi_signo != SIGCHLD) {
            asked = true;
            log_info("told to end by signal %u of process %u", info.ssi_signo, info.ssi_pid);
        }
    reap();
    if (!asked) return true;
    {
        std::lock_guard lock(mutex_);
        if (ending_) {
            log_warn("told to end once more: the sessions are killed");
            return false;
        }
        ending_ = true;
    }
    begin_end();
    return true;
}

void Supervisor::begin_end() {
    std::vector<SessionRef> all;
    {
        std::lock_guard lock(mutex_);
        for (const auto& [id, session] : sessions_) all.push_back(session);
    }
    log_info("ending, with %zu session%s", all.size(), all.size() == 1 ? "" : "s");
    hello_socket_.close();
    control_socket_.unlink();
    rpc_listener_.close();
    nvml_.close();
    changed_.notify_all();
    for (const SessionRef& session : all) helpers_.emplace_back([this, session] { end_session(session); });
}

}  // namespace cricket::server
