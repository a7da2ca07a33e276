// SPDX-License-Identifier: MIT
#include "driver_choice.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "cricket/unique_fd.h"

namespace cricket::server {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto probe_patience = 120s;  // a GPU that sleeps takes seconds to initialize

std::string real_path(const std::string& path) {
    std::error_code error;
    const fs::path result = fs::canonical(path, error);
    return error ? path : result.string();
}

// Where the software GPU lies: in the build folder, or where meson install put it, seen from the executable.
std::vector<std::string> soft_driver_places() {
    const fs::path here = fs::path(real_path("/proc/self/exe")).parent_path();
    return {(here / "../tests/softgpu/driver/libcuda.so.1").lexically_normal(),
            (here / CRICKET_BINDIR_TO_LIBDIR / "cricket/softgpu/libcuda.so.1").lexically_normal()};
}

std::string soft_driver() {
    for (const std::string& place : soft_driver_places())
        if (::access(place.c_str(), R_OK) == 0) return real_path(place);
    throw DriverError("the software GPU was not found at " + soft_driver_places()[0] + " nor at " +
                      soft_driver_places()[1]);
}

int answer(bool good, const std::string& text) {
    std::printf("%s\n%s\n", good ? "good" : "bad", text.c_str());
    return good ? 0 : 1;
}

template <typename Function>
Function* symbol(void* library, const char* name) {
    return reinterpret_cast<Function*>(::dlsym(library, name));
}

std::string read_answer(int fd, bool* in_time) {
    std::string text;
    const auto end = std::chrono::steady_clock::now() + probe_patience;
    *in_time = true;
    for (;;) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
        pollfd item{fd, POLLIN, 0};
        if (left.count() <= 0 || ::poll(&item, 1, static_cast<int>(left.count())) == 0)
            return *in_time = false, text;
        char buffer[1024];
        const ssize_t got = ::read(fd, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return text;
        text.append(buffer, static_cast<size_t>(got));
    }
}

}  // namespace

int probe_driver(const std::string& name) {
    const bool real = name == "real";
    void* library = ::dlopen(real ? "libcuda.so.1" : name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return answer(false, real ? std::string("this machine has no NVIDIA driver: ") + ::dlerror() +
                                        " (the software GPU: --driver soft)"
                                  : std::string("the driver cannot be loaded: ") + ::dlerror());
    link_map* map = nullptr;
    std::string path = name;
    if (::dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map && map->l_name[0]) path = real_path(map->l_name);
    if (::dlsym(library, "cricket_shim_version") ||
        fs::path(path).filename().string().starts_with("libcudashim"))
        return answer(false, "'" + path + "' is cricket's own shim for applications, not a driver");
    if (real) {
        for (const std::string& soft : soft_driver_places())
            if (real_path(soft) == path)
                return answer(false, "libcuda.so.1 is the software GPU ('" + path +
                                         "'), which is used only when asked for: --driver soft");
    }
    const auto init = symbol<int(unsigned)>(library, "cuInit");
    const auto version = symbol<int(int*)>(library, "cuDriverGetVersion");
    const auto count = symbol<int(int*)>(library, "cuDeviceGetCount");
    const auto name_of = symbol<int(char*, int, int)>(library, "cuDeviceGetName");
    const auto error_name = symbol<int(int, const char**)>(library, "cuGetErrorName");
    if (!init || !version || !count || !name_of || !error_name)
        return answer(false, "'" + path + "' is no CUDA driver: it lacks cuInit or another of its functions");
    if (const int result = init(0); result != 0) {
        const char* text = nullptr;
        error_name(result, &text);
        return answer(false, "cuInit of '" + path + "' failed: " + (text ? text : std::to_string(result)));
    }
    int number = 0, devices = 0;
    char device[256] = "?";
    version(&number);
    count(&devices);
    if (devices > 0) name_of(device, sizeof device, 0);
    std::printf("good\n%s\nCUDA %d.%d, %d device%s, the first: %s\n", path.c_str(), number / 1000,
                number % 1000 / 10, devices, devices == 1 ? "" : "s", device);
    return 0;
}

DriverChoice choose_driver(const std::string& wanted) {
    std::string name = wanted;
    if (wanted == "soft") {
        name = soft_driver();
    } else if (wanted != "real") {
        if (wanted.find('/') == std::string::npos)
            throw DriverError("--driver " + wanted +
                              ": neither real, nor soft, nor a path of a libcuda.so.1");
        name = fs::absolute(wanted).lexically_normal();
        if (::access(name.c_str(), R_OK) != 0)
            throw DriverError("the driver '" + name + "' cannot be read: " + std::strerror(errno));
        if (!fs::is_regular_file(name)) throw DriverError("the driver '" + name + "' is no file");
    }
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        throw DriverError(std::string("cannot make a pipe: ") + std::strerror(errno));
    UniqueFd from(ends[0]), to(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) throw DriverError(std::string("cannot fork: ") + std::strerror(errno));
    if (child == 0) {
        ::dup2(to.get(), STDOUT_FILENO);
        ::execl("/proc/self/exe", "cricket-server", "--probe-driver", name.c_str(),
                static_cast<char*>(nullptr));
        ::_exit(127);
    }
    to.reset();
    bool in_time = true;
    const std::string text = read_answer(from.get(), &in_time);
    if (!in_time) ::kill(child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!in_time) throw DriverError("the driver '" + name + "' did not initialize in time");
    if (WIFSIGNALED(status))
        throw DriverError("the driver '" + name +
                          "' crashed while it was tried: " + ::strsignal(WTERMSIG(status)));

    // "good\nPATH\nDESCRIPTION\n" or "bad\nREASON\n", last in what the driver itself may have printed.
    const size_t good = text.rfind("good\n"), bad = text.rfind("bad\n");
    if (WEXITSTATUS(status) == 0 && good != std::string::npos) {
        const size_t path = good + 5, end = text.find('\n', path);
        return {text.substr(path, end - path), text.substr(end + 1, text.find('\n', end + 1) - end - 1)};
    }
    if (bad != std::string::npos) throw DriverError(text.substr(bad + 4, text.find('\n', bad + 4) - bad - 4));
    throw DriverError("the driver '" + name + "' could not be tried (exit status " +
                      std::to_string(WEXITSTATUS(status)) + ")");
}

}  // namespace cricket::server
