// SPDX-License-Identifier: MIT
// For a build without tests/softgpu/ptx: everything but code works.
#include "ptx/ptx.h"

std::unique_ptr<softgpu::ptx::Module> softgpu::ptx::Module::parse(std::string_view) {
    throw ParseError(1, "(any)", "this software GPU was built without the PTX interpreter");
}
