// SPDX-License-Identifier: MIT
#pragma once

#include "core.h"
#include "ptx/ptx.h"

namespace softgpu {

// For the interpreter: what the handle of a texture or surface object means, null when it is none.
std::shared_ptr<const ptx::Texture> texture_of(uint64_t handle, bool surface);
void destroy_textures_of(CUcontext owner);

}  // namespace softgpu
