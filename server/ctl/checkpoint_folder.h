// SPDX-License-Identifier: MIT
// A checkpoint: cricket.json, app/ (criu's images) and gpu/ (the server's snapshot), all three with one epoch
// id. What cricket.json lists is what must be there, with checksums, for criu's images have none.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "outputs.h"

namespace cricket::ctl {

inline constexpr char checkpoint_file[] = "cricket.json";

struct CheckpointInfo {
    std::string epoch_id;  // 16 hex digits, of this checkpoint and no other
    std::string session;   // token
    std::string program;
    int32_t pid = 0;
    std::string criu_version;
    bool without_gpu = false;  // as the GPU's half says
    std::vector<OutputFile> outputs{};
    int64_t created = 0;  // seconds since 1970
    // How long it took, in seconds, for what the next will be expected to take.
    uint64_t device_bytes = 0;
    double secured = 0, complete = 0, criu = 0;
};

std::string new_epoch_id();
// Puts the epoch id into app/.
void mark_app(const std::string& directory, const std::string& epoch_id);
// Lists both halves, which are complete, and syncs the app's. Throws CommandError.
void seal_checkpoint(const std::string& directory, const CheckpointInfo& info);
// Checks that both halves are there, belong together, and that the app's is intact. Throws CommandError that
// names the file. The GPU's data is checked by whoever reads it.
CheckpointInfo check_checkpoint(const std::string& directory);

}  // namespace cricket::ctl
