// SPDX-License-Identifier: MIT
// The worker's link and the control program over it, with both ends in one process.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <future>
#include <thread>

#include "control_client.h"
#include "link_message.h"
#include "session_names.h"
#include "worker_link.h"

namespace cricket::server {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

struct Ops : WorkerOps {
    void attach(const wire::Hello& hello, const ucred& peer, UniqueFd channel, UniqueFd host) override {
        char text[6] = {};
        [[maybe_unused]] const ssize_t got = ::pread(channel.get(), text, 5, 0);
        attached.set_value(std::string(hello.program) + " " + std::to_string(peer.pid) + " " + text + " " +
                           (::fcntl(host.get(), F_GETFD) & FD_CLOEXEC ? "closed on exec" : "leaks"));
    }
    SessionStatus status() override {
        SessionStatus result;
        result.id = 7;
        result.token.bytes[15] = 0xab;
        result.epoch = UINT64_MAX - 1;
        result.pid = 4711;
        result.program = "program";
        result.state = SessionState::Parked;
        result.device_bytes = uint64_t(1) << 40;
        result.host_bytes = 5;
        result.calls = uint64_t(1) << 50;
        result.started = 1234567890123;
        result.state_since = -1;
        return result;
    }
    OpResult quiesce(uint32_t timeout_ms, const std::function<bool()>&) override {
        return OpResult::failure("took " + std::to_string(timeout_ms));
    }
    OpResult resume() override { return OpResult::failure(std::string(100000, 'x')); }
    OpResult snapshot(const std::string& directory, const std::string& checkpoint) override {
        snapshot_began.set_value(directory + " " + checkpoint);
        go_on.get_future().wait();
        return {};
    }
    OpResult drop(bool force) override { return force ? OpResult{} : OpResult::failure("attached"); }

    std::promise<std::string> attached, snapshot_began;
    std::promise<void> go_on;
};

class Link : public testing::Test {
  protected:
    Link() {
        ::signal(SIGPIPE, SIG_IGN);  // as the programs do: libtirpc writes without MSG_NOSIGNAL
        int ends[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        supervisor.reset(ends[0]);
        link.emplace(ends[1], ops);
        runner = std::async(std::launch::async, [this] { link->run(); });
    }
    ~Link() override {
        supervisor.reset();
        if (runner.valid()) runner.wait();
    }
    UniqueFd connection() {
        int ends[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        UniqueFd ours(ends[0]), theirs(ends[1]);
        LinkMessage message;
        message.kind = LinkKind::Control;
        EXPECT_TRUE(send_link_message(supervisor.get(), message, {theirs.get()}));
        return ours;
    }
    ControlClient client() { return ControlClient(connection(), "the worker"); }

    Ops ops;
    UniqueFd supervisor;
    std::optional<WorkerLink> link;
    std::future<void> runner;
};

TEST_F(Link, StatusCrossesWhole) {
    const ControlStatus answer = client().status();
    ASSERT_EQ(answer.sessions.size(), 1u);
    const SessionStatus sent = ops.status(), &got = answer.sessions[0];
    EXPECT_EQ(got.id, sent.id);
    EXPECT_EQ(got.token, sent.token);
    EXPECT_EQ(got.epoch, sent.epoch);
    EXPECT_EQ(got.pid, sent.pid);
    EXPECT_EQ(got.program, sent.program);
    EXPECT_EQ(got.state, sent.state);
    EXPECT_EQ(got.device_bytes, sent.device_bytes);
    EXPECT_EQ(got.host_bytes, sent.host_bytes);
    EXPECT_EQ(got.calls, sent.calls);
    EXPECT_EQ(got.started, sent.started);
    EXPECT_EQ(got.state_since, sent.state_since);
}

TEST_F(Link, ErrorsCrossAndAreBounded) {
    ControlClient control = client();
    EXPECT_EQ(control.quiesce({}, 17, false).error, "took 17");
    const OpResult result = control.resume({});
    EXPECT_FALSE(result.ok);
    EXPECT_EQ(result.error, std::string(8192, 'x'));
    EXPECT_FALSE(control.load("/tmp").result.ok);
}

TEST_F(Link, ASnapshotKeepsNobodyWaiting) {
    ControlClient saver = client(), other = client();
    std::future<OpResult> saving =
        std::async(std::launch::async, [&] { return saver.snapshot({}, "/place", "feed"); });
    EXPECT_EQ(ops.snapshot_began.get_future().get(), "/place feed");
    EXPECT_EQ(other.status().sessions.size(), 1u);
    ops.go_on.set_value();
    EXPECT_TRUE(saving.get().ok);
}

TEST_F(Link, ADropIsAnsweredAndEndsTheWorker) {
    ControlClient control = client();
    EXPECT_EQ(control.drop({}, false).error, "attached");
    EXPECT_EQ(control.status().sessions.size(), 1u);
    EXPECT_TRUE(control.drop({}, true).ok);
    EXPECT_EQ(runner.wait_for(10s), std::future_status::ready);
    EXPECT_THROW(control.status(), ControlError);
}

TEST_F(Link, HellosBringTheirFds) {
    UniqueFd channel(::memfd_create("channel", MFD_CLOEXEC));
    ASSERT_EQ(::pwrite(channel.get(), "hello", 5, 0), 5);
    LinkMessage message;
    message.kind = LinkKind::Hello;
    std::strcpy(message.hello.program, "app");
    message.peer.pid = 99;
    ASSERT_TRUE(send_link_message(supervisor.get(), message, {channel.get(), channel.get()}));
    EXPECT_EQ(ops.attached.get_future().get(), "app 99 hello closed on exec");
}

TEST_F(Link, StartedReachesTheSupervisor) {
    link->started(OpResult::failure("no GPU"));
    const ReceivedLinkMessage received = receive_link_message(supervisor.get(), true);
    ASSERT_EQ(received.outcome, ReceivedLinkMessage::Outcome::Message);
    EXPECT_EQ(received.message.kind, LinkKind::Started);
    EXPECT_EQ(received.message.ok, 0u);
    EXPECT_STREQ(received.message.text, "no GPU");
}

TEST_F(Link, WhatIsNoCallEndsItsConnectionOnly) {
    const std::string nonsense[] = {std::string(64, '\0'), std::string(64, '\xff'), "GET / HTTP/1.0\r\n\r\n",
                                    std::string("\x80\0\0\x08xxxxyyyy", 12)};
    for (const std::string& text : nonsense) {
        UniqueFd fd = connection();
        ASSERT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(text.size()));
        ::shutdown(fd.get(), SHUT_WR);
        char answer[256];
        while (::recv(fd.get(), answer, sizeof answer, 0) > 0) {
        }
    }
    EXPECT_EQ(client().status().sessions.size(), 1u);
}

TEST_F(Link, AClosedLinkEndsTheWorker) {
    supervisor.reset();
    EXPECT_EQ(runner.wait_for(10s), std::future_status::ready);
}

TEST(SessionNames, TokensAreReadAsTheyAreWritten) {
    wire::Token token, back{};
    for (size_t i = 0; i < sizeof token.bytes; ++i) token.bytes[i] = static_cast<uint8_t>(i * 17);
    EXPECT_EQ(token_text(token), "00112233445566778899aabbccddeeff");
    EXPECT_TRUE(parse_token(token_text(token), &back));
    EXPECT_EQ(token, back);
    for (const char* text :
         {"", "00", "00112233445566778899aabbccddeefg", "00112233445566778899aabbccddeeff0"})
        EXPECT_FALSE(parse_token(text, &back)) << text;
}

}  // namespace
}  // namespace cricket::server
