// SPDX-License-Identifier: MIT
// The supervisor as a process among processes: what comes to its socket, what becomes of its workers, how it
// ends.
#include <gmock/gmock.h>

#include <fstream>

#include "hello_client.h"
#include "scratch.h"
#include "session_names.h"

namespace cricket::server {
namespace {

using testing::HasSubstr;
using wire::AttachState;
using wire::Refusal;

class SupervisorTest : public Scratch {
  protected:
    ServerProcess start(std::vector<std::string> options = {}) {
        return {socket, path("log"), std::move(options)};
    }
    std::string log() const { return content(path("log")); }
    static std::vector<pid_t> children(pid_t parent) {
        const std::string id = std::to_string(parent);
        std::ifstream file("/proc/" + id + "/task/" + id + "/children");
        std::vector<pid_t> result;
        for (pid_t pid; file >> pid;) result.push_back(pid);
        return result;
    }
    static SessionStatus only(ControlClient& control) {
        const ControlStatus status = control.status();
        EXPECT_EQ(status.sessions.size(), 1u);
        return status.sessions.empty() ? SessionStatus{} : status.sessions[0];
    }
    static bool no_sessions(ControlClient& control) { return control.status().sessions.empty(); }

    const std::string socket = path("run/server.sock");
};

TEST_F(SupervisorTest, ASessionHasAWorkerOfItsOwn) {
    ServerProcess server = start();
    ControlClient control = server.control();
    HelloClient one("one"), two("two");
    EXPECT_EQ(one.attach(socket), AttachState::Attached);
    EXPECT_EQ(two.attach(socket), AttachState::Attached);
    EXPECT_NE(one.page->server_pid, two.page->server_pid);
    EXPECT_EQ(children(server.pid).size(), 2u);
    const auto sessions = control.status().sessions;
    ASSERT_EQ(sessions.size(), 2u);
    EXPECT_EQ(sessions[0].program, "one");
    EXPECT_EQ(sessions[0].pid, ::getpid());
    EXPECT_EQ(sessions[0].token, one.hello.token);
    EXPECT_EQ(sessions[0].state, SessionState::Running);
    EXPECT_EQ(control.status().pid, server.pid);
}

TEST_F(SupervisorTest, AKnownTokenGoesToItsWorker) {
    ServerProcess server = start();
    ControlClient control = server.control();
    HelloClient client("app");
    for (int i = 0; i < 20; ++i)
        ASSERT_TRUE(client.say(socket));  // the first ones while the worker is being made
    EXPECT_TRUE(eventually([&] { return !no_sessions(control) && only(control).calls == 20; }));
    client.hello.epoch = 17;
    EXPECT_EQ(client.attach(socket), AttachState::Attached);
    EXPECT_EQ(only(control).calls, 21u);
}

TEST_F(SupervisorTest, AnUnknownSessionIsRefused) {
    ServerProcess server = start();
    ControlClient control = server.control();
    HelloClient client("app", 17);
    EXPECT_EQ(client.attach(socket), AttachState::Refused);
    EXPECT_EQ(client.refusal(), Refusal::UnknownSession);
    EXPECT_THAT(client.text(), HasSubstr(token_text(client.hello.token)));
    EXPECT_TRUE(no_sessions(control));
}

TEST_F(SupervisorTest, AnotherProtocolIsRefused) {
    ServerProcess server = start();
    server.control();
    HelloClient client("app");
    client.hello.protocol += 1;
    EXPECT_EQ(client.attach(socket), AttachState::Refused);
    EXPECT_EQ(client.refusal(), Refusal::Protocol);
    EXPECT_THAT(client.text(), HasSubstr("version " + std::to_string(wire::protocol_version + 1)));
}

TEST_F(SupervisorTest, NothingThatComesEndsIt) {
    ServerProcess server = start();
    ControlClient control = server.control();
    HelloClient client("app");
    std::mt19937 random(5);
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const UniqueFd tiny(::memfd_create("tiny", MFD_CLOEXEC));
    int pipe[2];
    ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
    const UniqueFd reader(pipe[0]), writer(pipe[1]);
    const std::vector<std::vector<int>> fd_lists = {
        {},
        {client.channel.get()},
        {null.get(), null.get()},
        {reader.get(), writer.get()},
        {tiny.get(), tiny.get()},
        {client.channel.get(), null.get()},
        {client.channel.get(), client.host.get(), client.host.get()},
        std::vector<int>(100, client.channel.get())};
    const auto open_fds = [&] {
        return std::distance(
            std::filesystem::directory_iterator("/proc/" + std::to_string(server.pid) + "/fd"), {});
    };
    const auto say_nonsense = [&] {
        for (const auto& fds : fd_lists) {
            for (const size_t bytes : {size_t(0), size_t(1), size_t(12), sizeof(wire::Hello) - 1,
                                       sizeof(wire::Hello), sizeof(wire::Hello) + 1, size_t(60000)}) {
                std::vector<char> data(bytes + 1);
                for (char& c : data) c = static_cast<char>(random());
                HelloClient::send(socket, data.data(), bytes, fds);
                std::memcpy(data.data(), &client.hello,
                            std::min(bytes, sizeof client.hello));  // the right beginning
                if (fds != fd_lists[6] && bytes != sizeof(wire::Hello))
                    HelloClient::send(socket, data.data(), bytes, fds);
            }
            if (fds.size() != 2) {
                HelloClient::send(socket, &client.hello, sizeof client.hello, fds);
            }
        }
    };
    say_nonsense();
    EXPECT_TRUE(no_sessions(control));
    const auto fds_before = open_fds();
    say_nonsense();
    EXPECT_TRUE(no_sessions(control));
    EXPECT_TRUE(eventually([&] { return open_fds() <= fds_before; })) << "what came stays open";
    HelloClient zero("zero");
    zero.hello.token = {};
    EXPECT_EQ(zero.attach(socket), AttachState::Refused);
    EXPECT_EQ(zero.refusal(), Refusal::BadChannel);
    HelloClient mixed("mixed");
    HelloClient::send(socket, &mixed.hello, sizeof mixed.hello, {mixed.channel.get(), null.get()});
    EXPECT_TRUE(eventually([&] { return mixed.state() == AttachState::Refused; }));
    EXPECT_TRUE(no_sessions(control));
    EXPECT_TRUE(server.alive());
    EXPECT_EQ(client.attach(socket), AttachState::Attached);
}

TEST_F(SupervisorTest, AClientThatTruncatesItsChannelHarmsNobody) {
    ServerProcess server = start();
    ControlClient control = server.control();
    HelloClient client("app", 17);
    ASSERT_EQ(::ftruncate(client.channel.get(), 100), 0);
    ASSERT_TRUE(client.say(socket));
    HelloClient good("good");
    EXPECT_EQ(good.attach(socket), AttachState::Attached);
    EXPECT_THAT(log(), HasSubstr("cannot be told"));
}

TEST_F(SupervisorTest, ACrashedWorkerTakesOnlyItsSession) {
    ServerProcess server = start();
    ControlClient control = server.control();
    HelloClient other("other"), crash("crash");
    EXPECT_EQ(other.attach(socket), AttachState::Attached);
    crash.attach(socket);
    EXPECT_TRUE(eventually([&] { return control.status().sessions.size() == 1; }));
    EXPECT_THAT(log(), HasSubstr("signal 6"));
    crash.hello.epoch = crash.hello.next_epoch;
    EXPECT_EQ(crash.attach(socket), AttachState::Refused);
    EXPECT_EQ(crash.refusal(), Refusal::Internal);
    EXPECT_THAT(crash.text(), HasSubstr("signal 6"));
    EXPECT_EQ(other.attach(socket), AttachState::Attached);
}

TEST_F(SupervisorTest, AWorkerThatCannotStartRefusesItsClient) {
    ::setenv("WORKER_DOUBLE_START", "no GPU left", 1);
    ServerProcess server = start();
    ::unsetenv("WORKER_DOUBLE_START");
    ControlClient control = server.control();
    HelloClient client("app");
    EXPECT_EQ(client.attach(socket), AttachState::Refused);
    EXPECT_EQ(client.refusal(), Refusal::Driver);
    EXPECT_THAT(client.text(), HasSubstr("no GPU left"));
    EXPECT_TRUE(no_sessions(control));
}

TEST_F(SupervisorTest, WorkersDieWithIt) {
    ServerProcess server = start();
    server.control();
    HelloClient client("app");
    EXPECT_EQ(client.attach(socket), AttachState::Attached);
    const pid_t worker = static_cast<pid_t>(client.page->server_pid);
    server.end(SIGKILL);
    EXPECT_TRUE(eventually([&] {
        std::ifstream stat("/proc/" + std::to_string(worker) + "/stat");
        std::string line;
        return !std::getline(stat, line) || line.find(") Z ") != std::string::npos;
    }));
    // Its sockets are stale now; the next server takes them over.
    ServerProcess next = start();
    ControlClient control = next.control();
    EXPECT_TRUE(no_sessions(control));
}

TEST_F(SupervisorTest, ALivingServersSocketIsNotTaken) {
    ServerProcess server = start();
    ControlClient control = server.control();
    ServerProcess second(socket, path("log2"));
    const int status = second.wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    EXPECT_THAT(content(path("log2")), HasSubstr(socket));
    EXPECT_TRUE(no_sessions(control));
    HelloClient client("app");
    EXPECT_EQ(client.attach(socket), AttachState::Attached);
}

TEST_F(SupervisorTest, SnapshotDropAndLoad) {
    ServerProcess server = start();
    ControlClient control = server.control();
    HelloClient client("park");
    EXPECT_EQ(client.attach(socket), AttachState::Attached);
    const std::string pid = std::to_string(::getpid());
    EXPECT_TRUE(eventually([&] { return only(control).state == SessionState::Parked; }));
    EXPECT_TRUE(control.snapshot(pid, path("gpu"), {}).ok);
    EXPECT_THAT(control.load(path("gpu")).result.error, HasSubstr("already"));
    EXPECT_TRUE(control.drop(pid, false).ok);
    EXPECT_TRUE(no_sessions(control)) << "a drop is answered when the session is gone";

    const LoadResult loaded = control.load(path("gpu"));
    ASSERT_TRUE(loaded.result.ok) << loaded.result.error;
    EXPECT_EQ(loaded.session.state, SessionState::Parked);
    EXPECT_EQ(loaded.session.token, client.hello.token);
    EXPECT_EQ(loaded.session.calls, 1u);
    client.hello.epoch = client.hello.next_epoch;
    EXPECT_EQ(client.attach(socket), AttachState::Attached);

    EXPECT_TRUE(control.drop(session_name(loaded.session.id), true).ok);
    std::filesystem::path pack;
    for (const auto& file : std::filesystem::directory_iterator(path("gpu")))
        if (file.path().extension() == ".pack") pack = file.path();
    ASSERT_FALSE(pack.empty());
    const auto bytes = std::filesystem::file_size(pack);
    std::filesystem::resize_file(pack, 3);
    EXPECT_THAT(control.load(path("gpu")).result.error, HasSubstr(pack.filename().string()));
    std::filesystem::resize_file(pack, 0);
    std::ofstream(pack) << std::string(bytes, '!');
    EXPECT_THAT(control.load(path("gpu")).result.error, HasSubstr("corrupt"))
        << "found by the worker, said by the supervisor";
    EXPECT_TRUE(no_sessions(control));
}

TEST_F(SupervisorTest, TargetsAreNamedInErrors) {
    ServerProcess server = start();
    ControlClient control = server.control();
    for (const char* target :
         {"s9", "999999", "no-number", "", "00112233445566778899aabbccddeeff", "-1", "s"}) {
        EXPECT_THAT(control.snapshot(target, "/tmp/x", {}).error, HasSubstr(target)) << target;
        EXPECT_THAT(control.resume(target).error, HasSubstr(target));
        EXPECT_THAT(control.quiesce(target, 1, false).error, HasSubstr(target));
        EXPECT_THAT(control.drop(target, true).error, HasSubstr(target));
    }
    EXPECT_THAT(control.load("relative").result.error, HasSubstr("relative"));
    EXPECT_THAT(control.load(path("none")).result.error, HasSubstr("none"));
}

TEST_F(SupervisorTest, ASlowSnapshotKeepsNobodyWaiting) {
    ServerProcess server = start();
    ControlClient control = server.control();
    HelloClient slow("slow"), other("other");
    EXPECT_EQ(slow.attach(socket), AttachState::Attached);
    EXPECT_TRUE(control.quiesce("s1", 1000, true).ok);
    std::atomic<bool> saved{false};
    std::thread saving([&] {
        ControlClient own = ControlClient::connect(control_path(socket));
        EXPECT_TRUE(own.snapshot("s1", path("gpu"), {}).ok);
        saved = true;
    });
    EXPECT_EQ(other.attach(socket), AttachState::Attached);
    EXPECT_EQ(control.status().sessions.size(), 2u);
    EXPECT_FALSE(saved);
    server.go_on();
    saving.join();
}

TEST_F(SupervisorTest, WhatSomebodyStoppedGoesOnWhenHeGoesAway) {
    ServerProcess server = start();
    ControlClient control = server.control();
    HelloClient client("app");
    EXPECT_EQ(client.attach(socket), AttachState::Attached);
    {
        ControlClient passing = ControlClient::connect(control_path(socket));
        EXPECT_TRUE(passing.quiesce("s1", 1000, false).ok);
        EXPECT_EQ(only(control).state, SessionState::Quiesced);
    }
    EXPECT_TRUE(eventually([&] { return only(control).state == SessionState::Running; }));
    {
        ControlClient passing = ControlClient::connect(control_path(socket));
        EXPECT_TRUE(passing.quiesce("s1", 1000, true).ok);
    }
    EXPECT_EQ(only(control).state, SessionState::Quiesced);
    EXPECT_TRUE(control.resume("s1").ok);
    EXPECT_EQ(only(control).state, SessionState::Running);
}

TEST_F(SupervisorTest, ParkedSessionsAreDroppedInTime) {
    ServerProcess server = start({"--park-timeout", "1"});
    ControlClient control = server.control();
    HelloClient parked("park"), running("app");
    EXPECT_EQ(parked.attach(socket), AttachState::Attached);
    EXPECT_EQ(running.attach(socket), AttachState::Attached);
    EXPECT_TRUE(eventually([&] { return control.status().sessions.size() == 1; }));
    EXPECT_EQ(only(control).program, "app");
    EXPECT_THAT(log(), HasSubstr("dropped: parked"));
}

TEST_F(SupervisorTest, EndsInOrder) {
    ServerProcess server = start();
    server.control();
    HelloClient client("app");
    EXPECT_EQ(client.attach(socket), AttachState::Attached);
    const int status = server.end(SIGTERM);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT_TRUE(std::filesystem::is_empty(path("run"))) << "a socket was left";
}

TEST_F(SupervisorTest, SessionsOutliveItInTheStateFolder) {
    HelloClient running("app"), parked("park"), busy("busy");
    const std::vector<std::string> options = {"--state-dir", path("state")};
    {
        ServerProcess server = start(options);
        server.control();
        for (HelloClient* client : {&running, &parked, &busy})
            EXPECT_EQ(client->attach(socket), AttachState::Attached);
        EXPECT_EQ(server.end(SIGTERM), 0);
        EXPECT_THAT(log(), HasSubstr("a kernel runs longer"));
    }
    ServerProcess server = start(options);
    ControlClient control = server.control();
    EXPECT_EQ(control.status().sessions.size(), 2u);
    for (const SessionStatus& session : control.status().sessions)
        EXPECT_EQ(session.state, SessionState::Parked);
    running.hello.epoch = running.hello.next_epoch;
    EXPECT_EQ(running.attach(socket), AttachState::Attached);
    // What has gone on is no longer what was saved; what has not still is.
    EXPECT_TRUE(eventually(
        [&] { return !std::filesystem::exists(path("state/" + token_text(running.hello.token))); }));
    EXPECT_TRUE(std::filesystem::exists(path("state/" + token_text(parked.hello.token))));
    EXPECT_TRUE(control.drop(token_text(parked.hello.token), false).ok);
    EXPECT_TRUE(eventually([&] { return std::filesystem::is_empty(path("state")); }));
}

TEST_F(SupervisorTest, BadDriversAreNamed) {
    const auto fails_with = [&](const std::string& driver, const std::string& naming) {
        ServerProcess server = start({"--driver", driver});
        const int status = server.wait();
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << driver;
        EXPECT_THAT(log(), HasSubstr(naming));
    };
    fails_with(path("none.so"), "none.so");
    fails_with(root, root);
    put(path("text.so"), "not a library");
    fails_with(path("text.so"), "text.so");
    fails_with("hard", "hard");
    ::setenv("DRIVER_DOUBLE_INIT", "100", 1);
    fails_with(std::string(std::getenv("CRICKET_TEST_BUILD")) + "/libdriver_double.so",
               "CUDA_ERROR_NO_DEVICE");
    ::unsetenv("DRIVER_DOUBLE_INIT");
    fails_with(std::string(std::getenv("CRICKET_TEST_BUILD")) + "/libshim_double.so", "shim");
}

}  // namespace
}  // namespace cricket::server
