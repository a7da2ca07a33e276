// SPDX-License-Identifier: MIT
// CUDA arrays in a snapshot: their contents, level by level and plane by plane, and texture and surface objects, which
// come back with the values that kernels and the application hold.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "checkpoint_capture.h"
#include "executor.h"
#include "session.h"
#include "snapshot_store.h"

namespace cricket::server {

// What of the session's arrays cannot be saved; empty: nothing.
std::string arrays_refusal(Session& session);

// Bytes of the arrays by context; an array that cannot be read is named in `unreadable`.
std::map<uint64_t, uint64_t> array_bytes(Session& session, std::vector<std::string>* unreadable);

// The part `arrays` and what is where in it: copied aside in the host's memory, written at once where that is short. Throws
// std::runtime_error with what stands in the way.
nlohmann::json save_arrays(Session& session, SnapshotWriter& writer, Capture& capture);
// Reads the arrays of `list` piece by piece: `visit` gets each with its place in the part; `gone` is told of what is not as it was.
void read_arrays(Session& session, const nlohmann::json& list,
                 const std::function<void(const std::string& what, uint64_t at, std::span<const std::byte> now)>& visit,
                 const std::function<void(const std::string& what)>& gone);
void load_arrays(Session& session, SnapshotReader& reader, const nlohmann::json& list);

// Texture and surface objects are made when all they may read is there, and by value.
bool made_by_value(const JournalEntry& entry);
void load_values(Session& session, Executor& executor, std::vector<JournalEntry> entries);

}  // namespace cricket::server
