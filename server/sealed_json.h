// SPDX-License-Identifier: MIT
// JSON files that carry a checksum of their own text (XXH3-64 over every byte before its line), so that one
// turned bit or a missing end is seen. They begin a format's life with a number, "format", that their reader
// must know. JSON is text and names are bytes: a byte that is no part of a character stands there as U+10FF00 and its value.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace cricket::server {

struct SealError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::string hex64(uint64_t value);  // 16 digits
// False unless `text` is 16 hexadecimal digits.
bool parse_hex64(const std::string& text, uint64_t* value);

// Creates `path`, which must not exist, and syncs it. `body` is an object that has "format" and no
// "checksum". Returns the checksum. Throws SealError.
std::string write_sealed(const std::string& path, const nlohmann::json& body);

struct Sealed {
    nlohmann::json body;
    std::string checksum;
};
// Throws SealError that says whether the file is missing, of another format version, or damaged.
// `oldest` 0: `newest` alone is read.
Sealed read_sealed(const std::string& path, int newest, int oldest = 0);

}  // namespace cricket::server
