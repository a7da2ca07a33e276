// SPDX-License-Identifier: MIT
#include "waiting_program.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <string>

#include "cricket/unique_fd.h"
#include "cricket/wire.h"
#include "rpc/ring/channel.h"

namespace cricket::server {
namespace {

namespace fs = std::filesystem;

bool answered_with(const UniqueFd& channel, uint64_t epoch) {
    constexpr off_t answer = ring::page + offsetof(wire::ServerPage, answered_epoch);
    uint64_t magic = 0, answered = 0;
    return channel && ::pread(channel.get(), &magic, sizeof magic, 0) == sizeof magic && magic == wire::channel_magic &&
           ::pread(channel.get(), &answered, sizeof answered, answer) == sizeof answered && answered == epoch;
}

}  // namespace

bool waits_for_session(pid_t pid, uint64_t epoch) {
    const std::string memfd = std::string("/memfd:").append(ring::memfd_name);
    std::error_code error;
    for (fs::directory_iterator entry("/proc/" + std::to_string(pid) + "/fd", error), end; !error && entry != end; entry.increment(error)) {
        std::error_code gone;  // a descriptor may be closed meanwhile
        if (fs::read_symlink(entry->path(), gone).native().starts_with(memfd) &&
            answered_with(UniqueFd(::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC)), epoch))
            return true;
    }
    return false;
}

}  // namespace cricket::server
