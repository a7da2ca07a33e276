// SPDX-License-Identifier: MIT
#include "criu.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "command.h"
#include "cricket/unique_fd.h"

namespace cricket::ctl {
namespace {

constexpr size_t most_quoted =
    6;  // error lines; the first say what happened, later ones what followed from it

std::string trimmed(std::string text) {
    const size_t begin = text.find_first_not_of(" \t\r\n");
    const size_t end = text.find_last_not_of(" \t\r\n");
    return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

// Joins the lines that say "Error"; all lines where none does.
std::string error_lines(std::istream& from) {
    std::vector<std::string> errors, all;
    for (std::string line; std::getline(from, line);) {
        line = trimmed(line);
        if (line.empty()) continue;
        const size_t error = line.find("Error");
        if (error != std::string::npos && line.find("RLIMIT_NOFILE") == std::string::npos)
            errors.push_back(line.substr(error));
        all.push_back(line);
    }
    std::string result;
    const std::vector<std::string>& lines = errors.empty() ? all : errors;
    for (size_t i = 0; i < lines.size() && i < most_quoted; ++i) result += (i ? "; " : "") + lines[i];
    return result;
}

std::string read_all(int fd) {
    std::string text;
    char buffer[4096];
    ssize_t got = 0;
    off_t at = 0;
    while ((got = ::pread(fd, buffer, sizeof buffer, at)) > 0) {
        text.append(buffer, static_cast<size_t>(got));
        at += got;
    }
    return text;
}

std::string in_path(const std::string& name) {
    const char* path = std::getenv("PATH");
    std::istringstream folders((path ? std::string(path) : "") + ":/usr/sbin:/usr/local/sbin:/sbin");
    for (std::string folder; std::getline(folders, folder, ':');) {
        if (folder.empty()) continue;
        const std::string candidate = folder + "/" + name;
        if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
    return {};
}

}  // namespace

CriuResult run_criu(const std::string& criu, const std::vector<std::string>& arguments,
                    const std::string& log, const std::string& environment, int hold) {
    // A file, not a pipe: whoever inherits it cannot keep us waiting for its end.
    UniqueFd output(::memfd_create("criu-output", MFD_CLOEXEC));
    UniqueFd input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    std::vector<char*> words = {const_cast<char*>(criu.c_str())};
    for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
    words.push_back(nullptr);
    std::vector<char*> variables;
    for (char** variable = environ; *variable; ++variable) variables.push_back(*variable);
    if (!environment.empty()) variables.push_back(const_cast<char*>(environment.c_str()));
    variables.push_back(nullptr);

    const pid_t child = ::fork();
    if (child < 0) throw CommandError(std::string("cannot start criu: ") + std::strerror(errno));
    if (child == 0) {
        ::setpgid(0, 0);
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        ::signal(SIGPIPE, SIG_DFL);
        if (hold < 0)
            ::signal(SIGXFSZ, SIG_DFL);
        else
            ::fcntl(hold, F_SETFD, 0);
        ::dup2(input.get(), STDIN_FILENO);
        ::dup2(output.get(), STDOUT_FILENO);
        ::dup2(output.get(), STDERR_FILENO);
        ::execve(words[0], words.data(), variables.data());
        ::_exit(127);
    }
    CriuResult result;
    while (::waitpid(child, &result.status, 0) < 0 && errno == EINTR) {
    }
    if (!result.ok()) {
        std::ifstream file(log);
        if (!log.empty() && file) result.errors = error_lines(file);
        if (result.errors.empty()) {
            std::istringstream printed(read_all(output.get()));
            result.errors = error_lines(printed);
        }
        if (WIFSIGNALED(result.status))
            result.errors = "it died of signal " + std::to_string(WTERMSIG(result.status)) +
                            (result.errors.empty() ? "" : "; " + result.errors);
        if (result.errors.empty())
            result.errors =
                "it ended with status " + std::to_string(WEXITSTATUS(result.status)) + " and said nothing";
    }
    return result;
}

std::string find_criu() {
    std::string criu;
    if (const char* given = std::getenv("CRICKET_CRIU"); given && *given) {
        criu = given;
        if (criu.find('/') == std::string::npos) criu = in_path(criu);
        if (criu.empty() || ::access(criu.c_str(), X_OK) != 0)
            throw CommandError(std::string("CRICKET_CRIU=") + given + " is no program that can be run");
    } else {
        criu = in_path("criu");
        if (criu.empty())
            throw CommandError("there is no criu in PATH; install it, or name one with CRICKET_CRIU");
    }
    criu = absolute_path(criu);
    if (const CriuResult check = run_criu(criu, {"check"}, {}); !check.ok())
        throw CommandError("'" + criu + " check' says that it does not work here: " + check.errors);
    return criu;
}

}  // namespace cricket::ctl
