// SPDX-License-Identifier: MIT
// Names are bytes that somebody else has chosen; what is shown of them is UTF-8 on one line that moves no cursor.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cricket::server {

// Bytes of the character that `text`, which is not empty, begins with, and its number; 0 bytes: it is none (RFC 3629).
size_t utf8_character(std::string_view text, uint32_t* number);
// With '?' for each byte that is no UTF-8, and for each control character and line separator.
std::string printable(std::string_view text);
// The same of a field of so many bytes, which ends with a 0 then.
void make_printable(char* name, size_t room);

}  // namespace cricket::server
