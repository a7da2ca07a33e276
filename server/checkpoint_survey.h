// SPDX-License-Identifier: MIT
// What a snapshot of a session would be, without taking one: for cricketctl's --dry-run.
#pragma once

#include <nlohmann/json.hpp>

#include "executor.h"
#include "session.h"

namespace cricket::server {

// refused, for_now: reasons by name, that last and that pass; devices: per device its name, model (compute
// capability), memory that is free and total, bytes and allocations of the session, bytes of the session's
// arrays and variables; host_bytes, host_ranges: registered memory; journal_bytes, image_bytes, reply_bytes:
// what else a snapshot holds. Waits for nothing on the device.
nlohmann::json survey_session(Session& session, Executor& executor);

}  // namespace cricket::server
