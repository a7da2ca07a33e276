// SPDX-License-Identifier: MIT
#include "app_survey.h"

#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "command.h"
#include "cricket/unique_fd.h"
#include "process_files.h"

namespace cricket::ctl {
namespace {

namespace fs = std::filesystem;

struct Descriptor {
    pid_t pid;
    std::string number, target;
    struct stat status;
    std::string text() const { return "descriptor " + number + " of pid " + std::to_string(pid); }
};

std::string of_process(pid_t pid, const char* name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

// Memory that has no name in a file system: criu writes all of it that exists, whoever made it exist. What a server pins
// exists without being seen in the program's own figures.
using SharedMemory = std::map<std::pair<dev_t, ino_t>, uint64_t>;

uint64_t existing_bytes(const struct stat& status) {
    return static_cast<uint64_t>(status.st_blocks) * 512;
}

// "00:01", as in /proc/PID/maps
dev_t device_of(const std::string& text) {
    unsigned major = 0, minor = 0;
    std::sscanf(text.c_str(), "%x:%x", &major, &minor);
    return ::makedev(major, minor);
}

// Bytes of private memory; shared memory goes into `shared`.
uint64_t private_bytes(pid_t pid, SharedMemory* shared) {
    std::ifstream maps(of_process(pid, "smaps"));
    if (!maps) throw CommandError("cannot read " + of_process(pid, "smaps") + ": " + std::strerror(errno));
    uint64_t bytes = 0;
    uint64_t* mapping = nullptr;  // whose size only this process's own figures tell
    uint64_t before = 0;
    bool is_shared = false;
    for (std::string line; std::getline(maps, line);) {
        std::istringstream words(line);
        std::string key;
        words >> key;
        if (!key.ends_with(':')) {  // addresses: a new mapping
            std::string permissions, offset, device, path;
            ino_t inode = 0;
            words >> permissions >> offset >> device >> inode >> path;
            is_shared = permissions.size() > 3 && permissions[3] == 's' &&
                        (path.starts_with("/memfd:") || path.starts_with("/dev/zero"));
            mapping = nullptr;
            if (!is_shared) continue;
            struct stat status {};
            if (::stat((of_process(pid, "map_files/") + key).c_str(), &status) == 0) {
                (*shared)[{status.st_dev, status.st_ino}] = existing_bytes(status);
            } else {
                mapping = &(*shared)[{device_of(device), inode}];
                before = *mapping;
            }
            continue;
        }
        uint64_t kib = 0;
        words >> kib;
        if (mapping && key == "Rss:") *mapping = std::max(before, kib * 1024);
        if (!is_shared && (key == "Anonymous:" || key == "Swap:")) bytes += kib * 1024;
    }
    return bytes;
}

std::vector<Descriptor> descriptors(pid_t pid) {
    std::vector<Descriptor> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(of_process(pid, "fd"), error)) {
        std::error_code gone;
        const std::string target = fs::read_symlink(entry.path(), gone);
        struct stat status {};
        if (gone || ::stat(entry.path().c_str(), &status) != 0) continue;
        found.push_back({pid, entry.path().filename(), target, status});
    }
    return found;
}

// The inode of the socket that a unix socket is connected to; empty when it is not, or nobody can say.
std::optional<ino_t> peer_of(int netlink, ino_t inode) {
    struct {
        nlmsghdr head;
        unix_diag_req request;
    } question{};
    question.head.nlmsg_len = sizeof question;
    question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    question.head.nlmsg_flags = NLM_F_REQUEST;
    question.request.sdiag_family = AF_UNIX;
    question.request.udiag_ino = static_cast<uint32_t>(inode);
    question.request.udiag_states = ~0u;
    question.request.udiag_show = UDIAG_SHOW_PEER;
    question.request.udiag_cookie[0] = question.request.udiag_cookie[1] = ~0u;
    if (::send(netlink, &question, sizeof question, 0) != sizeof question) return {};
    alignas(nlmsghdr) char buffer[4096];
    const ssize_t got = ::recv(netlink, buffer, sizeof buffer, 0);
    if (got < static_cast<ssize_t>(sizeof(nlmsghdr))) return {};
    const auto* head = reinterpret_cast<const nlmsghdr*>(buffer);
    constexpr size_t fixed = NLMSG_ALIGN(sizeof(nlmsghdr)) + NLMSG_ALIGN(sizeof(unix_diag_msg));
    if (head->nlmsg_type != SOCK_DIAG_BY_FAMILY || head->nlmsg_len > static_cast<size_t>(got)) return {};
    for (size_t at = fixed; at + sizeof(nlattr) <= head->nlmsg_len;) {
        nlattr attribute;
        std::memcpy(&attribute, buffer + at, sizeof attribute);
        if (attribute.nla_len < sizeof attribute) break;
        uint32_t value = 0;
        if (attribute.nla_type == UNIX_DIAG_PEER && attribute.nla_len >= sizeof attribute + sizeof value) {
            std::memcpy(&value, buffer + at + sizeof attribute, sizeof value);
            return value;
        }
        at += NLA_ALIGN(attribute.nla_len);
    }
    return {};
}

void look_at_unix_sockets(const std::map<ino_t, Descriptor>& sockets, AppSurvey* survey) {
    const UniqueFd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
    if (!netlink) return;
    const timeval patience{1, 0};
    ::setsockopt(netlink.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (const auto& [inode, descriptor] : sockets)
        if (const auto peer = peer_of(netlink.get(), inode); peer && *peer && !sockets.contains(*peer))
            survey->in_the_way.push_back(descriptor.text() +
                                         " is a unix socket that is connected to another program");
}

void look_at_tcp(pid_t pid, const std::map<ino_t, Descriptor>& sockets, AppSurvey* survey) {
    for (const char* name : {"net/tcp", "net/tcp6"}) {
        std::ifstream table(of_process(pid, name));
        std::string line;
        std::getline(table, line);
        while (std::getline(table, line)) {
            std::istringstream words(line);
            std::string word, state;
            ino_t inode = 0;
            words >> word >> word >> word >> state;
            for (int i = 0; i < 5; ++i) words >> word;
            words >> inode;
            const auto found = sockets.find(inode);
            if (state == "01" && found != sockets.end() && found->second.pid == pid)
                survey->in_the_way.push_back(found->second.text() +
                                             " is a connected TCP socket (criu takes --tcp-close or "
                                             "--tcp-established for it, after --)");
        }
    }
}

int terminal_of(pid_t pid) {
    constexpr size_t terminal = 7;
    const std::vector<std::string> stat = server::process_stat(pid);
    return stat.size() < terminal ? 0 : std::atoi(stat[terminal - 1].c_str());
}

}  // namespace

AppSurvey survey_app(pid_t pid, const std::vector<std::string>& criu_arguments) {
    const auto told = [&](const char* option) {
        return std::ranges::find(criu_arguments, option) != criu_arguments.end();
    };
    AppSurvey survey;
    const std::vector<pid_t> all = server::process_tree(pid);
    survey.processes = static_cast<unsigned>(all.size());
    SharedMemory shared;
    std::map<ino_t, Descriptor> sockets;
    for (const pid_t one : all) {
        survey.private_bytes += private_bytes(one, &shared);
        if (terminal_of(one) != 0 && !told("--shell-job") && !told("-j"))
            survey.in_the_way.push_back("pid " + std::to_string(one) +
                                        " has a terminal (criu takes --shell-job for it, after --)");
        for (const Descriptor& descriptor : descriptors(one)) {
            const std::string& target = descriptor.target;
            if (target.starts_with("socket:[")) sockets.emplace(descriptor.status.st_ino, descriptor);
            if (target.starts_with("/memfd:"))
                shared[{descriptor.status.st_dev, descriptor.status.st_ino}] = existing_bytes(descriptor.status);
            for (const char* refused :
                 {"/dev/nvidia", "anon_inode:[io_uring]", "anon_inode:[pidfd]", "pidfd:"})
                if (target.starts_with(refused))
                    survey.in_the_way.push_back(descriptor.text() + " is " + target);
        }
    }
    for (const auto& [place, bytes] : shared) survey.shared_bytes += bytes;
    look_at_unix_sockets(sockets, &survey);  // --ext-unix-sk helps datagram sockets only
    if (!told("--tcp-close") && !told("--tcp-established"))
        for (const pid_t one : all) look_at_tcp(one, sockets, &survey);
    return survey;
}

}  // namespace cricket::ctl
