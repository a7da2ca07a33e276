// SPDX-License-Identifier: MIT
// What writer and reader of a snapshot agree on about its data files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace cricket::server {

inline constexpr char data_suffix[] = ".data";

bool is_stream_name(const std::string& name);
bool is_zero(std::span<const std::byte> data);
uint64_t zero_chunk_checksum();  // of a whole chunk of zeros

}  // namespace cricket::server
