// SPDX-License-Identifier: MIT
// A folder of snapshots and checkpoints, each in a folder of its own. Those of a series share packs by hard links, so each
// can go without the others losing anything.
#pragma once

#include <cstdint>
#include <string>

namespace cricket::ctl {

// The name of one that was found damaged ends so. It stays until somebody removes it by hand, counts for nothing, and no other
// shares anything with it.
inline constexpr char damaged_suffix[] = ".damaged";
inline bool is_set_aside(const std::string& name) { return name.ends_with(damaged_suffix); }
std::string time_text(int64_t seconds);  // since 1970, as local time

void list_series(const std::string& directory, bool as_json);

struct PruneOptions {
    std::string directory;
    unsigned keep = 1;  // of each session, the newest
    bool dry_run = false;
};
// Removes the older ones, and what makers that died left half-written. What cannot be read is named and stays.
void prune_series(const PruneOptions& options);

}  // namespace cricket::ctl
