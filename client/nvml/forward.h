// SPDX-License-Identifier: MIT
// What the generated functions of the NVML library are made of.
#pragma once

#include <atomic>
#include <cstdint>

#include "nvml_functions.h"
#include "rpc/nvml/codec.h"

namespace cricket::nvml {

inline uint64_t word(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }
inline uint64_t word(uint32_t value) { return value; }
inline uint64_t word(int32_t value) { return static_cast<uint32_t>(value); }
inline uint64_t word(uint64_t value) { return value; }

// Runs the function in the server. The words are its arguments, in order.
int forward(Proc proc, const Words& words);
// What changes the machine, and what is not to be had; each names itself once in the log.
int denied(const char* name, std::atomic<bool>& said);
int unsupported(const char* name, const char* reason, std::atomic<bool>& said);

// How often nvmlInit was called and not undone by nvmlShutdown.
extern std::atomic<int32_t> users;

}  // namespace cricket::nvml
