// SPDX-License-Identifier: MIT
#include "exchange.h"

#include <poll.h>
#include <sys/random.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "log.h"

namespace cricket::server {
namespace {

constexpr std::chrono::seconds patience{10};  // the supervisor's main thread never waits for anybody

bool send_patiently(int link, const LinkMessage& message, int fd) {
    for (;;) {
        if (send_link_message(link, message, fd >= 0 ? std::vector<int>{fd} : std::vector<int>{})) return true;
        if (errno != EAGAIN) return false;
        pollfd room{link, POLLOUT, 0};
        if (::poll(&room, 1, 1000) < 0 && errno != EINTR) return false;
    }
}

}  // namespace

bool Exchange::ask(LinkMessage message, int fd, Answer* answer) {
    if (link_ < 0) return false;
    {
        std::lock_guard lock(mutex_);
        message.request = next_request_++;
    }
    if (!send_patiently(link_, message, fd)) {
        log_error("the supervisor takes no message: %s", std::strerror(errno));
        return false;
    }
    std::unique_lock lock(mutex_);
    const auto there = [&] { return closed_ || answers_.count(message.request) != 0; };
    if (!changed_.wait_for(lock, patience, there) || !answers_.count(message.request)) return false;
    *answer = std::move(answers_[message.request]);
    answers_.erase(message.request);
    return answer->ok;
}

bool Exchange::publish(int fd, SharedName* name) {
    if (::getrandom(name->bytes, sizeof name->bytes, 0) != sizeof name->bytes) return false;
    LinkMessage message;
    message.kind = LinkKind::Publish;
    message.name = *name;
    Answer answer;
    return ask(message, fd, &answer);
}

void Exchange::withdraw(const SharedName& name) {
    LinkMessage message;
    message.kind = LinkKind::Withdraw;
    message.name = name;
    if (link_ >= 0) send_patiently(link_, message, -1);
}

UniqueFd Exchange::fetch(const SharedName& name) {
    LinkMessage message;
    message.kind = LinkKind::Fetch;
    message.name = name;
    Answer answer;
    if (!ask(message, -1, &answer)) return {};
    return std::move(answer.fd);
}

void Exchange::deliver(LinkMessage message, UniqueFd fd) {
    {
        std::lock_guard lock(mutex_);
        Answer& answer = answers_[message.request];
        answer.ok = message.ok;
        answer.fd = std::move(fd);
    }
    changed_.notify_all();
}

void Exchange::close() {
    {
        std::lock_guard lock(mutex_);
        closed_ = true;
    }
    changed_.notify_all();
}

}  // namespace cricket::server
