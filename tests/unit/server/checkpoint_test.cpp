// SPDX-License-Identifier: MIT
// cricketctl's checkpoints with a criu and a worker that fail when they are told to: whatever fails, the
// application goes on, nothing half-written stays, and the message says what it was. The real criu is the
// checkpoint suite's matter.
#include <gmock/gmock.h>
#include <sys/prctl.h>

#include "hello_client.h"
#include "scratch.h"
#include "session_names.h"

namespace cricket::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Outcome {
    int status = -1;
    std::string output;
};

class Checkpoint : public Scratch {
  protected:
    Checkpoint() : server_(socket, path("log")), control(server_.control()) {
        std::filesystem::create_directory(path("out"));
    }
    ~Checkpoint() override {
        if (app > 0) {
            ::kill(app, SIGKILL);
            ::waitpid(app, nullptr, 0);
        }
    }

    // A process that attaches and waits.
    void start_app(const std::string& program = "app") {
        app = ::fork();
        if (app == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            HelloClient client(program);
            client.say(socket);
            for (;;) ::pause();
        }
        ASSERT_TRUE(eventually([&] { return session().state == SessionState::Running; }));
    }
    SessionStatus session() {
        for (SessionStatus& one : control.status().sessions)
            if (one.pid == app) return one;
        return {};
    }
    pid_t start_ctl(const std::vector<std::string>& words, const std::string& criu_mode) {
        std::vector<std::string> all = {std::getenv("CRICKET_TEST_CTL"), "--socket", socket};
        all.insert(all.end(), words.begin(), words.end());
        std::vector<char*> arguments;
        for (std::string& word : all) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        const pid_t pid = ::fork();
        if (pid == 0) {
            ::setenv("CRIU_DOUBLE", criu_mode.c_str(), 1);
            ::setenv("CRICKET_CRIU", std::getenv("CRICKET_TEST_CRIU"), 1);
            const int fd = ::open(path("ctl").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
            ::dup2(fd, STDOUT_FILENO);
            ::dup2(fd, STDERR_FILENO);
            ::execv(arguments[0], arguments.data());
            ::_exit(127);
        }
        return pid;
    }
    Outcome finish_ctl(pid_t pid) {
        int status = 0;
        EXPECT_EQ(::waitpid(pid, &status, 0), pid);
        return {status, content(path("ctl"))};
    }
    Outcome ctl(const std::vector<std::string>& words, const std::string& criu_mode = {}) {
        return finish_ctl(start_ctl(words, criu_mode));
    }
    void expect_refused(const Outcome& outcome, const testing::Matcher<std::string>& matcher) {
        // 2: verify found damage
        EXPECT_TRUE(WIFEXITED(outcome.status) && (WEXITSTATUS(outcome.status) == 1 || WEXITSTATUS(outcome.status) == 2)) << outcome.status;
        EXPECT_THAT(outcome.output, matcher);
        EXPECT_EQ(std::count(outcome.output.begin(), outcome.output.end(), '\n'), 1) << outcome.output;
    }
    void expect_unharmed() {
        EXPECT_EQ(::waitpid(app, nullptr, WNOHANG), 0) << "the application died";
        EXPECT_TRUE(eventually([&] { return session().state == SessionState::Running; }));
        EXPECT_TRUE(std::filesystem::is_empty(path("out"))) << "something half-written was left";
    }
    std::string pid() const { return std::to_string(app); }

    const std::string socket = path("server.sock"), out = path("out/ck");
    ServerProcess server_;
    ControlClient control;
    pid_t app = -1;
};

TEST_F(Checkpoint, LeavesRunning) {
    start_app();
    const Outcome outcome = ctl({"checkpoint", pid(), out, "--leave-running"});
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_EQ(::waitpid(app, nullptr, WNOHANG), 0);
    EXPECT_EQ(session().state, SessionState::Running);
    EXPECT_EQ(ctl({"verify", out}).status, 0);
    // The next one replaces it.
    const std::string before = content(out + "/app/cricket-epoch");
    EXPECT_EQ(ctl({"checkpoint", pid(), out, "--leave-running"}).status, 0);
    EXPECT_NE(content(out + "/app/cricket-epoch"), before);
    EXPECT_EQ(ctl({"verify", out}).status, 0);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path("out")), {}), 1);
}

TEST_F(Checkpoint, EndsAndComesBack) {
    start_app();
    const Outcome outcome = ctl({"checkpoint", pid(), out});
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    int status = 0;
    EXPECT_EQ(::waitpid(app, &status, 0), app);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    EXPECT_TRUE(control.status().sessions.empty());
    EXPECT_EQ(ctl({"restore", out}).status, 0);
    EXPECT_EQ(session().state, SessionState::Parked);
    app = -1;
    // Its session is here, parked and as it was: another attempt goes on with it.
    EXPECT_EQ(ctl({"restore", out}).status, 0);
    EXPECT_EQ(control.status().sessions.size(), 1u);
}

TEST_F(Checkpoint, ARefusingCriuIsQuoted) {
    start_app();
    for (const char* leave : {"--leave-running", ""}) {
        std::vector<std::string> words = {"checkpoint", pid(), out};
        if (*leave) words.push_back(leave);
        expect_refused(ctl(words, "dump"),
                       AllOf(HasSubstr("socket 17 is connected"), Not(HasSubstr("not this"))));
        expect_unharmed();
        expect_refused(ctl(words, "crash"), HasSubstr("signal 11"));
        expect_unharmed();
        words.insert(words.end(), {"--", "--refused-option"});
        expect_refused(ctl(words), HasSubstr("unrecognized option"));
        expect_unharmed();
    }
}

TEST_F(Checkpoint, ACriuThatDoesNotWorkStopsNothing) {
    start_app("busy");  // a quiesce would say so
    expect_refused(ctl({"checkpoint", pid(), out}, "check"), HasSubstr("no such kernel"));
    expect_unharmed();
}

TEST_F(Checkpoint, ASessionThatCannotStopIsNamed) {
    start_app("busy");
    expect_refused(ctl({"checkpoint", pid(), out}), HasSubstr("a kernel runs longer"));
    expect_unharmed();
}

TEST_F(Checkpoint, AnUnsavableObjectLeavesTheApplicationAlive) {
    start_app("unsavable");
    expect_refused(ctl({"checkpoint", pid(), out}), HasSubstr("texture object 7"));
    expect_unharmed();
    expect_refused(ctl({"checkpoint", pid(), out, "--leave-running"}), HasSubstr("texture object 7"));
    expect_unharmed();
}

TEST_F(Checkpoint, AnInterruptLeavesTheApplicationAlive) {
    start_app("slow");
    const pid_t ctl = start_ctl({"checkpoint", pid(), out}, {});
    EXPECT_TRUE(eventually([&] { return session().state == SessionState::Quiesced; }));
    ::kill(ctl, SIGINT);
    server_.go_on();
    expect_refused(finish_ctl(ctl), HasSubstr("interrupted"));
    expect_unharmed();
}

TEST_F(Checkpoint, AKilledCricketctlLeavesTheApplicationAlive) {
    start_app("slow");
    const pid_t ctl = start_ctl({"checkpoint", pid(), out}, {});
    EXPECT_TRUE(eventually([&] { return session().state == SessionState::Quiesced; }));
    ::kill(ctl, SIGKILL);
    finish_ctl(ctl);
    server_.go_on();
    EXPECT_TRUE(eventually([&] { return session().state == SessionState::Running; }));
    EXPECT_EQ(::waitpid(app, nullptr, WNOHANG), 0);
    EXPECT_FALSE(std::filesystem::exists(out));
    // What it could not clean up, the next one does, or the server once the criu that it had started lets go of it.
    EXPECT_EQ(this->ctl({"checkpoint", pid(), out, "--leave-running"}).status, 0);
    EXPECT_TRUE(eventually([&] { return std::distance(std::filesystem::directory_iterator(path("out")), {}) == 1; }));
}

TEST_F(Checkpoint, TargetsAndPlacesAreChecked) {
    start_app();
    expect_refused(ctl({"checkpoint", "999999", out}), HasSubstr("999999"));
    expect_refused(ctl({"checkpoint", pid(), path("no/where")}), HasSubstr("no/where"));
    expect_refused(ctl({"checkpoint", pid(), root}), HasSubstr("not replaced"));
    expect_unharmed();
}

TEST_F(Checkpoint, AFailedRestoreLeavesNothing) {
    start_app();
    ASSERT_EQ(ctl({"checkpoint", pid(), out}).status, 0);
    ::waitpid(app, nullptr, 0);
    app = -1;
    expect_refused(ctl({"restore", out}, "restore"), HasSubstr("File exists"));
    EXPECT_TRUE(control.status().sessions.empty());
    EXPECT_EQ(ctl({"restore", out}).status, 0);
}

TEST_F(Checkpoint, DamagedOrMixedHalvesAreRefusedBeforeAnythingIsTouched) {
    start_app();
    const std::string other = path("out/other");
    ASSERT_EQ(ctl({"checkpoint", pid(), other, "--leave-running"}).status, 0);
    ASSERT_EQ(ctl({"checkpoint", pid(), out}).status, 0);
    ::waitpid(app, nullptr, 0);
    app = -1;
    const std::string copy = path("copy");
    const auto refused_after = [&](const std::function<void()>& damage, const std::string& naming) {
        std::filesystem::remove_all(copy);
        std::filesystem::copy(out, copy, std::filesystem::copy_options::recursive);
        damage();
        expect_refused(ctl({"restore", copy}), HasSubstr(naming));
        expect_refused(ctl({"verify", copy}), HasSubstr(naming));
        EXPECT_TRUE(control.status().sessions.empty());
    };
    for (const char* half : {"/app", "/gpu"})
        refused_after(
            [&] {
                std::filesystem::remove_all(copy + half);
                std::filesystem::copy(other + half, copy + half, std::filesystem::copy_options::recursive);
            },
            "epoch");
    refused_after(
        [&] {
            std::filesystem::copy(other + "/cricket.json", copy + "/cricket.json",
                                  std::filesystem::copy_options::overwrite_existing);
        },
        "epoch");
    for (const auto& entry : std::filesystem::recursive_directory_iterator(out)) {
        const std::string name = entry.path().filename(),
                          inside = copy + entry.path().string().substr(out.size());
        if (!entry.is_regular_file() || name == "dump.log" || name == "stats-dump") continue;
        refused_after([&] { std::filesystem::remove(inside); }, name);
        refused_after([&] { std::filesystem::resize_file(inside, std::filesystem::file_size(inside) / 2); },
                      name == "cricket-epoch" ? "epoch" : name);
        refused_after(
            [&] {
                std::string text = content(inside);
                text[text.size() / 3] = static_cast<char>(text[text.size() / 3] ^ 1);
                put(inside, text);
            },
            name == "cricket-epoch" ? "epoch" : name);
    }
    EXPECT_EQ(ctl({"restore", out}).status, 0);
}

}  // namespace
}  // namespace cricket::server
