// SPDX-License-Identifier: MIT
#include "dump_watch.h"

#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "cricket/clock.h"
#include "log.h"

namespace cricket::server {
namespace {

constexpr unsigned most_watched = 4;  // of a session: a client may come with another before the last was adopted
constexpr uint64_t to_begin_ns = 1'000'000'000, to_settle_ns = 30'000'000'000;

}  // namespace

DumpWatch::DumpWatch() : group_(::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC)) {
    if (!group_)
        log_info(
            "dumps are not noticed (fanotify: %s): what is written into pinned memory while, and after, a program is dumped may "
            "be lost",
            std::strerror(errno));
}

bool DumpWatch::watch(int memfd, uint64_t session) {
    struct stat info {};
    if (!group_ || ::fstat(memfd, &info) != 0) return false;
    const std::string path = "/proc/self/fd/" + std::to_string(memfd);
    if (::fanotify_mark(group_.get(), FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, path.c_str()) != 0) {
        log_warn("dumps of session s%llu are not noticed: %s", static_cast<unsigned long long>(session), std::strerror(errno));
        return false;
    }
    if (!watched_.try_emplace(info.st_ino, Watched{session, next_++}).second) return true;
    auto oldest = watched_.end();
    unsigned count = 0;
    for (auto it = watched_.begin(); it != watched_.end(); ++it) {
        if (it->second.session != session) continue;
        if (count++ == 0 || it->second.number < oldest->second.number) oldest = it;
    }
    if (count > most_watched) watched_.erase(oldest);
    return true;
}

void DumpWatch::forget(uint64_t session) {
    std::erase_if(watched_, [&](const auto& one) { return one.second.session == session; });
    std::erase_if(waiting_, [&](const auto& one) {
        if (one.second.session == session) allow(one.second.file.get());
        return one.second.session == session;
    });
}

void DumpWatch::close() {
    group_.reset();
    waiting_.clear();
}

std::vector<DumpWatch::Opened> DumpWatch::take() {
    std::vector<Opened> result;
    alignas(fanotify_event_metadata) char buffer[4096];
    for (;;) {
        ssize_t left = group_ ? ::read(group_.get(), buffer, sizeof buffer) : -1;
        if (left <= 0) return result;
        for (auto* event = reinterpret_cast<fanotify_event_metadata*>(buffer); FAN_EVENT_OK(event, left);
             event = FAN_EVENT_NEXT(event, left)) {
            if (event->fd < 0) continue;
            UniqueFd file(event->fd);
            struct stat info {};
            const auto found = ::fstat(file.get(), &info) == 0 ? watched_.find(info.st_ino) : watched_.end();
            if (event->vers != FANOTIFY_METADATA_VERSION || found == watched_.end()) {
                allow(file.get());
                continue;
            }
            const Opened opened{next_++, found->second.session, info.st_ino, now_ns() + to_begin_ns};
            waiting_[opened.number] = {std::move(file), opened.session, opened.until_ns};
            result.push_back(opened);
        }
    }
}

void DumpWatch::allow(int file) {
    const fanotify_response answer{file, FAN_ALLOW};
    if (::write(group_.get(), &answer, sizeof answer) != sizeof answer)
        log_error("a program that opens the memory of another cannot go on: %s", std::strerror(errno));
}

void DumpWatch::begun(uint64_t number) {
    if (auto found = waiting_.find(number); found != waiting_.end()) found->second.until_ns = now_ns() + to_settle_ns;
}

void DumpWatch::let_go(uint64_t number) {
    auto found = waiting_.find(number);
    if (found == waiting_.end()) return;
    allow(found->second.file.get());
    waiting_.erase(found);
}

int DumpWatch::expire() {
    const uint64_t now = now_ns();
    uint64_t next = 0;
    for (auto it = waiting_.begin(); it != waiting_.end();) {
        if (it->second.until_ns > now) {
            next = next ? std::min(next, it->second.until_ns) : it->second.until_ns;
            ++it;
            continue;
        }
        log_warn("session s%llu: its worker does not answer, a dump goes on without it",
                 static_cast<unsigned long long>(it->second.session));
        allow(it->second.file.get());
        it = waiting_.erase(it);
    }
    return next ? static_cast<int>((next - now) / 1'000'000 + 1) : -1;
}

}  // namespace cricket::server
