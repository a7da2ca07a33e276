// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <utility>

#include "core.h"

namespace softgpu {

// What functions that are not implemented return; names them on stderr, each once.
CUresult unsupported(const char* name);

// Plain names and the versioned symbols cuda.h maps them to; generated from it.
std::span<const std::pair<const char*, const char*>> current_versions();

}  // namespace softgpu
