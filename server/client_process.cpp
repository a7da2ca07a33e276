// SPDX-License-Identifier: MIT
#include "client_process.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <sstream>

#include "process_files.h"

namespace cricket::server {
bool ClientProcess::follow(pid_t pid) {
    pid_ = pid;
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    signature_ = signature();
    started_ = process_start_time(pid);
    return static_cast<bool>(pidfd_);
}

void ClientProcess::forget() {
    pidfd_.reset();
    signature_.clear();
}

bool ClientProcess::exited() const {
    if (!pidfd_) return false;
    pollfd client{pidfd_.get(), POLLIN, 0};
    return ::poll(&client, 1, 0) == 1;
}

bool ClientProcess::stopped() const {
    constexpr size_t state = 3;
    const std::vector<std::string> stat = process_stat(pid_);
    return stat.size() < state || std::strchr("tTZX", stat[state - 1][0]);
}

// The program's name and where its code, stack and arguments lie: a new image has them elsewhere.
std::string ClientProcess::signature() const {
    const std::vector<std::string> stat = process_stat(pid_);
    if (stat.empty()) return {};
    std::string result = stat[1];
    for (const size_t number : {26, 27, 28, 48, 49})
        if (number <= stat.size()) result += " " + stat[number - 1];
    return result;
}

bool ClientProcess::became_another(int channel) {
    if (!pidfd_ || exited()) return false;
    const std::string now = signature();
    if (now.empty() || now == signature_) return false;
    // Renamed threads and the like change it too: what counts is whether the channel is mapped.
    if (!maps(channel)) return true;
    signature_ = now;
    return false;
}

bool ClientProcess::maps(int channel) const {
    struct stat info {};
    if (::fstat(channel, &info) != 0) return true;
    const std::string text = read_process_file(pid_, "maps");
    if (text.empty()) return true;
    std::istringstream lines(text);
    const std::string inode = std::to_string(info.st_ino);
    for (std::string line; std::getline(lines, line);) {
        if (line.find("memfd:") == line.npos) continue;
        std::istringstream words(line);
        std::string range, access, offset, device, number;
        if (words >> range >> access >> offset >> device >> number && number == inode) return true;
    }
    return false;
}

}  // namespace cricket::server
