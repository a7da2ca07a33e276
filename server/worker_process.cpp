// SPDX-License-Identifier: MIT
#include "worker_process.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <vector>

#include "log.h"

namespace cricket::server {
namespace {

// The kernel puts mappings below the room that the stack may take. A worker maps pages of its application where the
// application has them, and the applications' stacks lie in the highest 16 GiB (arch/x86/mm/mmap.c): nothing of its
// own shall be there. usual_stacks() takes the limit back.
constexpr rlim_t usual_stack = rlim_t(8) << 20;

// Between fork and exec in a process with threads: nothing that allocates or locks.
[[noreturn]] void become_worker(char** arguments, char** environment, int link, pid_t supervisor) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != supervisor) ::_exit(1);  // it died before the signal was asked for
    const int now = ::personality(0xffffffff);
    if (now >= 0) ::personality(static_cast<unsigned long>(now) | ADDR_NO_RANDOMIZE);
    rlimit stack{};
    if (::getrlimit(RLIMIT_STACK, &stack) == 0 && (stack.rlim_max == RLIM_INFINITY || stack.rlim_max >= room_for_stacks)) {
        stack.rlim_cur = room_for_stacks;
        ::setrlimit(RLIMIT_STACK, &stack);
    }
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::fcntl(link, F_SETFD, 0);
    ::execve("/proc/self/exe", arguments, environment);
    ::_exit(127);
}

}  // namespace

pid_t start_process(std::vector<std::string> words, int inherited, const Variables& of_session) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    Variables variables = worker_environment(of_session);
    std::vector<char*> environment;
    for (std::string& variable : variables) environment.push_back(variable.data());
    environment.push_back(nullptr);
    const pid_t supervisor = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) throw std::system_error(errno, std::generic_category(), "cannot start a process");
    if (pid == 0) become_worker(arguments.data(), environment.data(), inherited, supervisor);
    return pid;
}

WorkerProcess start_worker(const WorkerConfig& config) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        throw std::system_error(errno, std::generic_category(), "cannot make a socket pair");
    UniqueFd ours(ends[0]), theirs(ends[1]);
    std::vector<std::string> words = {"cricket-server",
                                      "--worker",
                                      std::to_string(config.session_id),
                                      "--link",
                                      std::to_string(theirs.get()),
                                      "--driver",
                                      config.driver_path};
    if (!config.restore_dir.empty()) {
        words.push_back("--restore");
        words.push_back(config.restore_dir);
        if (!config.devices.empty()) {
            words.push_back("--devices");
            words.push_back(config.devices);
        }
        if (config.without_gpu) words.push_back("--without-gpu");
    }
    return {start_process(std::move(words), theirs.get(), config.environment), std::move(ours)};
}

void usual_stacks() {
    rlimit stack{};
    if (::getrlimit(RLIMIT_STACK, &stack) != 0 || stack.rlim_cur < room_for_stacks) return;
    stack.rlim_cur = std::min(usual_stack, stack.rlim_max);
    ::setrlimit(RLIMIT_STACK, &stack);
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, stack.rlim_cur);
    ::pthread_setattr_default_np(&attributes);  // glibc took the limit that it found at the start
    ::pthread_attr_destroy(&attributes);
}

int run_worker(const WorkerConfig& config, int link_fd) {
    log_setup("worker s" + std::to_string(config.session_id));
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);  // a file that may grow no more is an error of its writer
    ::fcntl(link_fd, F_SETFD, FD_CLOEXEC);
    const int now = ::personality(0xffffffff);
    if (now < 0 || !(now & ADDR_NO_RANDOMIZE))
        log_warn(
            "address randomization is on (this container forbids to turn it off?): a snapshot of a session "
            "that has "
            "module variables may not come back");
    return worker_main(config, link_fd);
}

}  // namespace cricket::server
