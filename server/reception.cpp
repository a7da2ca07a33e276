// SPDX-License-Identifier: MIT
#include "reception.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "log.h"

namespace cricket::server {
namespace {

constexpr useconds_t rest_us = 10'000;

UniqueFd open_spare() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

Reception::Reception() : spare_(open_spare()) {}

UniqueFd Reception::accept(int listener, const std::string& where) {
    if (!spare_) spare_ = open_spare();
    UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (fd || errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return fd;
    const char* why = std::strerror(errno);
    spare_.reset();
    const bool closed = static_cast<bool>(UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)));
    spare_ = open_spare();
    if (log_of_strangers())
        log_warn("a connection at %s cannot be taken%s: %s", where.c_str(), closed ? ", and is closed" : "", why);
    if (!closed) ::usleep(rest_us);  // another thread took the descriptor
    return {};
}

}  // namespace cricket::server
