// SPDX-License-Identifier: MIT
#include "client_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "process_time.h"

namespace cricket::server {
namespace {

// A file of /proc/PID; empty when the process is gone or its files may not be read.
std::string read_proc(pid_t pid, const char* name) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/" + name);
    std::ostringstream text;
    text << file.rdbuf();
    return std::move(text).str();
}

}  // namespace

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
    const std::string stat = read_proc(pid_, "stat");
    const size_t name_end = stat.rfind(')');
    return name_end == stat.npos || name_end + 2 >= stat.size() || std::strchr("tTZX", stat[name_end + 2]);
}

// The program's name and where its code, stack and arguments lie: a new image has them elsewhere.
std::string ClientProcess::signature() const {
    const std::string stat = read_proc(pid_, "stat");
    const size_t name_end = stat.rfind(')');
    if (name_end == stat.npos) return {};
    std::istringstream fields(stat.substr(name_end + 1));
    std::string result = stat.substr(0, name_end), field;
    for (int number = 3; fields >> field; ++number)
        if ((number >= 26 && number <= 28) || number == 48 || number == 49) result += " " + field;
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
    const std::string text = read_proc(pid_, "maps");
    if (text.empty()) return true;
    std::istringstream lines(text);
    const std::string inode = std::to_string(info.st_ino);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string range, access, offset, device, number;
        if (words >> range >> access >> offset >> device >> number && number == inode &&
            line.find("memfd:") != line.npos)
            return true;
    }
    return false;
}

}  // namespace cricket::server
