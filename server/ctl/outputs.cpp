// SPDX-License-Identifier: MIT
#include "outputs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "command.h"
#include "process_files.h"

namespace cricket::ctl {
namespace {

namespace fs = std::filesystem;

bool open_for_writing(pid_t pid, const std::string& number) {
    std::ifstream info("/proc/" + std::to_string(pid) + "/fdinfo/" + number);
    for (std::string word; info >> word;)
        if (word == "flags:") {
            unsigned flags = 0;
            info >> std::oct >> flags;
            return (flags & O_ACCMODE) != O_RDONLY;
        }
    return false;
}

}  // namespace

std::vector<OutputFile> outputs_of(pid_t root) {
    std::map<std::string, uint64_t> found;
    for (const pid_t pid : server::standing_tree(root)) {
        std::error_code error;
        for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
            struct stat status {}, named{};
            if (::stat(entry.path().c_str(), &status) != 0 || !S_ISREG(status.st_mode) ||
                !open_for_writing(pid, entry.path().filename()))
                continue;
            const fs::path path = fs::read_symlink(entry.path(), error);
            if (!error && path.is_absolute() && ::stat(path.c_str(), &named) == 0 && named.st_ino == status.st_ino &&
                named.st_dev == status.st_dev)
                found[path] = static_cast<uint64_t>(status.st_size);
        }
    }
    std::vector<OutputFile> outputs;
    for (const auto& [path, bytes] : found) outputs.push_back({path, bytes});
    return outputs;
}

bool outputs_are_longer(const std::vector<OutputFile>& outputs) {
    bool longer = false;
    for (const OutputFile& one : outputs) {
        struct stat status {};
        if (::stat(one.path.c_str(), &status) != 0)
            throw CommandError("'" + one.path + "', which the program was writing to, cannot be found: " + std::strerror(errno));
        if (static_cast<uint64_t>(status.st_size) < one.bytes)
            throw CommandError("'" + one.path + "', which the program was writing to, is shorter than it was: " +
                               std::to_string(status.st_size) + " bytes instead of " + std::to_string(one.bytes));
        longer |= static_cast<uint64_t>(status.st_size) > one.bytes;
    }
    return longer;
}

void cut_outputs(const std::vector<OutputFile>& outputs) {
    for (const OutputFile& one : outputs)
        if (::truncate(one.path.c_str(), static_cast<off_t>(one.bytes)) != 0)
            throw CommandError("cannot cut '" + one.path + "' to " + std::to_string(one.bytes) +
                               " bytes: " + std::strerror(errno));
}

}  // namespace cricket::ctl
