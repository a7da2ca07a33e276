// SPDX-License-Identifier: MIT
#include "verdict.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "command.h"
#include "sealed_json.h"

namespace cricket::ctl {
namespace {

constexpr char variable[] = "CRICKET_VERDICT";

socklen_t abstract_address(const std::string& name, sockaddr_un* address) {
    *address = {};
    address->sun_family = AF_UNIX;
    std::memcpy(address->sun_path + 1, name.data(), std::min(name.size(), sizeof address->sun_path - 1));
    return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

bool same_user(int fd) {
    ucred peer{};
    socklen_t length = sizeof peer;
    return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == ::geteuid();
}

}  // namespace

Verdict::Verdict(std::function<bool()> decide) : decide_(std::move(decide)) {
    uint64_t number[2];
    if (::getrandom(number, sizeof number, 0) != sizeof number) throw CommandError("no random numbers");
    name_ = "cricket-verdict-" + server::hex64(number[0]) + server::hex64(number[1]);
    sockaddr_un address;
    const socklen_t length = abstract_address(name_, &address);
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!listener_ || ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        ::listen(listener_.get(), 1) != 0)
        throw CommandError(std::string("cannot make a socket: ") + std::strerror(errno));
    thread_ = std::thread([this] { serve(); });
}

std::string Verdict::script() const {
    return std::filesystem::read_symlink("/proc/self/exe");
}
std::string Verdict::environment() const {
    return std::string(variable) + "=" + name_;
}

void Verdict::serve() {
    for (;;) {
        UniqueFd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!peer) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            return;  // closed
        }
        if (!same_user(peer.get())) continue;
        const char answer = decide_() ? 'y' : 'n';
        [[maybe_unused]] const ssize_t ignored = ::send(peer.get(), &answer, 1, MSG_NOSIGNAL);
        return;
    }
}

void Verdict::close() {
    if (!thread_.joinable()) return;
    ::shutdown(listener_.get(), SHUT_RDWR);  // wakes accept()
    thread_.join();
    listener_.reset();
}

bool is_action_script(int* status) {
    const char* stage = std::getenv("CRTOOLS_SCRIPT_ACTION");
    const char* name = std::getenv(variable);
    if (!stage || !name) return false;
    *status = 0;
    if (std::strcmp(stage, "post-dump") != 0 && std::strcmp(stage, "post-restore") != 0) return true;
    *status = 1;
    sockaddr_un address;
    const socklen_t length = abstract_address(name, &address);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    char answer = 'n';
    if (fd && ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), length) == 0 &&
        same_user(fd.get()) && ::recv(fd.get(), &answer, 1, 0) == 1 && answer == 'y')
        *status = 0;
    return true;
}

}  // namespace cricket::ctl
