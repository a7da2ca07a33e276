// SPDX-License-Identifier: MIT
// A client reduced to its hello, and a server process to say it to.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "control_client.h"
#include "cricket/unique_fd.h"
#include "cricket/wire.h"
#include "paths.h"

namespace cricket::server {

// Polls, because what is waited for happens in other processes. False after 20 s.
inline bool eventually(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
}

class HelloClient {
  public:
    explicit HelloClient(const std::string& program, uint64_t epoch = 0) {
        std::random_device random;
        hello.magic = wire::hello_magic;
        hello.protocol = wire::protocol_version;
        for (uint8_t& byte : hello.token.bytes) byte = static_cast<uint8_t>(random());
        hello.epoch = epoch;
        hello.next_epoch = random();
        std::strncpy(hello.program, program.c_str(), sizeof hello.program - 1);
        channel.reset(::memfd_create("channel", MFD_CLOEXEC));
        host.reset(::memfd_create("host", MFD_CLOEXEC));
        EXPECT_EQ(::ftruncate(channel.get(), 1 << 16), 0);
        page = static_cast<wire::ServerPage*>(
            ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, channel.get(), 4096));
    }
    ~HelloClient() { ::munmap(page, 4096); }

    static bool send(const std::string& path, const void* data, size_t bytes, const std::vector<int>& fds) {
        UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
        std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
        iovec part{const_cast<void*>(data), bytes};
        msghdr header{};
        header.msg_name = &address;
        header.msg_namelen = sizeof address;
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        if (!fds.empty()) {
            header.msg_control = control.data();
            header.msg_controllen = control.size();
            cmsghdr* item = CMSG_FIRSTHDR(&header);
            item->cmsg_level = SOL_SOCKET;
            item->cmsg_type = SCM_RIGHTS;
            item->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
            std::memcpy(CMSG_DATA(item), fds.data(), fds.size() * sizeof(int));
        }
        return ::sendmsg(socket.get(), &header, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
    }
    bool say(const std::string& path) {
        return send(path, &hello, sizeof hello, {channel.get(), host.get()});
    }
    wire::AttachState state() const { return static_cast<wire::AttachState>(page->attach_state.load()); }
    // Says hello and waits for the answer to it.
    wire::AttachState attach(const std::string& path) {
        page->attach_state = 0;
        EXPECT_TRUE(say(path)) << std::strerror(errno);
        EXPECT_TRUE(eventually([this] { return state() != wire::AttachState::Waiting; }))
            << "no answer to the hello";
        EXPECT_EQ(page->answered_epoch, hello.next_epoch);
        return state();
    }
    wire::Refusal refusal() const { return static_cast<wire::Refusal>(page->refusal.load()); }
    std::string text() const { return page->text; }

    wire::Hello hello{};
    UniqueFd channel, host;
    wire::ServerPage* page = nullptr;
};

// cricket-server-double in a process of its own.
class ServerProcess {
  public:
    ServerProcess(const std::string& socket, const std::string& log, std::vector<std::string> options = {})
        : socket_(socket) {
        const std::string build = std::getenv("CRICKET_TEST_BUILD");
        std::vector<std::string> words = {build + "/cricket-server-double", "--socket", socket};
        if (std::find(options.begin(), options.end(), "--driver") == options.end())
            words.insert(words.end(), {"--driver", build + "/libdriver_double.so"});
        words.insert(words.end(), options.begin(), options.end());
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        pid = ::fork();
        if (pid == 0) {
            const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
            ::dup2(fd, STDERR_FILENO);
            ::setenv("CRICKET_TEST_GATE", (socket + ".go-on").c_str(), 1);
            ::execv(arguments[0], arguments.data());
            ::_exit(127);
        }
    }
    ~ServerProcess() {
        if (pid > 0) end(SIGKILL);
    }
    int end(int signal) {
        ::kill(pid, signal);
        return wait();
    }
    int wait() {
        int status = -1;
        EXPECT_EQ(::waitpid(pid, &status, 0), pid);
        pid = -1;
        return status;
    }
    bool alive() { return ::waitpid(pid, nullptr, WNOHANG) == 0; }
    // Snapshots of a program called "slow" take until then.
    void go_on() { UniqueFd(::open((socket_ + ".go-on").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)); }
    // Waits until it answers.
    ControlClient control() {
        EXPECT_TRUE(eventually([this] {
            try {
                ControlClient::connect(control_path(socket_)).status();
                return true;
            } catch (const ControlError&) {
                return false;
            }
        }));
        return ControlClient::connect(control_path(socket_));
    }

    pid_t pid = -1;

  private:
    std::string socket_;
};

}  // namespace cricket::server
