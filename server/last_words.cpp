// SPDX-License-Identifier: MIT
#include "last_words.h"

#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "log.h"

namespace cricket::server {
namespace {

constexpr int fatal[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
constexpr int frames = 48;
constexpr off_t tail_bytes = 1024;

// The process is lost: what may go wrong here cannot make it worse.
void report(int signal, siginfo_t* info, void*) {
    const int log = log_descriptor();
    char line[160];
    const int length = std::snprintf(line, sizeof line, "worker %d: %s, address %p; its last words and frames:\n", getpid(),
                                     sigabbrev_np(signal), signal == SIGABRT ? nullptr : info->si_addr);
    [[maybe_unused]] ssize_t written = ::write(log, line, static_cast<size_t>(length));
    struct stat said {};
    if (::fstat(STDERR_FILENO, &said) == 0 && S_ISREG(said.st_mode) && said.st_size > 0) {
        char text[tail_bytes];
        const off_t from = said.st_size > tail_bytes ? said.st_size - tail_bytes : 0;
        const ssize_t bytes = ::pread(STDERR_FILENO, text, sizeof text, from);
        if (bytes > 0) written = ::write(log, text, static_cast<size_t>(bytes));
    }
    void* stack[frames];
    ::backtrace_symbols_fd(stack, ::backtrace(stack, frames), log);
    // The handler is gone (SA_RESETHAND): the signal ends the process as it would have without us.
    ::raise(signal);
}

}  // namespace

void leave_last_words() {
    void* stack[1];
    ::backtrace(stack, 1);  // loads libgcc now rather than in a crash
    struct sigaction action {};
    action.sa_sigaction = report;
    action.sa_flags = SA_SIGINFO | SA_RESETHAND;
    for (const int signal : fatal) ::sigaction(signal, &action, nullptr);
}

}  // namespace cricket::server
