// SPDX-License-Identifier: MIT
#include "client/session.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <new>

#include "client/captures.h"
#include "client/contexts.h"
#include "client/datagram.h"
#include "client/device_text.h"
#include "client/environment.h"
#include "client/fork_pages.h"
#include "client/function_cache.h"
#include "client/log.h"
#include "client/parameter_layout.h"
#include "client/server_path.h"
#include "client/unsupported.h"
#include "client/waited.h"
#include "rpc/ring/not_cancelled.h"

extern "C" {
// libtirpc's objects name stderr in a way that a shared library cannot; the linker gives them this one instead.
FILE* __wrap_stderr;  // NOLINT: the linker's name
// Keeps libtirpc's GSS code, which nobody asks for, out of the shim.
bool_t is_authgss_client(CLIENT*) { return FALSE; }
}

namespace cricket::client {
namespace {

constexpr int64_t silence_ms = 10000;  // a worker's start takes some seconds where the GPU sleeps

std::mutex start_mutex;
std::atomic<bool> atfork_registered{false};
std::atomic<int32_t> posted_error{0};

void program_name(char (&name)[64]) {
    const int fd = ::open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? ::read(fd, name, sizeof name - 1) : 0;
    if (fd >= 0) ::close(fd);
    if (got > 0 && name[got - 1] == '\n') --got;
    name[got > 0 ? got : 0] = 0;
}

}  // namespace

std::atomic<Session*> Session::current_{nullptr};
std::atomic<bool> Session::ended_{false};
std::atomic<bool> Session::orphaned_{false};
bool Session::launch_blocking_ = false;

CUresult Session::absent() {
    if (callbacks::running()) return CUDA_ERROR_NOT_PERMITTED;
    return ended_.load() ? CUDA_ERROR_DEINITIALIZED : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult Session::with_context(Session** session) {
    *session = get();
    if (!*session) return absent();
    CUdevice device;
    return contexts::current_device(&device);
}

void Session::end() {
    if (!current_.load()) return;
    ended_.store(true);  // first: a call that finds no session is told why
    Session* session = current_.exchange(nullptr);
    if (!session) return;
    if (!session->ring() || session->process_ != ::getpid()) return;
    // Other threads may be posting, or in the middle of a call for as long as they like: then the session is parked, not ended.
    constexpr std::chrono::milliseconds patience(200);
    ring::Request goodbye;
    goodbye.procedure = wire::proc_goodbye;
    session->ring_.post_within(goodbye, patience);
}

bool initialized() { return Session::any() != nullptr; }

CUresult need_context() {
    Session* session;
    return Session::with_context(&session);
}

Session::Session() : ring_(*this), process_(::getpid()) {}

CUresult Session::start() {
    const ring::NotCancelled whole;
    std::lock_guard lock(start_mutex);
    if (current_.load()) return CUDA_SUCCESS;
    if (ended_.load()) return CUDA_ERROR_DEINITIALIZED;
    if (orphaned_.load()) return CUDA_ERROR_NOT_INITIALIZED;
    // Applications ask again and again whether there is a GPU: a driver that finds none is asked once.
    static CUresult driver_said = CUDA_SUCCESS;
    static uint64_t asked_with = 0;
    const uint64_t now_with = environment::fingerprint();
    if (driver_said != CUDA_SUCCESS && asked_with == now_with) return driver_said;
    __wrap_stderr = stderr;
    if (!atfork_registered.exchange(true)) ::pthread_atfork(fork_pages::prepare, fork_pages::parent, forget_in_child);
    // Never destroyed: other threads may be in a call while the process exits.
    void* memory = ::malloc(sizeof(Session));
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    auto* session = new (memory) Session;
    const CUresult result = session->open();
    driver_said = session->refused_;
    asked_with = now_with;
    launch_blocking_ = environment::launch_blocking();
    if (result != CUDA_SUCCESS) {
        session->~Session();
        ::free(memory);
        return result;
    }
    current_.store(session, std::memory_order_release);
    report_unsupported(*session);
    return CUDA_SUCCESS;
}

CUresult Session::open() {
    if (::getrandom(&token_, sizeof token_, 0) != sizeof token_) return CUDA_ERROR_OPERATING_SYSTEM;
    if (!server_path(socket_path_)) return session_lost;
    reconnect_timeout_ = reconnect_timeout();
    const char* transport = ::getenv("CRICKET_TRANSPORT");
    if (transport && *transport && std::strcmp(transport, "ring") != 0) {
        char address[300], why[300];
        const bool known = std::strncmp(transport, "unix:", 5) == 0 || std::strncmp(transport, "tcp:", 4) == 0;
        if (std::strcmp(transport, "unix") == 0) {
            std::snprintf(address, sizeof address, "unix:%s.rpc", socket_path_);
        } else if (!known || std::strlen(transport) >= sizeof address) {
            log(LogLevel::Error, "CRICKET_TRANSPORT=%.100s is none of ring, unix, unix:PATH, tcp:HOST:PORT%s", transport,
                known ? ": too long" : "");
            return session_lost;
        } else {
            std::snprintf(address, sizeof address, "%s", transport);
        }
        wire::Hello hello{};
        hello.magic = wire::hello_magic;
        hello.protocol = wire::protocol_version;
        hello.token = token_;
        hello.pid = static_cast<uint32_t>(::getpid());
        hello.next_seq = hello.first_seq = 1;
        program_name(hello.program);
        hello.environment_bytes = environment::collect(hello.environment, sizeof hello.environment);
        auto* plain = new (std::nothrow) rpc::PlainClient;
        if (!plain) return CUDA_ERROR_OUT_OF_MEMORY;
        if (!plain->open(address, hello, why, sizeof why)) {
            log(LogLevel::Error, "cannot attach over CRICKET_TRANSPORT=%s: %s", transport, why);
            delete plain;
            return session_lost;
        }
        plain_ = plain;
        return CUDA_SUCCESS;
    }
    if (!host_memory_.open()) {
        log(LogLevel::Error, "cannot reserve the address range of host memory at %#llx: %s",
            static_cast<unsigned long long>(wire::host_base), ::strerror(errno));
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (!ring_.open()) {
        if (!ring_.channel())
            log(LogLevel::Error, "cannot make the memory that is shared with the server: %s%s", ::strerror(errno),
                errno == EFBIG ? " (RLIMIT_FSIZE, ulimit -f, counts for it too)" : "");
        host_memory_.abandon();
        return refused_ != CUDA_SUCCESS ? refused_ : session_lost;
    }
    return CUDA_SUCCESS;
}

bool Session::send_beside(const void* data, size_t bytes, const int* fds, size_t count, int* error) {
    sockaddr_un server{};
    server.sun_family = AF_UNIX;
    std::memcpy(server.sun_path, socket_path_, sizeof server.sun_path);
    *error = send_datagram(server, data, bytes, fds, count);
    return *error == 0;
}

bool Session::send_hello(const wire::Hello& hello, int channel_fd, int* error) {
    const int fds[2] = {channel_fd, host_memory_.fd()};
    return send_beside(&hello, sizeof hello, fds, 2, error);
}

bool Session::send_offer(wire::ImageOffer& offer, int file) {
    int error = 0;
    offer.token = token_;
    return send_beside(&offer, sizeof offer, &file, 1, &error);
}

// Waits about a second for the server's page to answer this hello.
bool Session::await_answer(const wire::Hello& hello, ring::Channel& channel, wire::Refusal* refusal) {
    auto& page = channel.server_page();
    Waited waited;
    for (;;) {
        const auto state = static_cast<wire::AttachState>(page.attach_state.load(std::memory_order_acquire));
        if (state != wire::AttachState::Waiting && page.answered_epoch == hello.next_epoch) {
            *refusal = state == wire::AttachState::Attached
                           ? wire::Refusal::None
                           : static_cast<wire::Refusal>(page.refusal.load(std::memory_order_relaxed));
            // Only a living server's word counts: a restored copy of an old answer does not.
            return state == wire::AttachState::Refused || channel.server_alive();
        }
        if (waited.ms() >= 1000) return false;
        // A server that still has device work waiting for callbacks takes us only when they have run.
        if (callbacks::on_callback_thread() && callbacks::serve_shown(*this)) continue;
        ring::futex_wait(page.attach_state, static_cast<uint32_t>(state), 20000);
    }
}

bool Session::attach(wire::Hello& hello, ring::Channel& channel) {
    Waited waited;
    const bool first = epoch_ == 0;
    hello.token = token_;
    hello.pid = static_cast<uint32_t>(::getpid());
    hello.epoch = epoch_;
    if (::getrandom(&hello.next_epoch, sizeof hello.next_epoch, 0) != sizeof hello.next_epoch) return false;
    hello.next_epoch |= 1;  // 0 means: none yet
    program_name(hello.program);
    hello.environment_bytes = first ? environment::collect(hello.environment, sizeof hello.environment) : 0;
    bool told = false;
    for (;;) {
        hello.host_bytes = host_memory_.bytes();
        const int64_t waited_ms = waited.ms();
        const bool out_of_time = reconnect_timeout_ >= 0 && waited_ms > reconnect_timeout_ * 1000;
        int error = 0;
        wire::Refusal refusal = wire::Refusal::None;
        // We may have been dumped and restored since we sent it last: an answer that is there now is not this server's. One
        // that is given just now is given again.
        channel.server_page().attach_state.store(static_cast<uint32_t>(wire::AttachState::Waiting), std::memory_order_seq_cst);
        if (!send_hello(hello, channel.fd(), &error)) {
            const bool full = error == EAGAIN || error == ENOBUFS;
            if (first && !full) {
                log(LogLevel::Error, "no cricket-server at %s (%s): start one, or set CRICKET_SOCKET", socket_path_,
                    ::strerror(error));
                return false;
            }
            if (!told) log(LogLevel::Warn, "the server at %s is gone (%s): waiting for it", socket_path_, ::strerror(error));
            told = true;
        } else if (await_answer(hello, channel, &refusal)) {
            if (refusal == wire::Refusal::None) {
                epoch_ = hello.next_epoch;
                if (told) log(LogLevel::Warn, "attached to the server again");
                return true;
            }
            char text[sizeof channel.server_page().text];
            std::memcpy(text, channel.server_page().text, sizeof text);
            text[sizeof text - 1] = 0;
            const bool may_change = refusal == wire::Refusal::UnknownSession || refusal == wire::Refusal::Busy;
            if (first && refusal == wire::Refusal::Driver && channel.server_page().driver_result) {
                // As the driver itself would say, of no visible device above all: no word about it.
                refused_ = static_cast<CUresult>(channel.server_page().driver_result);
                log(LogLevel::Info, "the server at %s: %s", socket_path_, text);
                return false;
            }
            if (first || !may_change || out_of_time) {
                log(LogLevel::Error, "the server at %s refuses: %s", socket_path_, text);
                return false;
            }
            if (!told) log(LogLevel::Warn, "the server at %s says: %s; waiting", socket_path_, text);
            told = true;
            channel.server_page().attach_state.store(static_cast<uint32_t>(wire::AttachState::Waiting));
        } else if (!told && waited_ms > silence_ms) {
            log(LogLevel::Warn, "the server at %s does not answer: waiting for it", socket_path_);
            told = true;
        }
        if (out_of_time) {
            log(LogLevel::Error, "gave up waiting for a server at %s after %lld s (CRICKET_RECONNECT_TIMEOUT)",
                socket_path_, static_cast<long long>(reconnect_timeout_));
            return false;
        }
        // Nothing tells when a server appears at the path: look again soon, then less often.
        const timespec pause{0, waited_ms < 2000 ? 10000000L : 100000000L};
        ::nanosleep(&pause, nullptr);
    }
}

void Session::note_posted_error(int32_t result) {
    int32_t none = 0;
    posted_error.compare_exchange_strong(none, result);
}

void Session::forget_in_child() {
    fork_pages::child();
    Session* session = current_.exchange(nullptr);
    // What libraries in this process remember of devices, modules and contexts is the parent's session's: as with the
    // driver itself there is no beginning anew here. An exec makes one.
    if (session) orphaned_.store(true);
    callbacks::forget_in_child();
    device_text::forget_in_child();
    captures::forget();
    forget_unsupported_in_child();
    posted_error.store(0);
    ended_.store(false);
    new (&start_mutex) std::mutex;
    function_cache::forget_in_child();
    forget_parameter_layouts();
    if (!session) return;
    // Unmapped and closed, not destroyed: its locks may be held by threads that do not exist here.
    if (session->ring()) {
        session->ring_.abandon();
        session->host_memory_.abandon();
    }
}

// After the application's own destructors and exit handlers, which may still call CUDA.
[[gnu::destructor]] static void process_ends() { Session::end(); }

int32_t take_posted_error() {
    if (posted_error.load(std::memory_order_relaxed) == 0) return 0;
    return posted_error.exchange(0);
}

}  // namespace cricket::client
