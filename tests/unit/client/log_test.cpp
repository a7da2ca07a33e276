// SPDX-License-Identifier: MIT
// What the shim writes to stderr, seen through a pipe in a child (the level is read once a process).
#include "client/log.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace cricket::client {
namespace {

std::string said(const char* level, const std::function<void()>& work) {
    int ends[2];
    if (pipe(ends)) return "no pipe";
    pid_t child = fork();
    if (child == 0) {
        level ? setenv("CRICKET_LOG", level, 1) : unsetenv("CRICKET_LOG");
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        work();
        _exit(0);
    }
    close(ends[1]);
    std::string all;
    char part[4096];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) all.append(part, static_cast<size_t>(n));
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    return all;
}

size_t lines(const std::string& text) {
    size_t n = 0;
    for (char c : text) n += c == '\n';
    return n;
}

void one_of_each() {
    log(LogLevel::Error, "E %d", 1);
    log(LogLevel::Warn, "W %s", "two");
    log(LogLevel::Info, "I");
    log(LogLevel::Debug, "D");
}

TEST(Log, LevelsFromTheEnvironment) {
    EXPECT_EQ(lines(said("error", one_of_each)), 1u);
    EXPECT_EQ(lines(said("warn", one_of_each)), 2u);
    EXPECT_EQ(lines(said("info", one_of_each)), 3u);
    EXPECT_EQ(lines(said("debug", one_of_each)), 4u);
    EXPECT_EQ(lines(said(nullptr, one_of_each)), 2u);
    EXPECT_EQ(lines(said("", one_of_each)), 2u);
}

TEST(Log, UnknownLevelIsNamedAndWarnIsUsed) {
    std::string text = said("loud", one_of_each);
    EXPECT_EQ(lines(text), 3u);
    EXPECT_NE(text.find("CRICKET_LOG=loud"), std::string::npos) << text;
}

TEST(Log, LineNamesProgramProcessAndLevel) {
    std::string text = said("error", [] { log(LogLevel::Error, "E %d", 1); });
    EXPECT_EQ(text.rfind("cricket[", 0), 0u) << text;
    EXPECT_NE(text.find("] error: E 1\n"), std::string::npos) << text;
}

TEST(Log, LongLinesAreCut) {
    std::string text = said("error", [] { log(LogLevel::Error, "%s", std::string(5000, 'x').c_str()); });
    EXPECT_LE(text.size(), 512u);
    EXPECT_EQ(text.substr(text.size() - 4), "...\n");
}

TEST(Log, KeepsErrnoEvenWhenStderrIsClosed) {
    std::string text = said("error", [] {
        errno = E2BIG;
        log(LogLevel::Error, "x");
        if (errno != E2BIG) _exit(1);
        close(2);
        log(LogLevel::Error, "y");
        if (errno != E2BIG) _exit(2);
    });
    EXPECT_EQ(lines(text), 1u);
}

TEST(Log, OnceIsOnceAmongManyThreads) {
    std::string text = said("warn", [] {
        static std::atomic<bool> first{false}, second{false};
        std::vector<std::thread> threads;
        for (int i = 0; i < 8; ++i)
            threads.emplace_back([] {
                for (int n = 0; n < 100; ++n) {
                    log_once(first, LogLevel::Warn, "first");
                    log_once(second, LogLevel::Warn, "second");
                }
            });
        for (auto& thread : threads) thread.join();
    });
    EXPECT_EQ(lines(text), 2u) << text;
}

TEST(Log, Uuid) {
    unsigned char bytes[16] = {0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a,
                               0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9};
    char text[37];
    format_uuid(bytes, text);
    EXPECT_STREQ(text, "6bd5fb6c-5bf4-e74a-8987-d93912fd9df9");
}

}  // namespace
}  // namespace cricket::client
