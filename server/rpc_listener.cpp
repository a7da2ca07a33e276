// SPDX-License-Identifier: MIT
#include "rpc_listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <rpc/rpc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "log.h"
#include "printable.h"

namespace cricket::server {
namespace {

using std::chrono::steady_clock;

constexpr auto attach_patience = std::chrono::seconds(10);
constexpr auto half_call_pause =
    std::chrono::milliseconds(20);  // poll() would report half a call at once again
constexpr size_t most_pending = 256;
constexpr size_t most_attach_bytes = 8192;
constexpr size_t answer_text_bytes = 256;

uint32_t word(const char* at) {
    uint32_t value;
    std::memcpy(&value, at, sizeof value);
    return ntohl(value);
}

enum class Look { Incomplete, Attach, Nonsense };

// Reads an attach call without removing it from the connection: record mark, call header, hello.
Look peek_attach(PlainAttach* attach) {
    char data[most_attach_bytes];
    const ssize_t got = ::recv(attach->connection.get(), data, sizeof data, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR ? Look::Incomplete : Look::Nonsense;
    if (got == 0) return Look::Nonsense;
    if (got < 4) return Look::Incomplete;
    const uint32_t mark = word(data), length = mark & 0x7fffffff;
    if (!(mark & 0x80000000) || length + 4 > sizeof data) return Look::Nonsense;
    if (static_cast<size_t>(got) < length + 4) return Look::Incomplete;

    XDR xdrs;
    xdrmem_create(&xdrs, data + 4, length, XDR_DECODE);
    char credential[MAX_AUTH_BYTES], verifier[MAX_AUTH_BYTES];
    rpc_msg call{};
    call.rm_call.cb_cred.oa_base = credential;
    call.rm_call.cb_verf.oa_base = verifier;
    const bool good = xdr_callmsg(&xdrs, &call) && call.rm_call.cb_prog == wire::cuda_program &&
                      call.rm_call.cb_proc == wire::proc_attach &&
                      ::xdr_opaque(&xdrs, reinterpret_cast<char*>(&attach->hello), sizeof attach->hello);
    make_printable(attach->hello.program, sizeof attach->hello.program);
    attach->xid = static_cast<uint32_t>(call.rm_xid);
    xdr_destroy(&xdrs);
    return good && attach->hello.magic == wire::hello_magic ? Look::Attach : Look::Nonsense;
}

UniqueFd listen_tcp(const std::string& host_port) {
    const size_t colon = host_port.rfind(':');
    if (colon == std::string::npos) throw PathError("tcp:" + host_port + ": no port");
    std::string host = host_port.substr(0, colon);
    if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    // getaddrinfo takes 99999 too, and what is left of it in 16 bits.
    uint16_t port = 0;
    const char *digits = host_port.c_str() + colon + 1, *end = host_port.c_str() + host_port.size();
    if (const auto [stop, error] = std::from_chars(digits, end, port); error != std::errc() || stop != end)
        throw PathError("tcp:" + host_port + ": the port is no number from 0 to 65535");
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    addrinfo* found = nullptr;
    const int error =
        ::getaddrinfo(host.empty() ? nullptr : host.c_str(), digits, &hints, &found);
    if (error != 0) throw PathError("tcp:" + host_port + ": " + ::gai_strerror(error));
    UniqueFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const bool good =
        fd && ::bind(fd.get(), found->ai_addr, found->ai_addrlen) == 0 && ::listen(fd.get(), 64) == 0;
    ::freeaddrinfo(found);
    if (!good) throw PathError("cannot listen at tcp:" + host_port + ": " + std::strerror(errno));
    return fd;
}

}  // namespace

void RpcListener::listen(const std::string& address) {
    Listener listener;
    listener.address = address;
    if (address.starts_with("unix:")) {
        listener.unix_socket = BoundSocket(address.substr(5), SOCK_STREAM);
    } else if (address.starts_with("tcp:")) {
        listener.tcp_socket = listen_tcp(address.substr(4));
        log_warn(
            "%s: whoever can connect there can use this GPU as this user; RPC over TCP has no credentials",
            address.c_str());
    } else {
        throw PathError("'" + address + "' is neither unix:PATH nor tcp:HOST:PORT");
    }
    listeners_.push_back(std::move(listener));
}

void RpcListener::add_to(std::vector<pollfd>* waiting) const {
    for (const Listener& listener : listeners_) waiting->push_back({listener.fd(), POLLIN, 0});
    const auto now = steady_clock::now();
    for (const Pending& pending : pending_)
        if (now >= pending.again) waiting->push_back({pending.fd.get(), POLLIN, 0});
}

int RpcListener::timeout() const {
    if (pending_.empty()) return -1;
    const auto now = steady_clock::now();
    auto first = steady_clock::time_point::max();
    for (const Pending& pending : pending_)
        first = std::min({first, pending.deadline, pending.again > now ? pending.again : pending.deadline});
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(first - now).count();
    return static_cast<int>(std::max<int64_t>(left + 1, 0));
}

void RpcListener::accept(Listener& listener) {
    UniqueFd fd = reception_.accept(listener.fd(), listener.address);
    if (!fd) return;
    Pending pending;
    pending.deadline = steady_clock::now() + attach_patience;
    pending.peer = {0, ::geteuid(), ::getegid()};
    if (listener.unix_socket) {
        socklen_t length = sizeof pending.peer;
        if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &pending.peer, &length) != 0) return;
        if (pending.peer.uid != ::geteuid()) {
            if (log_of_strangers())
                log_warn("client of uid %d at %s refused: the server belongs to uid %d",
                         static_cast<int>(pending.peer.uid), listener.address.c_str(),
                         static_cast<int>(::geteuid()));
            return;
        }
    } else {
        const int on = 1;
        ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    if (pending_.size() >= most_pending) {  // the oldest: who means it attaches at once
        if (log_of_strangers()) log_warn("too many connections at %s that have not attached; one is closed", listener.address.c_str());
        pending_.pop_front();
    }
    pending.fd = std::move(fd);
    pending_.push_back(std::move(pending));
}

std::vector<PlainAttach> RpcListener::process(const std::vector<pollfd>& waited) {
    const auto ready = [&](int fd) {
        return std::any_of(waited.begin(), waited.end(),
                           [fd](const pollfd& item) { return item.fd == fd && item.revents != 0; });
    };
    std::vector<PlainAttach> complete;
    for (auto it = pending_.begin(); it != pending_.end();) {
        Look look = Look::Incomplete;
        PlainAttach attach;
        if (ready(it->fd.get())) {
            attach.connection = std::move(it->fd);
            attach.peer = it->peer;
            look = peek_attach(&attach);
            if (look == Look::Incomplete) {
                it->fd = std::move(attach.connection);
                it->again = steady_clock::now() + half_call_pause;
            }
        }
        if (look == Look::Incomplete && steady_clock::now() < it->deadline) {
            ++it;
            continue;
        }
        if (look == Look::Attach) {
            complete.push_back(std::move(attach));
        } else if (log_of_strangers()) {
            log_warn("connection of pid %d closed: %s", it->peer.pid,
                     look == Look::Nonsense ? "it did not begin with an attach call"
                                            : "it did not attach in time");
        }
        it = pending_.erase(it);
    }
    for (Listener& listener : listeners_)
        if (ready(listener.fd())) accept(listener);
    return complete;
}

void RpcListener::close() {
    pending_.clear();
    listeners_.clear();
}

void refuse_stream(const PlainAttach& attach, wire::Refusal refusal, const std::string& text) {
    log_warn("attach of %s (pid %d) over plain RPC refused: %s", attach.hello.program, attach.peer.pid,
             text.c_str());
    struct Answer {
        int32_t refusal;
        char text[answer_text_bytes];
    } answer{static_cast<int32_t>(refusal), {}};
    std::memcpy(answer.text, text.data(), std::min(text.size(), sizeof answer.text - 1));
    const auto xdr_answer = +[](XDR* xdrs, Answer* value) -> bool_t {
        return xdr_int32_t(xdrs, &value->refusal) && ::xdr_opaque(xdrs, value->text, sizeof value->text);
    };
    rpc_msg reply{};
    reply.rm_xid = attach.xid;
    reply.rm_direction = REPLY;
    reply.rm_reply.rp_stat = MSG_ACCEPTED;
    reply.acpted_rply.ar_verf = _null_auth;
    reply.acpted_rply.ar_stat = SUCCESS;
    reply.acpted_rply.ar_results.where = reinterpret_cast<caddr_t>(&answer);
    reply.acpted_rply.ar_results.proc = reinterpret_cast<xdrproc_t>(xdr_answer);
    char data[512];
    XDR xdrs;
    xdrmem_create(&xdrs, data + 4, sizeof data - 4, XDR_ENCODE);
    if (xdr_replymsg(&xdrs, &reply)) {
        const uint32_t length = xdr_getpos(&xdrs), mark = htonl(length | 0x80000000);
        std::memcpy(data, &mark, sizeof mark);
        [[maybe_unused]] const ssize_t ignored =
            ::send(attach.connection.get(), data, length + 4, MSG_NOSIGNAL | MSG_DONTWAIT);
        ::shutdown(attach.connection.get(), SHUT_WR);
        char rest[most_attach_bytes];  // unread bytes would turn the close into a reset that overtakes the
                                       // answer
        while (::recv(attach.connection.get(), rest, sizeof rest, MSG_DONTWAIT) > 0) {
        }
    }
    xdr_destroy(&xdrs);
}

}  // namespace cricket::server
