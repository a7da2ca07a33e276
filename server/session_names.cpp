// SPDX-License-Identifier: MIT
#include "session_names.h"

#include <charconv>

namespace cricket::server {

std::string session_name(uint64_t id) {
    return "s" + std::to_string(id);
}

std::string token_text(const wire::Token& token) {
    constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (const uint8_t byte : token.bytes) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

bool parse_token(const std::string& text, wire::Token* token) {
    if (text.size() != 2 * sizeof token->bytes) return false;
    for (size_t i = 0; i < sizeof token->bytes; ++i) {
        const char* at = text.data() + 2 * i;
        const auto [end, error] = std::from_chars(at, at + 2, token->bytes[i], 16);
        if (error != std::errc() || end != at + 2) return false;
    }
    return true;
}

const char* state_name(SessionState state) {
    switch (state) {
        case SessionState::Starting: return "starting";
        case SessionState::Running: return "running";
        case SessionState::Parked: return "parked";
        case SessionState::Quiesced: return "quiesced";
        case SessionState::Unresponsive: return "unresponsive";
    }
    return "unknown";
}

}  // namespace cricket::server
