// SPDX-License-Identifier: MIT
// A checkpoint: cricket.json, app/ (criu's images) and gpu/ (the server's snapshot; gpu-2/ and so on where several
// processes of the program have a session), all with one epoch id. What cricket.json lists is what must be there, with
// checksums, for criu's images have none. Format 1, with one session, is read too.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "outputs.h"

namespace cricket::ctl {

inline constexpr char checkpoint_file[] = "cricket.json";

struct SavedSession {
    std::string token, program;
    int32_t pid = 0;
    std::string folder;  // in the checkpoint's
};

struct CheckpointInfo {
    std::string epoch_id;  // 16 hex digits, of this checkpoint and no other
    std::vector<SavedSession> sessions;
    int32_t pid = 0;  // of the root of what criu dumped
    std::string criu_version;
    bool without_gpu = false;  // as the GPU's half says
    std::vector<OutputFile> outputs{};
    int64_t created = 0;  // seconds since 1970
    // How long it took, in seconds, for what the next will be expected to take.
    uint64_t device_bytes = 0;
    double secured = 0, complete = 0, criu = 0;
};

std::string gpu_folder(size_t number);  // of the first session (0): "gpu"
std::string programs_of(const CheckpointInfo& info);  // "train", "sampler and train"
// The list of a checkpoint as it is on the disk. Throws SealError.
nlohmann::json read_checkpoint_list(const std::string& directory);
// The sessions in it. Throws nlohmann::json::exception.
std::vector<SavedSession> sessions_in(const nlohmann::json& list);

std::string new_epoch_id();
// Puts the epoch id into app/.
void mark_app(const std::string& directory, const std::string& epoch_id);
// Lists both halves, which are complete, and syncs the app's. Throws CommandError.
void seal_checkpoint(const std::string& directory, const CheckpointInfo& info);
// Checks that both halves are there, belong together, and that the app's is intact. Throws CommandError that
// names the file. The GPU's data is checked by whoever reads it.
CheckpointInfo check_checkpoint(const std::string& directory);

}  // namespace cricket::ctl
