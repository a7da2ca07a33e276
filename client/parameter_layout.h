// SPDX-License-Identifier: MIT
// Where a kernel's parameters lie in its packed buffer: asked for once and kept, as session numbers are never reused.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace cricket::client {

struct ParameterLayout {
    struct Param {
        uint32_t offset, size;
    };
    uint64_t function;
    ParameterLayout* next;
    uint32_t count;
    uint32_t bytes;  // of the packed buffer
    Param* params;   // in the same allocation, behind this
};

// Of a CUfunction or CUkernel. Two loads when it is known.
CUresult parameter_layout(uint64_t function, const ParameterLayout** layout);
// A forked child's session gives numbers of its own.
void forget_parameter_layouts();

}  // namespace cricket::client
