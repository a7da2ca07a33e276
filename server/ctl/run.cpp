// SPDX-License-Identifier: MIT
#include "run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>

#include "checkpoint_folder.h"
#include "command.h"
#include "control_client.h"
#include "criu.h"
#include "numbered.h"
#include "cricket/unique_fd.h"
#include "paths.h"
#include "process_files.h"
#include "prune.h"

namespace cricket::ctl {
namespace {

namespace fs = std::filesystem;
using server::ControlClient;

constexpr auto between_attempts = std::chrono::seconds(3);  // to save a program that is to stop

[[noreturn]] void fail(const std::string& what) { throw CommandError(what + ": " + std::strerror(errno)); }

std::string beside(const std::vector<std::string>& places, const char* what) {
    const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
    for (const std::string& place : places) {
        const fs::path path = (here / place).lexically_normal();
        if (::access(path.c_str(), R_OK) == 0) return path;
    }
    throw CommandError(std::string("there is no ") + what + " beside " + here.string());
}

void wait_for_end(pid_t child) {
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
}

int exit_status(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

// A child in a session of its own, that a Ctrl-C meant for us does not reach; `prepare` runs in it. Throws what exec says.
pid_t start(const std::vector<std::string>& words, int output, const std::function<void()>& prepare) {
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    int ends[2];  // the child's closes when exec has worked, else errno comes through it
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("cannot make a pipe");
    const UniqueFd from(ends[0]);
    UniqueFd to(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) fail("cannot start '" + words[0] + "'");
    if (child == 0) {
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        for (const int ignored_here : {SIGPIPE, SIGXFSZ}) ::signal(ignored_here, SIG_DFL);
        ::setsid();
        const int null = ::open("/dev/null", O_RDONLY);
        ::dup2(null, STDIN_FILENO);
        ::dup2(output, STDOUT_FILENO);
        ::dup2(output, STDERR_FILENO);
        if (null > STDERR_FILENO) ::close(null);
        prepare();
        ::execvp(arguments[0], arguments.data());
        [[maybe_unused]] const ssize_t ignored = ::write(to.get(), &errno, sizeof errno);
        ::_exit(127);
    }
    to.reset();
    int why = 0;
    ssize_t got;
    while ((got = ::read(from.get(), &why, sizeof why)) < 0 && errno == EINTR) {
    }
    if (got != sizeof why) return child;
    ::waitpid(child, nullptr, 0);
    throw CommandError("cannot start '" + words[0] + "': " + std::strerror(why));
}

class Run {
  public:
    explicit Run(const RunOptions& options)
        : options_(options),
          checkpoints_path_(options.directory + "/checkpoints"),
          checkpoints_(checkpoints_path_),
          output_path_(options.directory + "/output"),
          socket_(options.directory + "/server.sock"),
          control_(server::control_path(socket_)) {}
    ~Run() { stop_server(); }
    Run(const Run&) = delete;

    int run() {
        if (constexpr size_t longest = sizeof(sockaddr_un::sun_path) - 1; control_.size() > longest)
            throw CommandError("'" + options_.directory + "' is too long a path: that of the server's socket there, '" + control_ +
                               "', has " + std::to_string(control_.size()) + " characters, " + std::to_string(longest) + " are possible");
        make_directory(options_.directory);
        lock_.reset(::open((options_.directory + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        if (!lock_) fail("cannot open '" + options_.directory + "/lock'");
        if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
            throw CommandError("another cricketctl run is at work in '" + options_.directory + "'");
        if (std::ifstream finished(options_.directory + "/finished"); finished) {
            std::cerr << "cricketctl: the program has ended; without '" << options_.directory << "/finished' it begins anew\n";
            return 0;
        }
        shim_path();  // now, before anything is begun
        find_criu();  // not when the first checkpoint is due
        make_directory(checkpoints_path_);
        watch();
        start_server();
        begin();
        return follow();
    }

  private:
    static void make_directory(const std::string& path) {
        std::error_code error;
        fs::create_directories(path, error);
        if (!error && !fs::is_directory(path, error) && !error) error = std::make_error_code(std::errc::not_a_directory);
        if (error) throw CommandError("cannot create '" + path + "': " + error.message());
    }

    // Signals come through a descriptor; what we restore becomes our child.
    void watch() {
        sigset_t signals;
        ::sigemptyset(&signals);
        for (const int one : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::sigaddset(&signals, one);
        ::sigprocmask(SIG_BLOCK, &signals, nullptr);
        signals_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
        timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
        changes_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
        const itimerspec every{{static_cast<time_t>(options_.every), 0}, {static_cast<time_t>(options_.every), 0}};
        if (!signals_ || !timer_ || !changes_ || ::timerfd_settime(timer_.get(), 0, &every, nullptr) != 0 ||
            ::inotify_add_watch(changes_.get(), options_.directory.c_str(), IN_CREATE | IN_MODIFY) < 0 ||
            ::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
            fail("cannot watch '" + options_.directory + "'");
    }

    void start_server() {
        for (const std::string& path : {socket_, control_})
            if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail("cannot remove '" + path + "'");
        const UniqueFd log(::open((options_.directory + "/server.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
        if (!log) fail("cannot open '" + options_.directory + "/server.log'");
        const std::vector<std::string> words = {beside({"cricket-server"}, "cricket-server"), "--socket", socket_, "--driver", options_.driver};
        const pid_t us = ::getpid();
        server_ = start(words, log.get(), [us] {
            ::prctl(PR_SET_PDEATHSIG, SIGTERM);
            if (::getppid() != us) ::_exit(1);
        });
        const UniqueFd running(static_cast<int>(::syscall(SYS_pidfd_open, server_, 0)));
        for (;;) {
            try {
                ControlClient::connect(control_);
                return;
            } catch (const server::ControlError&) {
                // not there yet
            }
            pollfd waiting[] = {{changes_.get(), POLLIN, 0}, {running.get(), POLLIN, 0}};
            ::poll(waiting, 2, -1);
            drain(changes_.get());
            if (waiting[1].revents) {
                int status = 0;
                ::waitpid(std::exchange(server_, -1), &status, 0);
                throw CommandError(server_ended(status));
            }
        }
    }
    std::string server_ended(int status) const {
        const std::string log = options_.directory + "/server.log";
        std::string last;
        std::ifstream file(log);
        for (std::string line; std::getline(file, line);) last = line;
        return "cricket-server ended with status " + std::to_string(exit_status(status)) + "; the last line of '" + log + "': " + last;
    }
    void stop_server() noexcept {
        if (server_ <= 0) return;
        ::kill(server_, SIGTERM);
        wait_for_end(server_);
        server_ = -1;
    }

    // Nothing of an attempt to go on may be in the way of the next: what criu has begun became a child of this thread.
    void end_children() noexcept {
        for (;;) {
            std::vector<pid_t> children;
            std::ifstream list("/proc/thread-self/children");
            for (pid_t child = 0; list >> child;)
                if (child != server_) children.push_back(child);
            if (children.empty()) return;
            for (const pid_t child : children) ::kill(child, SIGKILL);
            for (const pid_t child : children) wait_for_end(child);
        }
    }

    void begin() {
        if (checkpoints_.any()) {
            program_ = checkpoints_.go_on(control_, {.directory = {}, .devices = options_.devices, .truncate = true, .criu_arguments = options_.criu_arguments}, [this] { end_children(); });
            open_output(O_RDONLY);
            position_ = fs::file_size(output_path_);
            return;
        }
        open_output(O_RDONLY | O_CREAT | O_TRUNC);
        const UniqueFd output(::open(output_path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        if (!output) fail("cannot open '" + output_path_ + "'");
        const std::string shim = shim_path();
        const char* others = std::getenv("LD_PRELOAD");
        const std::string preload = shim + (others && *others ? std::string(":") + others : "");
        program_ = start(options_.program, output.get(), [&] {
            ::setenv("LD_PRELOAD", preload.c_str(), 1);
            ::setenv("CRICKET_SOCKET", socket_.c_str(), 1);
            if (!options_.devices.empty()) ::setenv("CUDA_VISIBLE_DEVICES", options_.devices.c_str(), 1);
        });
    }
    void open_output(int flags) {
        output_.reset(::open(output_path_.c_str(), flags | O_CLOEXEC, 0644));
        if (!output_) fail("cannot open '" + output_path_ + "'");
    }

    // What the program has written since becomes our own output.
    void show_output() {
        char buffer[65536];
        for (;;) {
            const ssize_t got = ::pread(output_.get(), buffer, sizeof buffer, static_cast<off_t>(position_));
            if (got <= 0) return;
            position_ += static_cast<uint64_t>(got);
            for (ssize_t done = 0; done < got;) {
                const ssize_t one = ::write(STDOUT_FILENO, buffer + done, static_cast<size_t>(got - done));
                if (one < 0 && errno != EINTR) break;  // nobody listens: the file has it all
                done += std::max<ssize_t>(one, 0);
            }
        }
    }
    static void drain(int fd) {
        char buffer[4096];
        while (::read(fd, buffer, sizeof buffer) > 0) {
        }
    }

    int follow() {
        bool told_to_stop = false;
        auto attempt = std::chrono::steady_clock::now();  // the next, once it is told to stop
        for (;;) {
            pollfd waiting[] = {{signals_.get(), POLLIN, 0}, {timer_.get(), POLLIN, 0}, {changes_.get(), POLLIN, 0}};
            ::poll(waiting, 3, told_to_stop ? 500 : -1);
            if (waiting[2].revents) drain(changes_.get());
            show_output();
            signalfd_siginfo signal;
            while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal)
                if (signal.ssi_signo != SIGCHLD) {
                    told_to_stop = true;
                    attempt = std::chrono::steady_clock::now();
                }
            if (int status = 0; ended(&status)) return finish(status);
            if (told_to_stop && std::chrono::steady_clock::now() >= attempt) {
                if (save(false)) return saved_and_stopped;
                attempt = std::chrono::steady_clock::now() + between_attempts;
            }
            if (waiting[1].revents) {
                drain(timer_.get());
                if (!told_to_stop) save(true);
            }
        }
    }

    bool ended(int* status) {
        for (;;) {
            int one = 0;
            const pid_t child = ::waitpid(-1, &one, WNOHANG);
            if (child <= 0) return false;
            if (child == program_) return *status = exit_status(one), true;
            if (child != server_) continue;  // of the program's, or criu
            server_ = -1;
            signal_program(SIGKILL);  // it would wait for a server for ever
            throw CommandError(server_ended(one) + "; the same command goes on from the newest checkpoint");
        }
    }

    int finish(int status) {
        show_output();
        if (status == 0) {
            std::ofstream(options_.directory + "/finished") << "0\n";
            for (const std::string& kept : checkpoints_.remove_all())
                std::cerr << "cricketctl: '" << kept << "', which was damaged, is still there\n";
        }
        return status;
    }

    // Whether there is something to be saved.
    bool has_session() {
        ControlClient control = ControlClient::connect(control_);
        return std::ranges::any_of(sessions_below(control, program_), [](const server::SessionStatus& session) {
            return session.state != server::SessionState::Starting;
        });
    }

    // And what it started: start() gave it a process group, which criu brings back.
    void signal_program(int number) const {
        if (::kill(-program_, number) != 0) ::kill(program_, number);
    }

    // All that criu has ended, parents first: each orphan becomes our child, and as long as nobody has waited for it, its
    // process group has the number that the program needs to come back.
    void wait_tree(const std::vector<pid_t>& tree) {
        for (const pid_t pid : tree) wait_for_end(pid);
        show_output();
    }

    // False when it could not be, and the program goes on.
    bool save(bool leave_running) {
        try {
            if (!has_session()) {
                if (leave_running) return true;
                std::cerr << "cricketctl: nothing of the program uses CUDA now: it ends without another checkpoint\n";
                signal_program(SIGTERM);
                wait_tree({program_});
                return true;
            }
            CheckpointOptions checkpoint_options;
            checkpoint_options.target = std::to_string(program_);
            checkpoint_options.directory = checkpoints_.next_path();
            checkpoint_options.leave_running = leave_running;
            checkpoint_options.criu_arguments = options_.criu_arguments;
            checkpoint_options.store = checkpoints_.next_store(options_.keep);
            const std::vector<pid_t> tree = server::process_tree(program_);
            checkpoint(control_, checkpoint_options);
            if (!leave_running) wait_tree(tree);
        } catch (const std::exception& error) {
            if (error.what() != last_error_ || leave_running)
                std::cerr << "cricketctl: no checkpoint: " << error.what() << (leave_running ? "" : "; it is tried again") << "\n";
            last_error_ = error.what();
            return false;
        }
        try {
            prune_series({checkpoints_path_, options_.keep, false});
        } catch (const std::exception& error) {
            std::cerr << "cricketctl: older checkpoints stay: " << error.what() << "\n";
        }
        return true;
    }

    const RunOptions& options_;
    const std::string checkpoints_path_;
    NumberedCheckpoints checkpoints_;
    const std::string output_path_, socket_, control_;
    UniqueFd lock_, signals_, timer_, changes_, output_;
    uint64_t position_ = 0;  // in the output, of what was shown
    pid_t server_ = -1, program_ = -1;
    std::string last_error_;  // of a checkpoint
};

}  // namespace

std::string shim_path() {
    const std::string path = beside({"../client/libcudashim.so", CRICKET_BINDIR_TO_LIBDIR "/cricket/libcudashim.so"}, "libcudashim.so");
    if (path.find_first_of(" :") != std::string::npos)
        throw CommandError("'" + path + "' cannot be preloaded: in LD_PRELOAD a path has no space and no colon");
    return path;
}

int run(const RunOptions& options) {
    std::cout.rdbuf(std::cerr.rdbuf());  // stdout is the program's
    return Run(options).run();
}

}  // namespace cricket::ctl
