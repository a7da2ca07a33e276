// SPDX-License-Identifier: MIT
// What a session needs of its devices, in its snapshot's manifest; and whether those that are here can give it, before a
// restore makes anything.
#pragma once

#include <nlohmann/json.hpp>

#include "session.h"
#include "snapshot_store.h"

namespace cricket::server {

// Per device that the session uses: device (ordinal), name, uuid, compute (10 * major + minor), total, bytes (needed).
// Changes which context is current.
nlohmann::json describe_devices(Session& session);

// Throws std::runtime_error with everything that is in the way, by name: fewer devices, one that has too little memory, code
// that cannot run on one. Logs what is different and no hindrance. Only cuInit has been called.
void require_devices(const DriverTable& driver, const SnapshotReader& reader);
// The same for memory that is free at this moment, once the contexts are there and nothing else is.
void require_free_memory(Session& session, const nlohmann::json& meta);

}  // namespace cricket::server
