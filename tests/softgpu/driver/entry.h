// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string_view>

#include "core.h"

namespace softgpu {

// What functions that are not implemented return; names them on stderr, each once.
CUresult unsupported(const char* name);

// Which symbol a plain name means from which version of CUDA on; generated from CUDA's headers.
struct VersionedName {
    std::string_view name, suffix;  // the suffix: "", "_ptds" or "_ptsz"
    int version;
    const char* symbol;
};
std::span<const VersionedName> versioned_names();

}  // namespace softgpu
