// SPDX-License-Identifier: MIT
#include "process_files.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

namespace cricket::server {
namespace {

namespace fs = std::filesystem;

// The names in a folder of /proc; fewer, where what it is of ends meanwhile.
std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator at("/proc/" + folder, error); !error && at != fs::directory_iterator(); at.increment(error))
        names.push_back(at->path().filename());
    return names;
}

using Children = std::multimap<pid_t, pid_t>;  // by parent

Children all_children() {
    constexpr size_t parent = 4;
    Children found;
    for (const std::string& name : names_in({})) {
        const pid_t pid = std::atoi(name.c_str());
        if (pid <= 0) continue;
        if (const std::vector<std::string> stat = process_stat(pid); stat.size() >= parent)
            found.emplace(std::atoi(stat[parent - 1].c_str()), pid);
    }
    return found;
}

}  // namespace

std::string read_process_file(pid_t pid, const char* name) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/" + name, std::ios::binary);
    std::string text;
    char part[4096];
    // By read(), since an iterator throws where the process has ended meanwhile (ESRCH).
    do {
        file.read(part, sizeof part);
        text.append(part, static_cast<size_t>(file.gcount()));
    } while (file);
    return text;
}

std::vector<std::string> process_stat(pid_t pid) {
    const std::string stat = read_process_file(pid, "stat");
    const size_t name = stat.find('('), name_end = stat.rfind(')');  // a name may have any characters in it
    if (name_end == stat.npos || name >= name_end) return {};
    std::vector<std::string> fields{stat.substr(0, name), stat.substr(name, name_end + 1 - name)};
    std::istringstream others(stat.substr(name_end + 1));
    for (std::string field; others >> field;) fields.push_back(field);
    return fields;
}

std::string process_status(pid_t pid, const std::string& field) {
    std::istringstream status(read_process_file(pid, "status"));
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(field + ":")) return line.substr(field.size() + 1);
    return {};
}

pid_t parent_of(pid_t pid) { return std::atoi(process_status(pid, "PPid").c_str()); }

bool descends_from(pid_t pid, pid_t ancestor) {
    for (pid_t at = pid; at != ancestor;) {
        if (const pid_t parent = parent_of(at); parent > 0) {
            at = parent;
            continue;
        }
        if (at == pid || !process_stat(at).empty()) return false;
        at = pid;  // a parent ended meanwhile: it has another now
    }
    return true;
}

std::vector<pid_t> process_tree(pid_t root) {
    const Children children = all_children();
    std::vector<pid_t> all{root};
    for (size_t at = 0; at < all.size(); ++at)
        for (auto [child, end] = children.equal_range(all[at]); child != end; ++child) all.push_back(child->second);
    return all;
}

std::vector<pid_t> standing_tree(pid_t root) {
    std::vector<pid_t> all{root};
    for (size_t at = 0; at < all.size(); ++at) {
        const std::string tasks = std::to_string(all[at]) + "/task";
        for (const std::string& task : names_in(tasks)) {
            std::ifstream children("/proc/" + tasks + "/" + task + "/children");
            for (pid_t child = 0; children >> child;) all.push_back(child);
        }
    }
    return all;
}

uint64_t process_start_time(pid_t pid) {
    constexpr size_t number = 22;
    const std::vector<std::string> stat = process_stat(pid);
    return stat.size() < number ? 0 : std::strtoull(stat[number - 1].c_str(), nullptr, 10);
}

}  // namespace cricket::server
