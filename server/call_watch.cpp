// SPDX-License-Identifier: MIT
#include "call_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <utility>

namespace cricket::server {
namespace {

constexpr auto between_looks = std::chrono::milliseconds(50);

}  // namespace

CallWatch::CallWatch(int connection, std::function<std::string()> why_not)
    : connection_(::fcntl(connection, F_DUPFD_CLOEXEC, 0)), why_not_(std::move(why_not)), thread_([this] { watch(); }) {}

CallWatch::~CallWatch() { end(); }

std::string CallWatch::end() {
    {
        std::lock_guard lock(mutex_);
        over_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
    return why_;
}

void CallWatch::watch() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, between_looks, [this] { return over_; })) {
        lock.unlock();
        std::string why = why_not_();
        lock.lock();
        if (why.empty() || over_) continue;
        why_ = std::move(why);
        ::shutdown(connection_.get(), SHUT_RDWR);
        return;
    }
}

bool hung_up(int fd) {
    pollfd one{fd, 0, 0};
    return ::poll(&one, 1, 0) > 0 && (one.revents & POLLHUP);
}

}  // namespace cricket::server
