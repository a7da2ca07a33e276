// SPDX-License-Identifier: MIT
#include "nvml/nvml_starter.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "cricket/nvml_wire.h"
#include "log.h"
#include "worker_process.h"

namespace cricket::server {

using std::chrono::steady_clock;

namespace {
constexpr auto rest_after_accident = std::chrono::milliseconds(200);
}  // namespace

NvmlStarter::NvmlStarter(const std::string& socket_path, std::string library)
    : socket_(socket_path + wire::nvml_socket_suffix, SOCK_DGRAM),
      library_(std::move(library)),
      control_path_(cricket::server::control_path(socket_path)) {
    const int on = 1;
    if (::setsockopt(socket_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
        throw PathError(std::string("cannot ask for the credentials of senders: ") + std::strerror(errno));
}

bool NvmlStarter::resting() const { return steady_clock::now() < not_before_; }

void NvmlStarter::add_to(std::vector<pollfd>* waiting) const {
    if (process_ < 0 && socket_ && !resting()) waiting->push_back({socket_.get(), POLLIN, 0});
}

int NvmlStarter::timeout() const {
    if (process_ >= 0 || !socket_ || !resting()) return -1;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(not_before_ - steady_clock::now());
    return static_cast<int>(std::max<int64_t>(left.count() + 1, 0));
}

void NvmlStarter::start_if_asked(const std::vector<pollfd>& waited) {
    if (process_ >= 0 || !socket_) return;
    const bool asked = std::any_of(waited.begin(), waited.end(), [this](const pollfd& item) {
        return item.fd == socket_.get() && item.revents != 0;
    });
    if (!asked) return;
    try {
        process_ = start_process({"cricket-server", "--nvml-worker", std::to_string(socket_.get()), "--nvml", library_,
                                  "--nvml-control", control_path_},
                                 socket_.get());
    } catch (const std::system_error& error) {
        log_error("cannot start the NVML process: %s", error.what());
        not_before_ = steady_clock::now() + rest_after_accident;
    }
}

void NvmlStarter::reap() {
    int status = 0;
    if (process_ < 0 || ::waitpid(process_, &status, WNOHANG) != process_) return;
    process_ = -1;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    not_before_ = steady_clock::now() + rest_after_accident;
    if (WIFSIGNALED(status))
        log_warn("the NVML process died of signal %d (%s)", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
    else
        log_warn("the NVML process ended with status %d", WEXITSTATUS(status));
}

void NvmlStarter::close() {
    socket_.unlink();
    if (process_ < 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = -1;
}

}  // namespace cricket::server
