// SPDX-License-Identifier: MIT
#include "worker_link.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "call_watch.h"
#include "control_service.h"
#include "link_message.h"
#include "log.h"

namespace cricket::server {
namespace {

class WorkerService : public ControlService {
  public:
    // `connection`: of the supervisor. It closes one whose answer it does not wait for any more, and what it does not hear of must not
    // have happened.
    WorkerService(WorkerOps& ops, int connection) : ops_(ops), connection_(connection) {}

    ControlStatus status() override {
        ControlStatus result;
        result.sessions.push_back(ops_.status());
        return result;
    }
    OpResult quiesce(const std::string&, uint32_t timeout_ms, bool) override {
        OpResult result = ops_.quiesce(timeout_ms, [this] { return hung_up(connection_); });
        if (result.ok && hung_up(connection_)) ops_.resume();
        return result;
    }
    OpResult resume(const std::string&) override { return ops_.resume(); }
    OpResult snapshot(const std::string&, const std::string& directory,
                      const std::string& checkpoint) override {
        return ops_.snapshot(directory, checkpoint);
    }
    SnapshotState begin_snapshot(const std::string&, const SnapshotRequest& request) override {
        SnapshotState state = ops_.begin_snapshot(request);
        if (state.error.empty() && hung_up(connection_)) ops_.abort_snapshot(state.id);
        return state;
    }
    SnapshotState wait_snapshot(const std::string&, uint64_t id) override { return ops_.wait_snapshot(id); }
    SnapshotState snapshot_state(const std::string&, uint64_t id) override { return ops_.snapshot_state(id); }
    SnapshotState abort_snapshot(const std::string&, uint64_t id) override { return ops_.abort_snapshot(id); }
    OpResult drop(const std::string&, bool force) override {
        const OpResult result = ops_.drop(force);
        dropped_ = result.ok;
        return result;
    }
    LoadResult load(const std::string&, const std::string&) override { return no_load(); }
    LoadResult begin_load(const std::string&, const std::string&, bool) override { return no_load(); }
    LoadResult finish_load(const std::string&) override { return no_load(); }
    ReportResult survey(const std::string&) override { return ops_.survey(); }
    ReportResult check(const std::string&, const std::string& directory) override { return ops_.check(directory); }
    bool finished() override { return dropped_; }

  private:
    static LoadResult no_load() { return {OpResult::failure("a worker begins from a snapshot or not at all"), {}}; }

    WorkerOps& ops_;
    const int connection_;
    bool dropped_ = false;
};

}  // namespace

WorkerLink::WorkerLink(int fd, WorkerOps& ops, Exchange* exchange) : fd_(fd), ops_(ops), exchange_(exchange) {}

WorkerLink::~WorkerLink() {
    stop();
    collect(true);
}

void WorkerLink::started(const OpResult& result) {
    LinkMessage message;
    message.kind = LinkKind::Started;
    message.ok = result.ok;
    message.set_text(result.error);
    if (!send_link_message(fd_.get(), message))
        log_warn("the supervisor does not hear that the session started: %s", std::strerror(errno));
}

void WorkerLink::checked() {
    LinkMessage message;
    message.kind = LinkKind::Checked;
    if (!send_link_message(fd_.get(), message))
        log_warn("the supervisor does not hear that the session can be restored: %s", std::strerror(errno));
}

void WorkerLink::stop() {
    stopping_ = true;
    ::shutdown(fd_.get(), SHUT_RDWR);  // wakes run(); the fd stays open until the destructor
}

void WorkerLink::run() {
    while (!stopping_) {
        ReceivedLinkMessage received = receive_link_message(fd_.get(), true);
        if (received.outcome != ReceivedLinkMessage::Outcome::Message) break;
        collect(false);
        std::vector<UniqueFd>& fds = received.fds;
        if (received.message.kind == LinkKind::Hello && fds.size() == 2) {
            ops_.told_of_dumps(received.message.ok);
            ops_.attach(received.message.hello, received.message.peer, std::move(fds[0]), std::move(fds[1]));
        } else if (received.message.kind == LinkKind::Stream && fds.size() == 1) {
            ops_.attach_stream(received.message.peer, std::move(fds[0]));
        } else if (received.message.kind == LinkKind::Control && fds.size() == 1) {
            Connection& connection = connections_.emplace_back();
            connection.fd = std::move(fds[0]);
            try {
                connection.thread = std::thread([this, &connection] { serve(connection); });
            } catch (const std::system_error& error) {  // no memory for its stack: the caller hears that it is closed
                log_error("a control call cannot be answered: %s", error.what());
                connections_.pop_back();
            }
        } else if (received.message.kind == LinkKind::Opened) {
            const auto say = [this, request = received.message.request](LinkKind kind) {
                LinkMessage message;
                message.kind = kind;
                message.request = request;
                if (!send_link_message(fd_.get(), message))
                    log_warn("the supervisor does not hear that a dump may go on: %s", std::strerror(errno));
            };
            ops_.opened(received.message.inode, received.message.until_ns, [say] { say(LinkKind::Settling); }, [say] { say(LinkKind::Settled); });
        } else if (received.message.kind == LinkKind::Replaced) {
            ops_.replaced(received.message.request);
        } else if (received.message.kind == LinkKind::Image && fds.size() == 1) {
            ops_.offer(received.message.image, std::move(fds[0]));
        } else if (received.message.kind == LinkKind::Answer && exchange_ && fds.size() <= 1) {
            exchange_->deliver(received.message, fds.empty() ? UniqueFd() : std::move(fds[0]));
        } else {
            log_error("the supervisor sent message %u with %zu fds",
                      static_cast<unsigned>(received.message.kind), fds.size());
        }
    }
    if (exchange_) exchange_->close();
    collect(true);
}

void WorkerLink::serve(Connection& connection) {
    WorkerService service(ops_, connection.fd.get());
    serve_control(connection.fd.get(), service);
    connection.ended = true;
    if (service.finished()) stop();
    ::shutdown(connection.fd.get(), SHUT_RDWR);
}

void WorkerLink::collect(bool all) {
    for (auto it = connections_.begin(); it != connections_.end();) {
        if (all) ::shutdown(it->fd.get(), SHUT_RD);  // no further calls; the one being served is answered
        if (all || it->ended) {
            it->thread.join();
            it = connections_.erase(it);
        } else {
            ++it;
        }
    }
}

}  // namespace cricket::server
