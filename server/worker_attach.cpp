// SPDX-License-Identifier: MIT
// How a client comes to a worker's session: a hello with its channel, first or again, and what refuses it.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "log.h"
#include "places.h"
#include "plain_service.h"
#include "worker.h"

namespace cricket::server {
namespace {

constexpr uint32_t look_again_us = 20'000;  // whether a client that runs a callback still lives

bool same_file(int a, int b) {
    struct stat first {
    }, second{};
    return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_ino == second.st_ino &&
           first.st_dev == second.st_dev;
}

// The page may come from an image, with the answer to a hello that the client sent before it was dumped and
// sends again.
void forget_answer(ring::Channel& channel) {
    channel.server_page().answered_epoch = 0;
    channel.server_page().attach_state.store(static_cast<uint32_t>(wire::AttachState::Waiting),
                                             std::memory_order_seq_cst);
}

void answer(ring::Channel& channel, const wire::Hello& hello, uint64_t session_id, wire::Refusal refusal,
            const std::string& text) {
    auto& page = channel.server_page();
    page.answered_epoch = hello.next_epoch;
    page.session_id = session_id;
    page.server_pid = static_cast<uint32_t>(::getpid());
    std::snprintf(page.text, sizeof page.text, "%s", text.c_str());
    page.refusal.store(static_cast<uint32_t>(refusal));
    page.attach_state.store(
        static_cast<uint32_t>(refusal == wire::Refusal::None ? wire::AttachState::Attached
                                                             : wire::AttachState::Refused),
        std::memory_order_seq_cst);
    ring::futex_wake_all(page.attach_state);
}

}  // namespace

// A client is back whose callbacks are awaited by the device. Its calls wait until these have run, with host
// memory exchanged before and after each, and the work behind them is over; then it is attached like any
// other. They cannot run earlier, not even for a callback that waits for one of them: the device's work still uses the earlier
// channel and the host memory as it was registered, and a restored process has other pages in both places. What its calls copy
// would go into the pages that the device does not use, and no moment is told at which the two could be made the same.
void Worker::step_joining() {
    Joining& joining = *joining_;
    wire::ClientPage& client = joining.channel.client_page();
    pollfd exited{joining.pidfd.get(), POLLIN, 0};
    if (!joining.pidfd || ::poll(&exited, 1, 0) == 1) {
        log_warn("session %llu: pid %d ended before its callbacks had run", id(), joining.peer.pid);
        session_.host_memory.exchange();
        session_.callbacks.note_done(client.callback_done.load());
        joining_.reset();
        settle_unless_callbacks();
        return;
    }
    if (joining.shown) {
        const uint32_t before = client.callback_bell.load(std::memory_order_acquire);
        if (client.callback_done.load(std::memory_order_acquire) < joining.shown) {
            ring::futex_wait(client.callback_bell, before, look_again_us);
            return;
        }
        session_.host_memory.exchange();
        joining.shown = 0;
        session_.callbacks.finish_front();
        return;
    }
    if (session_.callbacks.pending()) {
        session_.host_memory.exchange();
        joining.shown = session_.callbacks.show_front(joining.channel.server_page());
        return;
    }
    if (executor_.waiting() || session_.busy()) {
        if (!executor_.poll(ring_.get())) ::usleep(50);
        return;
    }
    settle();
    session_.host_memory.exchange();
    Joining done = std::move(joining);
    joining_.reset();
    done.channel = {};
    client_host_wins_ = true;
    do_attach(done.hello, done.peer, std::move(done.channel_fd), std::move(done.host_fd));
}

// Takes a client whose callbacks the device awaits. Empty, or what refuses it.
std::string Worker::begin_joining(const wire::Hello& hello, const ucred& peer, ring::Channel& channel,
                                  UniqueFd host_fd) {
    std::string why = session_.callbacks.refusal(channel.client_page());
    if (why.empty() && hello.next_seq <= session_.executed)
        why = "the application's image is older than the session";
    if (!why.empty()) return why;
    auto joining = std::make_unique<Joining>();
    joining->hello = hello;
    joining->peer = peer;
    joining->channel_fd.reset(::fcntl(channel.fd(), F_DUPFD_CLOEXEC, 0));
    joining->pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
    if (ClientProcess now; !now.follow(peer.pid) || !now.maps(channel.fd())) joining->pidfd.reset();  // gone, whoever has its number
    session_.host_memory.image().expire(session_.executed);
    if (!session_.host_memory.begin_exchange(
            host_fd.get(), peer.pid, session_.untold_copies(channel.client_page().callback_begun.load()),
            &why))
        return why;
    joining->host_fd = std::move(host_fd);
    // What its page says is a copy of an earlier life, an answer to this very hello perhaps: nobody sees that
    // once it is locked.
    channel.server_page().callback_ticket.store(0);
    forget_answer(channel);
    if (!channel.lock()) return "the channel is locked by another server";
    joining->channel = std::move(channel);
    log_info("session %llu: pid %d is back and has to run %s first", id(), peer.pid,
             session_.callbacks.describe_pending().c_str());
    joining_ = std::move(joining);
    return {};
}

std::string Worker::epoch_refusal(const wire::Hello& hello) const {
    if (session_.epoch == 0 || hello.epoch == session_.epoch || hello.next_epoch == session_.epoch) return {};
    // Killed between our answer and its noticing: nothing of the new epoch has happened.
    if (hello.epoch == session_.previous_epoch && session_.executed == session_.attached_at) return {};
    return "the application's image is of another epoch than the session: it is older, or the snapshot is";
}

// The same hello again: the client had not seen the answer yet. Another one of its process: it took us for gone, and has
// forgotten what it was told in the channel.
void Worker::attach_once_more(const wire::Hello& hello, const ucred& peer) {
    if (hello.next_epoch != session_.epoch && hello.epoch == session_.epoch) {
        log_info("session %llu: pid %d attaches once more", id(), peer.pid);
        session_.previous_epoch = session_.epoch;
        session_.epoch = hello.next_epoch;
        session_.attached_at = session_.executed;
        executor_.republish(*ring_);
        session_.callbacks.attach(ring_->channel().client_page(), ring_->channel().server_page());
    }
    if (hello.next_epoch == session_.epoch)
        answer(ring_->channel(), hello, config_.session_id, wire::Refusal::None, "");
}

// Nothing stands against it any more: the session is this client's from here on.
void Worker::begin_epoch(const wire::Hello& hello, const ucred& peer, std::unique_ptr<ring::RingServer> server) {
    ring_ = std::move(server);
    session_.ring = ring_.get();
    session_.channel_arrived();
    if (session_.epoch == 0) {
        session_.token = hello.token;
        session_.program.assign(hello.program, strnlen(hello.program, sizeof hello.program));
    }
    session_.previous_epoch = session_.epoch;
    session_.epoch = hello.next_epoch;
    session_.attached_at = session_.executed;
    client_host_wins_ = false;
    session_.client_pid = peer.pid;
    // The number may be another's by now: that of the same program, dumped and restored since it sent this hello.
    const bool alive = client_.follow(peer.pid) && client_.maps(ring_->channel().fd());
    if (!alive) log_warn("session %llu: pid %d is gone already", id(), peer.pid);
    ring_->begin(session_.executed, session_.up_end);
    wire::ClientPage& page = ring_->channel().client_page();
    ring_->channel().server_page().can_fetch =
        session_.fetcher && session_.fetcher->follow(peer.pid, page.self, wire::channel_magic) && !client_.exited();
    executor_.republish(*ring_);
    set_state(SessionState::Running);
    answer(ring_->channel(), hello, config_.session_id, wire::Refusal::None, "");
    if (!alive) park();
}

void Worker::do_attach(const wire::Hello& hello, const ucred& peer, UniqueFd channel_fd, UniqueFd host_fd) {
    if (held_) {
        held_off_ = Comer{hello, peer, std::move(channel_fd), std::move(host_fd)};
        return;
    }
    if (state_ == SessionState::Running || state_ == SessionState::Quiesced) {
        if (ring_ && same_file(channel_fd.get(), ring_->channel().fd())) return attach_once_more(hello, peer);
        const bool gone = client_.exited();
        if (gone && state_ == SessionState::Running) {
            while (may_step() && executor_.step(*ring_)) {
            }
            park();
        }
    }
    if (joining_ && same_file(channel_fd.get(), joining_->channel.fd())) {
        joining_->hello = hello;  // sent again after a while
        return;
    }
    ring::Channel channel;
    std::string why;
    if (!channel.map_as_server(std::move(channel_fd), &why,
                               ring_ ? nullptr : reinterpret_cast<void*>(places::channel.address))) {
        log_warn("session %llu: hello from pid %d refused: %s", id(), peer.pid, why.c_str());
        return;
    }
    auto refuse = [&](wire::Refusal refusal, const std::string& text) {
        log_warn("session %llu: hello from pid %d refused: %s", id(), peer.pid, text.c_str());
        answer(channel, hello, config_.session_id, refusal, text);
    };
    if (state_ == SessionState::Running || state_ == SessionState::Quiesced)
        return refuse(wire::Refusal::Busy,
                      "process " + std::to_string(session_.client_pid) + " is attached to this session");
    if (std::string text = epoch_refusal(hello); !text.empty())
        return refuse(wire::Refusal::ImageTooOld, text);
    if (!no_driver_.empty()) {
        channel.server_page().driver_result = static_cast<uint32_t>(session_.driver_result);
        answer(channel, hello, config_.session_id, wire::Refusal::Driver, no_driver_);
        over_ = true;
        end();
        return;
    }
    if (joining_)
        return refuse(wire::Refusal::Busy,
                      "process " + std::to_string(joining_->peer.pid) + " is being attached to this session");
    if (ring_) {  // parked with unfinished work
        if (why = begin_joining(hello, peer, channel, std::move(host_fd)); !why.empty())
            refuse(wire::Refusal::ImageTooOld, why);
        return;
    }
    for (const auto& [seq, kept] : executor_.kept())
        if (kept.slot >= channel.geometry().slots ||
            (kept.reply_bytes && kept.reply_offset + kept.reply_bytes > channel.geometry().total_bytes))
            return refuse(wire::Refusal::BadChannel, "the channel's geometry is not the session's");
    auto server = std::make_unique<ring::RingServer>(std::move(channel));
    channel = {};
    auto refuse_mapped = [&](wire::Refusal refusal) {
        log_warn("session %llu: hello from pid %d refused: %s", id(), peer.pid, why.c_str());
        answer(server->channel(), hello, config_.session_id, refusal, why);
    };
    if (const auto refusal = server->position(hello, session_.executed, &why); refusal != wire::Refusal::None)
        return refuse_mapped(refusal);
    session_.any_context();
    session_.host_memory.image().expire(session_.executed);
    if (!session_.host_memory.adopt(
            std::move(host_fd), client_host_wins_, peer.pid,
            session_.untold_copies(server->channel().client_page().callback_begun.load()), &why))
        return refuse_mapped(wire::Refusal::BadChannel);
    if (why = session_.callbacks.refusal(server->channel().client_page()); !why.empty())
        return refuse_mapped(wire::Refusal::ImageTooOld);
    try {
        session_.graph_history.recreate();
    } catch (const std::exception& error) {
        why = error.what();
        return refuse_mapped(wire::Refusal::BadChannel);
    }
    forget_answer(server->channel());
    session_.callbacks.attach(server->channel().client_page(), server->channel().server_page());
    if (!server->channel().lock()) {
        session_.callbacks.detach();
        why = "the channel is locked by another server";
        return refuse_mapped(wire::Refusal::Busy);
    }
    begin_epoch(hello, peer, std::move(server));
}

// Nobody waits for these: the link's thread has others to listen to while the executor is in a long call.
void Worker::attach(const wire::Hello& hello, const ucred& peer, UniqueFd channel, UniqueFd host) {
    auto channel_fd = std::make_shared<UniqueFd>(std::move(channel));
    auto host_fd = std::make_shared<UniqueFd>(std::move(host));
    post([=, this] {
        try {
            do_attach(hello, peer, std::move(*channel_fd), std::move(*host_fd));
        } catch (const std::exception& error) {
            log_error("session %llu: %s", id(), error.what());
            end();
        }
        return OpResult{};
    });
}

// Runs as long as the connection lives.
void Worker::attach_stream(const ucred& peer, UniqueFd connection) {
    auto fd = std::make_shared<UniqueFd>(std::move(connection));
    post([=, this] {
        serve_stream(peer, std::move(*fd));
        return OpResult{};
    });
}

void Worker::serve_stream(const ucred& peer, UniqueFd connection) {
    session_.client_pid = peer.pid;
    plain_ = true;
    state_ = SessionState::Running;
    serve_plain(session_, executor_, std::move(connection), [this] { set_state(SessionState::Running); });
    log_info("session %llu: the stream connection of pid %d is over: the session ends", id(), peer.pid);
    end();
}

void Worker::replaced(uint64_t process_started) {
    post([=, this] {
        // Parked or not: it was this process, which lives on as another program.
        if (process_started == 0 || client_.started() != process_started || over_) return OpResult{};
        // Unless it is the same program with a second shim in a namespace of the dynamic linker of its own.
        if (ring_ && !client_.exited() && client_.maps(ring_->channel().fd())) return OpResult{};
        end_with_client(another_program);
        return OpResult{};
    });
}

}  // namespace cricket::server
