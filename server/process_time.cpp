// SPDX-License-Identifier: MIT
#include "process_time.h"

#include <fstream>
#include <sstream>
#include <string>

namespace cricket::server {

uint64_t process_start_time(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string stat;
    std::getline(file, stat);
    const size_t name_end = stat.rfind(')');
    if (name_end == stat.npos) return 0;
    std::istringstream fields(stat.substr(name_end + 1));
    std::string field;
    for (int number = 3; fields >> field; ++number)
        if (number == 22) return std::strtoull(field.c_str(), nullptr, 10);
    return 0;
}

}  // namespace cricket::server
