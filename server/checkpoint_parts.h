// SPDX-License-Identifier: MIT
// What the files of a checkpoint (checkpoint_refuse, _save, _load, _arrays) have in common.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "driver_table.h"
#include "session.h"

namespace cricket::server {

[[noreturn]] inline void fail_checkpoint(const std::string& what) { throw std::runtime_error(what); }
std::string result_name(const DriverTable& driver, CUresult result);
std::string at_address(const std::string& what, uint64_t address);  // "what at 0x..."

// Why the session cannot be saved, each reason by name.
struct Refusals {
    std::vector<std::string> passing;  // of this moment: the program has only to go on
    std::vector<std::string> lasting;
    nlohmann::json graphs;  // described, to find out
};
// Changes nothing. `may_wait`: for the device, whose errors are then all known.
Refusals find_refusals(Session& session, bool may_wait);

// Throws what only has to pass before a session can be saved without its GPU.
void refuse_passing(Session& session);
// Throws what of the session cannot be made again yet, by name. Changes nothing, and waits for the device.
// The graphs, described: while the session stands that is what a snapshot is to hold.
nlohmann::json refuse_unrestorable(Session& session);

}  // namespace cricket::server
