// SPDX-License-Identifier: MIT
// cricket-server is three programs in one executable: the supervisor, which a user starts; the worker, which
// the supervisor starts for each session; and a probe that tries a driver in a process that is then thrown
// away.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>

#include "command_line.h"
#include "driver_choice.h"
#include "log.h"
#include "nvml/library.h"
#include "nvml/nvml_worker.h"
#include "paths.h"
#include "settings.h"
#include "supervisor.h"
#include "worker_process.h"

namespace {

using namespace cricket::server;

void make_state_dir(const std::string& path) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        throw PathError("cannot create '" + path + "': " + std::strerror(errno));
    if (!std::filesystem::is_directory(path)) throw PathError("--state-dir '" + path + "' is no folder");
    if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0)
        throw PathError("cannot write to '" + path + "': " + std::strerror(errno));
}

int supervise(SupervisorOptions options, const std::string& driver, const std::string& nvml) {
    // Where the user's environment preloads the shim everywhere, it is in this process as well: harmless
    // here, but what is started from here must be without it.
    ::unsetenv("LD_PRELOAD");
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);  // a file that may grow no more is an error of its writer
    try {
        settings::check_all();
        if (options.socket_path.empty()) options.socket_path = default_socket_path();
        if (!options.state_dir.empty()) {
            make_state_dir(options.state_dir);
            options.state_dir = std::filesystem::absolute(options.state_dir).lexically_normal();
        }
        const DriverChoice choice = choose_driver(driver);
        options.driver_path = choice.path;
        options.nvml_library = choose_nvml(nvml, driver, choice.path);
        sigset_t set;
        sigemptyset(&set);
        for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&set, signal);
        ::pthread_sigmask(SIG_BLOCK, &set, nullptr);  // before the first thread
        // Sessions leave descriptors of shared memory with it (exchange.h), each of them an open file.
        rlimit files{};
        if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
            files.rlim_cur = files.rlim_max;
            ::setrlimit(RLIMIT_NOFILE, &files);
        }
        Supervisor supervisor(options);
        log_info("cricket %s at %s, driver %s (%s)", CRICKET_VERSION, options.socket_path.c_str(),
                 choice.path.c_str(), choice.description.c_str());
        return supervisor.run();
    } catch (const std::exception& error) {
        log_error("%s", error.what());
        return 1;
    }
}

}  // namespace

int main(int argc, char** argv) {
    usual_stacks();
    CLI::App app{"cricket-server: owns the GPU for programs that run with libcudashim.so preloaded",
                 "cricket-server"};
    app.set_version_flag("--version", "cricket " CRICKET_VERSION);
    app.failure_message(failure_line);
    app.footer(
        "Example: cricket-server --driver soft --socket /tmp/me.sock --state-dir /var/lib/cricket\n\n"
        "Environment: CRICKET_LOG=error|warn|info|debug (default: info), CRICKET_FETCH_THREADS (threads that read a program's\n"
        "pageable memory; default: 3 from 8 cores on, else 0), CRICKET_ASIDE_DEVICE, CRICKET_ASIDE_HOST (bytes that a snapshot's\n"
        "copy may take on the device, in the host's memory; default: what is free, half of what is free), CRICKET_WORKER_PATIENCE\n"
        "(seconds after which a worker that says nothing counts as unresponsive; default: 10).\n"
        "SIGTERM and SIGINT end it in order. Exit status: 0 ended so; 1 it could not start, and why; 100 and more: this command\n"
        "line is wrong.");
    SupervisorOptions options;
    std::string driver = "real";
    unsigned park_timeout = 3600;
    app.add_option("--socket", options.socket_path,
                   "datagram socket to bind (default: $XDG_RUNTIME_DIR/cricket/server.sock, for root "
                   "/run/cricket/server.sock); the control plane listens at the same path plus .control, "
                   "clients over "
                   "plain RPC connect to it plus .rpc")
        ->type_name("PATH")
        ->envname("CRICKET_SOCKET");
    app.add_option("--driver", driver,
                   "real (the NVIDIA driver), soft (the software GPU), or the path of a libcuda.so.1")
        ->capture_default_str();
    add_number(&app, "--park-timeout", park_timeout, "SECONDS", "to keep the session of a program that vanished; 0: for ever", 0u,
               1000000000u);
    app.add_option("--state-dir", options.state_dir,
                   "on SIGTERM sessions are saved here, and loaded from here by the next start")
        ->type_name("DIR")
        ->check(not_empty);
    app.add_option("--listen-rpc", options.listen_rpc,
                   "unix:PATH or tcp:HOST:PORT: serve clients over plain RPC there too; may be repeated")
        ->type_name("ADDRESS")
        ->allow_extra_args(false);
    std::string nvml;
    app.add_option("--nvml", nvml,
                   "the libnvidia-ml.so.1 that answers NVML (default: the one that goes with the driver)")
        ->type_name("PATH")
        ->check(not_empty);
    // Internal: see worker_process.cpp and driver_choice.cpp.
    WorkerConfig worker;
    int link = -1;
    std::string probe;
    CLI::Option* is_worker = app.add_option("--worker", worker.session_id)->group("");
    app.add_option("--link", link)->group("")->needs(is_worker);
    app.add_option("--restore", worker.restore_dir)->group("")->needs(is_worker);
    app.add_option("--devices", worker.devices)->group("")->needs(is_worker);
    app.add_flag("--without-gpu", worker.without_gpu)->group("")->needs(is_worker);
    app.add_flag("--place", worker.place)->group("")->needs(is_worker);
    CLI::Option* is_probe = app.add_option("--probe-driver", probe)->group("");
    NvmlWorkerConfig nvml_worker;
    CLI::Option* is_nvml = app.add_option("--nvml-worker", nvml_worker.socket)->group("");
    app.add_option("--nvml-control", nvml_worker.control_path)->group("")->needs(is_nvml);
    CLI11_PARSE(app, argc, argv);

    if (*is_probe) return probe_driver(probe);
    if (*is_worker) {
        worker.driver_path = driver;
        return run_worker(worker, link);
    }
    if (*is_nvml) {
        log_setup("nvml");
        nvml_worker.library = nvml;
        return nvml_worker_main(nvml_worker);
    }
    log_setup("cricket-server");
    options.park_timeout = std::chrono::seconds(park_timeout);
    return supervise(std::move(options), driver, nvml);
}
