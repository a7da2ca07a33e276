// SPDX-License-Identifier: MIT
#include "client/nvml/exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>

#include "client/datagram.h"
#include "client/descriptors.h"
#include "client/log.h"
#include "client/server_path.h"
#include "client/waited.h"
#include "cricket/file_size.h"
#include "cricket/nvml_wire.h"

extern "C" {
// libtirpc's objects name stderr in a way that a shared library cannot; the linker gives them this one instead.
FILE* __wrap_stderr;  // NOLINT: the linker's name
}

namespace cricket::nvml {
namespace {

using client::log;
using client::LogLevel;
using wire::NvmlPage;
using wire::NvmlState;

constexpr uint32_t reply_offset = wire::nvml_call_offset + wire::nvml_most_message;
constexpr uint32_t total_bytes = reply_offset + wire::nvml_most_message;
constexpr int most_accidents = 3;
constexpr int64_t resend_after_ms = 1000;

std::atomic<bool> said_no_server{false}, said_waiting{false}, said_broken{false};

void pause_ms(long ms) {
    const timespec pause{ms / 1000, ms % 1000 * 1000000};
    ::nanosleep(&pause, nullptr);
}

// The memfd of one attempt; its pages exist once they are written.
class Paper {
  public:
    Paper() = default;
    Paper(const Paper&) = delete;
    ~Paper() {
        if (base_) ::munmap(base_, total_bytes);
        if (fd_ >= 0) ::close(fd_);
    }
    bool open() {
        fd_ = client::out_of_the_way(::memfd_create("cricket-nvml", MFD_CLOEXEC));
        if (fd_ < 0 || !set_file_size(fd_, total_bytes)) return false;
        void* place = ::mmap(nullptr, total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_, 0);
        if (place == MAP_FAILED) return false;
        base_ = static_cast<char*>(place);
        ::madvise(base_, total_bytes, MADV_DONTFORK);
        return true;
    }
    bool write(const Call& call, uint32_t xid) {
        XDR xdrs;
        xdrmem_create(&xdrs, base_ + wire::nvml_call_offset, wire::nvml_most_message, XDR_ENCODE);
        rpc_msg message{};
        message.rm_xid = xid;
        message.rm_direction = CALL;
        message.rm_call = {RPC_MSG_VERSION, wire::nvml_program, wire::nvml_program_version, call.procedure, {}, {}};
        if (!xdr_callmsg(&xdrs, &message) || !call.encode(&xdrs, call.user)) return false;
        page().magic = wire::nvml_datagram_magic;
        page().call_bytes = XDR_GETPOS(&xdrs);
        page().reply_offset = reply_offset;
        page().reply_capacity = wire::nvml_most_message;
        return true;
    }
    NvmlPage& page() { return *reinterpret_cast<NvmlPage*>(base_); }
    NvmlState state() { return static_cast<NvmlState>(page().state.load(std::memory_order_acquire)); }
    const char* reply() const { return base_ + reply_offset; }
    int fd() const { return fd_; }

    // Whether somebody who took the call is alive.
    bool held() const {
        struct flock range {};
        range.l_type = F_WRLCK;
        range.l_whence = SEEK_SET;
        range.l_len = 1;
        return ::fcntl(fd_, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
    }

  private:
    int fd_ = -1;
    char* base_ = nullptr;
};

// 0 or errno.
int send(const char* path, int memfd) {
    sockaddr_un server{};
    server.sun_family = AF_UNIX;
    const int length = std::snprintf(server.sun_path, sizeof server.sun_path, "%s%s", path, wire::nvml_socket_suffix);
    if (length >= static_cast<int>(sizeof server.sun_path)) return ENAMETOOLONG;
    wire::NvmlDatagram datagram{wire::nvml_datagram_magic, wire::nvml_program_version, 0};
    return client::send_datagram(server, &datagram, sizeof datagram, &memfd, 1);
}

// Returns the last state: Answered; Taken, by somebody who is no more; Waiting, after a second.
NvmlState wait(Paper& paper) {
    client::Waited waited;
    for (;;) {
        const NvmlState state = paper.state();
        if (state == NvmlState::Answered) return state;
        if (state == NvmlState::Taken && !paper.held()) return paper.state();
        if (state == NvmlState::Waiting && waited.ms() > resend_after_ms) return state;
        const timespec timeout{0, 20000000};
        ::syscall(SYS_futex, &paper.page().state, FUTEX_WAIT, static_cast<uint32_t>(state), &timeout, nullptr, 0);
    }
}

Outcome read_reply(Paper& paper, const Call& call, uint32_t xid) {
    const uint32_t bytes = paper.page().reply_bytes;
    if (bytes > wire::nvml_most_message) return Outcome::Broken;
    XDR xdrs;
    xdrmem_create(&xdrs, const_cast<char*>(paper.reply()), bytes, XDR_DECODE);
    char verifier[MAX_AUTH_BYTES];
    rpc_msg reply{};
    reply.acpted_rply.ar_verf.oa_base = verifier;
    reply.acpted_rply.ar_results.proc = reinterpret_cast<xdrproc_t>(+[](XDR*, void*) -> bool_t { return TRUE; });
    if (!xdr_replymsg(&xdrs, &reply) || reply.rm_xid != xid || reply.rm_direction != REPLY) return Outcome::Broken;
    if (reply.rm_reply.rp_stat != MSG_ACCEPTED) return Outcome::Broken;
    const accept_stat status = reply.acpted_rply.ar_stat;
    if (status == PROC_UNAVAIL || status == PROG_MISMATCH || status == PROG_UNAVAIL) return Outcome::NoProcedure;
    if (status != SUCCESS) return Outcome::Broken;
    return call.decode(&xdrs, call.user) ? Outcome::Done : Outcome::Broken;
}

Outcome attempt_until_answered(const Call& call) {
    char path[108];
    if (!client::server_path(path)) return Outcome::NoServer;
    client::Waited since_begin;
    const int64_t patience = client::reconnect_timeout();  // seconds
    int accidents = 0;
    for (uint32_t xid = 1;; ++xid) {
        Paper paper;
        if (!paper.open()) return Outcome::OutOfMemory;
        if (!paper.write(call, xid)) return Outcome::NotEncodable;
        const int error = send(path, paper.fd());
        if (error == 0) {
            const NvmlState state = wait(paper);
            if (state == NvmlState::Answered) return read_reply(paper, call, xid);
            if (state == NvmlState::Taken && ++accidents == most_accidents) return Outcome::Broken;
            continue;
        }
        const int64_t waited = since_begin.ms();
        if (error == EAGAIN || error == ENOBUFS) {  // a moment's crowd
            pause_ms(1);
            continue;
        }
        if (!call.wait_for_server || (patience >= 0 && waited > patience * 1000)) {
            client::log_once(said_no_server, LogLevel::Error,
                             "no cricket-server at %s (%s) for NVML: start one, or set CRICKET_SOCKET", path,
                             ::strerror(error));
            return Outcome::NoServer;
        }
        client::log_once(said_waiting, LogLevel::Warn, "the server at %s is gone (%s): NVML waits for it", path,
                         ::strerror(error));
        pause_ms(waited < 2000 ? 10 : 100);
    }
}

}  // namespace

Outcome exchange(const Call& call) {
    const int saved = errno;
    __wrap_stderr = stderr;
    const Outcome outcome = attempt_until_answered(call);
    if (outcome == Outcome::Broken)
        client::log_once(said_broken, LogLevel::Error, "NVML call %u: the server's NVML process dies of it, or answers nonsense",
                         call.procedure);
    errno = saved;
    return outcome;
}

}  // namespace cricket::nvml
