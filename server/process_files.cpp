// SPDX-License-Identifier: MIT
#include "process_files.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace cricket::server {

std::string read_process_file(pid_t pid, const char* name) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
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

uint64_t process_start_time(pid_t pid) {
    constexpr size_t number = 22;
    const std::vector<std::string> stat = process_stat(pid);
    return stat.size() < number ? 0 : std::strtoull(stat[number - 1].c_str(), nullptr, 10);
}

}  // namespace cricket::server
