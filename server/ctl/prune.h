// SPDX-License-Identifier: MIT
// A folder of snapshots and checkpoints, each in a folder of its own. Those of a series share packs by hard links, so each
// can go without the others losing anything.
#pragma once

#include <string>

namespace cricket::ctl {

void list_series(const std::string& directory, bool as_json);

struct PruneOptions {
    std::string directory;
    unsigned keep = 1;  // of each session, the newest
    bool dry_run = false;
};
// Removes the older ones, and what makers that died left half-written. What cannot be read is named and stays.
void prune_series(const PruneOptions& options);

}  // namespace cricket::ctl
