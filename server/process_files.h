// SPDX-License-Identifier: MIT
// What /proc tells of a process; nothing when it is gone or its files may not be read.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cricket::server {

std::string read_process_file(pid_t pid, const char* name);
// The fields of /proc/PID/stat: that which proc(5) counts as number N is [N - 1].
std::vector<std::string> process_stat(pid_t pid);
std::string process_status(pid_t pid, const std::string& field);  // of /proc/PID/status, what follows "FIELD:"
pid_t parent_of(pid_t pid);
bool descends_from(pid_t pid, pid_t ancestor);  // or is it
std::vector<pid_t> process_tree(pid_t root);    // it, and all that descend from it, parents first
// The same of what stands still, without looking at all processes of the machine: /proc/PID/task/*/children misses some where
// threads or other children end meanwhile.
std::vector<pid_t> standing_tree(pid_t root);
// When it began, in clock ticks since boot: with the number what tells it from every other; 0: it is gone.
uint64_t process_start_time(pid_t pid);

}  // namespace cricket::server
