// SPDX-License-Identifier: MIT
#include "criu_watch.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "process_files.h"

namespace cricket::server {
namespace {

constexpr int look_again_ms = 2;
// criu kills before it lets go; what nobody has begun to end by then goes on.
constexpr std::chrono::milliseconds to_begin_ending{1000};
constexpr unsigned long flag_exiting = 0x4;  // PF_EXITING, in the kernel since for ever

bool kill_pending(pid_t pid) {
    for (const char* set : {"SigPnd", "ShdPnd"})
        if (std::strtoull(process_status(pid, set).c_str(), nullptr, 16) >> (SIGKILL - 1) & 1) return true;
    return false;
}

bool has_ended(int pidfd, int wait_ms) {
    pollfd waiting{pidfd, POLLIN, 0};
    return ::poll(&waiting, 1, wait_ms) > 0;
}

}  // namespace

bool is_ending(pid_t pid) {
    constexpr size_t flags = 9;
    const std::vector<std::string> stat = process_stat(pid);
    if (stat.empty()) return true;
    return (stat.size() >= flags && std::strtoul(stat[flags - 1].c_str(), nullptr, 10) & flag_exiting) || kill_pending(pid);
}

pid_t tracer_of(pid_t pid) { return std::atoi(process_status(pid, "TracerPid").c_str()); }

UniqueFd open_process(pid_t pid) { return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

bool wait_end(int pidfd, const std::function<bool()>& give_up) {
    while (!has_ended(pidfd, 20))
        if (give_up()) return false;
    return true;
}

std::optional<HeldByCriu> HeldByCriu::look(pid_t criu, pid_t program, bool stays, std::string* error) {
    HeldByCriu held;
    held.criu_ = criu;
    held.program_ = program;
    held.stays_ = stays;
    held.criu_fd_ = open_process(criu);
    held.program_fd_ = open_process(program);
    if (criu > 0 && held.criu_fd_ && held.program_fd_ && tracer_of(program) == criu) return held;
    *error = "process " + std::to_string(program) + " is not held by criu (process " + std::to_string(criu) + ") any more";
    return {};
}

HeldByCriu::End HeldByCriu::wait(const std::function<bool()>& give_up) const {
    while (!has_ended(program_fd_.get(), look_again_ms)) {
        if (give_up()) return End::Unknown;
        if (!has_ended(criu_fd_.get(), 0) && tracer_of(program_) == criu_) continue;
        const auto limit = std::chrono::steady_clock::now() + (stays_ ? std::chrono::milliseconds(0) : to_begin_ending);
        do {
            if (is_ending(program_)) return wait_end(program_fd_.get(), give_up) ? End::Ended : End::Unknown;
            if (has_ended(program_fd_.get(), look_again_ms)) return End::Ended;
        } while (std::chrono::steady_clock::now() < limit);
        return End::GoesOn;
    }
    return End::Ended;
}

}  // namespace cricket::server
