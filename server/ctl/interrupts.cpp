// SPDX-License-Identifier: MIT
#include "interrupts.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "command.h"

namespace cricket::ctl {

Interrupts::Interrupts() {
    sigset_t taken;
    ::sigemptyset(&taken);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&taken, signal);
    ::pthread_sigmask(SIG_BLOCK, &taken, &before_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP})
        if (::sigismember(&before_, signal)) ::sigdelset(&taken, signal);
    signals_.reset(::signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK));
    over_.reset(::eventfd(0, EFD_CLOEXEC));
    if (!signals_ || !over_) {
        const std::string why = std::strerror(errno);
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
        throw CommandError("cannot make a signalfd or eventfd: " + why);
    }
    thread_ = std::thread([this] { watch(); });
}

Interrupts::~Interrupts() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored = ::write(over_.get(), &one, sizeof one);
    thread_.join();
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void Interrupts::check() const {
    if (any()) throw CommandError("interrupted");
}

void Interrupts::wait(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    counted_.wait_for(lock, time, [this] { return any(); });
    check();
}

void Interrupts::watch() {
    for (;;) {
        pollfd waiting[] = {{signals_.get(), POLLIN, 0}, {over_.get(), POLLIN, 0}};
        ::poll(waiting, 2, -1);
        if (waiting[1].revents) return;
        signalfd_siginfo signal;
        while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
            const std::lock_guard lock(mutex_);
            const bool again = count_.fetch_add(1) > 0;
            counted_.notify_all();
            for (const int socket : first_) ::shutdown(socket, SHUT_RDWR);
            if (!again) continue;
            for (const int socket : second_) ::shutdown(socket, SHUT_RDWR);
        }
    }
}

// A socket that was shut down before its call ends that call, too.
Interrupts::Ends::Ends(Interrupts& interrupts, When when, const server::ControlClient& connection)
    : interrupts_(interrupts), sockets_(when == First ? interrupts.first_ : interrupts.second_), socket_(connection.fd()) {
    const std::lock_guard lock(interrupts_.mutex_);
    sockets_.push_back(socket_);
    if (interrupts_.count_ > (when == First ? 0 : 1)) ::shutdown(socket_, SHUT_RDWR);
}

Interrupts::Ends::~Ends() {
    const std::lock_guard lock(interrupts_.mutex_);
    sockets_.erase(std::ranges::find(sockets_, socket_));
}

}  // namespace cricket::ctl
