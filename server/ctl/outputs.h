// SPDX-License-Identifier: MIT
// Files that a program writes to. criu brings a program back only while they are as long as they were when it was dumped; one
// that was left running, or came back once already, has written more since.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cricket::ctl {

struct OutputFile {
    std::string path;
    uint64_t bytes = 0;
};

// Of the process and all that descend from it, which stand still: regular files with a name that are open for writing.
std::vector<OutputFile> outputs_of(pid_t root);
// Whether one is longer than it was. Throws CommandError naming one that is shorter, or gone, and cannot be made as it was.
bool outputs_are_longer(const std::vector<OutputFile>& outputs);
// Makes them as long as they were, after outputs_are_longer().
void cut_outputs(const std::vector<OutputFile>& outputs);

}  // namespace cricket::ctl
