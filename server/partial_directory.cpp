// SPDX-License-Identifier: MIT
#include "partial_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace cricket::server {
namespace {

namespace fs = std::filesystem;

constexpr char infix[] = ".partial-";

[[noreturn]] void fail(const std::string& what, const std::string& path) {
    throw DirectoryError(what + " '" + path + "': " + std::strerror(errno));
}

std::string random_suffix() {
    uint32_t number = 0;
    if (::getrandom(&number, sizeof number, 0) != sizeof number) number = static_cast<uint32_t>(::getpid());
    char text[9];
    std::snprintf(text, sizeof text, "%08x", number);
    return text;
}

// Locks the folder for its maker. Empty when somebody else holds it or removed it meanwhile.
UniqueFd lock_directory(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return {};
    struct stat held {
    }, named{};
    if (::fstat(fd.get(), &held) != 0 || ::lstat(path.c_str(), &named) != 0 || held.st_ino != named.st_ino ||
        held.st_dev != named.st_dev)
        return {};
    return fd;
}

// Whether the descriptor that fdinfo is of is one that a flock is held through.
bool is_locked(const fs::path& fdinfo) {
    std::ifstream lines(fdinfo);
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with("lock:") && line.find("FLOCK") != std::string::npos) return true;
    return false;
}

// Whoever holds the folder gets an error from its next write to a file, as on a full disk, and can end in order. (Killed,
// criu would leave the tasks that it holds as they are in that moment.)
void forbid_writing(const std::string& path) {
    struct stat folder {};
    if (::stat(path.c_str(), &folder) != 0) return;
    std::error_code error;
    for (const auto& process : fs::directory_iterator("/proc", error)) {
        const pid_t pid = std::atoi(process.path().filename().c_str());
        if (pid <= 0 || pid == ::getpid()) continue;
        std::error_code gone;
        for (const auto& fd : fs::directory_iterator(process.path() / "fd", gone)) {
            struct stat status {};
            if (::stat(fd.path().c_str(), &status) != 0 || status.st_ino != folder.st_ino || status.st_dev != folder.st_dev ||
                !is_locked(process.path() / "fdinfo" / fd.path().filename()))
                continue;
            rlimit limit{};
            if (::prlimit(pid, RLIMIT_FSIZE, nullptr, &limit) == 0) {
                limit.rlim_cur = 0;
                ::prlimit(pid, RLIMIT_FSIZE, &limit, nullptr);
            }
            break;
        }
    }
}

}  // namespace

void remove_tree(const std::string& path) noexcept {
    std::error_code ignored;
    fs::remove_all(path, ignored);
}

void sync_directory(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) fail("cannot sync", path);
}

void PartialDirectory::place(const std::string& target, const std::string& mark) {
    mark_ = mark;
    fs::path wanted = fs::absolute(target).lexically_normal();
    if (!wanted.has_filename()) wanted = wanted.parent_path();
    if (!wanted.has_filename()) throw DirectoryError("'" + target + "' cannot be a folder to write to");
    target_ = wanted;
    parent_ = wanted.parent_path();
    check_target();
}

void PartialDirectory::check(const std::string& target, const std::string& mark) {
    PartialDirectory place;
    place.place(target, mark);
    if (::access(place.parent_.c_str(), W_OK | X_OK) != 0) fail("cannot write to", place.parent_);
}

bool PartialDirectory::is_partial(const std::string& name) {
    const size_t at = name.rfind(infix);
    if (at == std::string::npos || at == 0) return false;
    const std::string suffix = name.substr(at + std::strlen(infix));
    return suffix.size() == 8 && suffix.find_first_not_of("0123456789abcdef") == std::string::npos;
}

void discard_directory(const std::string& path) {
    const std::string aside = path + infix + random_suffix();
    if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, aside.c_str(), RENAME_NOREPLACE) != 0) fail("cannot move away", path);
    sync_directory(fs::path(path).parent_path());
    std::error_code error;
    fs::remove_all(aside, error);
    if (error) throw DirectoryError("cannot remove '" + aside + "': " + error.message());
}

// Of names that are so long and begin so; 0: of any length.
static unsigned remove_unlocked(const fs::path& parent, const std::string& beginning, size_t length) {
    unsigned removed = 0;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(parent, error)) {
        const std::string name = entry.path().filename();
        if (!PartialDirectory::is_partial(name) || !name.starts_with(beginning) || (length && name.size() != length) ||
            !lock_directory(entry.path()))
            continue;
        remove_tree(entry.path());
        ++removed;
    }
    return removed;
}

unsigned remove_abandoned(const std::string& parent) { return remove_unlocked(parent, {}, 0); }

void remove_half_made(const std::string& target) noexcept {
    const fs::path wanted(target);
    const std::string beginning = wanted.filename().string() + infix;
    remove_unlocked(wanted.parent_path(), beginning, beginning.size() + 8);
}

bool end_half_made(const std::string& partial) noexcept {
    if (lock_directory(partial))
        remove_tree(partial);
    else
        forbid_writing(partial);
    return ::access(partial.c_str(), F_OK) != 0;
}

PartialDirectory::PartialDirectory(const std::string& target, const std::string& mark) {
    place(target, mark);
    remove_half_made(target_);
    for (int attempt = 0; attempt < 16; ++attempt) {
        path_ = target_ + infix + random_suffix();
        if (::mkdir(path_.c_str(), 0700) != 0) {
            if (errno == EEXIST) continue;
            const int error = errno;
            const std::string path = std::exchange(path_, {});
            errno = error;
            fail("cannot create", path);
        }
        fd_ = lock_directory(path_);
        if (fd_) return;
    }
    path_.clear();
    throw DirectoryError("cannot create a folder beside '" + target_ + "'");
}

PartialDirectory::~PartialDirectory() {
    if (!path_.empty()) remove_tree(path_);
}

void PartialDirectory::check_target() const {
    struct stat status {};
    if (::lstat(target_.c_str(), &status) != 0) {
        if (errno == ENOENT && ::stat(parent_.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return;
        fail("cannot write to", target_);
    }
    if (!S_ISDIR(status.st_mode)) throw DirectoryError("'" + target_ + "' exists and is no folder");
    std::error_code error;
    const bool empty = fs::is_empty(target_, error);
    if (error) throw DirectoryError("cannot read '" + target_ + "': " + error.message());
    if (!empty && !fs::exists(fs::path(target_) / mark_, error))
        throw DirectoryError("'" + target_ + "' is not empty and has no " + mark_ +
                             ", so it is not replaced");
}

void PartialDirectory::publish() {
    if (::fsync(fd_.get()) != 0) fail("cannot sync", path_);
    check_target();
    if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE) == 0) {
        path_.clear();
    } else if (errno != EEXIST && errno != EINVAL) {
        fail("cannot rename '" + path_ + "' to", target_);
    } else if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) {
        remove_tree(path_);  // now the older one
        path_.clear();
    } else {
        // A file system that cannot exchange: for a moment there is nothing under the name, but never a half.
        const std::string older = path_ + ".old";
        if (::rename(target_.c_str(), older.c_str()) != 0 && errno != ENOENT)
            fail("cannot move away the older", target_);
        if (::rename(path_.c_str(), target_.c_str()) != 0) {
            const int error = errno;
            ::rename(older.c_str(), target_.c_str());
            errno = error;
            fail("cannot rename '" + path_ + "' to", target_);
        }
        path_.clear();
        remove_tree(older);
    }
    fd_.reset();
    sync_directory(parent_);
}

}  // namespace cricket::server
