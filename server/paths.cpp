// SPDX-License-Identifier: MIT
#include "paths.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace cricket::server {
namespace {

[[noreturn]] void fail(const std::string& what, const std::string& path) {
    throw PathError(what + " '" + path + "': " + std::strerror(errno));
}

}  // namespace

std::string default_socket_path() {
    if (::geteuid() == 0) return "/run/cricket/server.sock";
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    if (!runtime || !*runtime)
        throw PathError(
            "XDG_RUNTIME_DIR is not set, so there is no default socket: use --socket or CRICKET_SOCKET");
    return std::string(runtime) + "/cricket/server.sock";
}

std::string control_path(const std::string& socket_path) {
    return socket_path + ".control";
}

BoundSocket::BoundSocket(const std::string& path, int type) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        throw PathError("'" + path + "' is no path for a socket: it must have 1 to " +
                        std::to_string(sizeof address.sun_path - 1) + " characters");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    std::string folder = std::filesystem::path(path).parent_path();
    if (folder.empty()) folder = ".";
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
        fail("cannot create the socket's folder", folder);

    // Two servers that start at once take turns, else both could find the same stale socket.
    UniqueFd turn(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!turn || ::flock(turn.get(), LOCK_EX) != 0) fail("cannot open the socket's folder", folder);

    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0) {
        if (!S_ISSOCK(status.st_mode)) throw PathError("'" + path + "' exists and is no socket");
        UniqueFd probe(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
        if (::connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
            throw PathError("another server already answers at '" + path + "'");
        if (errno != ECONNREFUSED) fail("cannot tell whether a server is at", path);
        if (::unlink(path.c_str()) != 0) fail("cannot remove the stale socket", path);
    }
    UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) fail("cannot make a socket for", path);
    const mode_t mask = ::umask(0177);
    const int bound = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    ::umask(mask);
    if (bound != 0) fail("cannot bind the socket", path);
    if (::lstat(path.c_str(), &status) != 0) fail("cannot stat", path);
    if (type == SOCK_STREAM && ::listen(fd.get(), 64) != 0) fail("cannot listen at", path);
    fd_ = std::move(fd);
    path_ = std::filesystem::absolute(path);
    device_ = status.st_dev;
    inode_ = status.st_ino;
}

void BoundSocket::unlink() {
    if (!fd_) return;
    struct stat status {};
    if (::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_)
        ::unlink(path_.c_str());
    fd_.reset();
}

}  // namespace cricket::server
