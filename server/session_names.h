// SPDX-License-Identifier: MIT
// How sessions are written for people and in snapshots.
#pragma once

#include <cstdint>
#include <string>

#include "cricket/wire.h"
#include "worker_ops.h"

namespace cricket::server {

std::string session_name(uint64_t id);             // "s7"
std::string token_text(const wire::Token& token);  // 32 hex digits
bool parse_token(const std::string& text, wire::Token* token);
const char* state_name(SessionState state);  // "running"

}  // namespace cricket::server
