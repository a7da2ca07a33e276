// SPDX-License-Identifier: MIT
// Where an image begins and how long it is, without exceptions: the shim has none. image.h's size_of() and
// unwrap() are this with exceptions.
#pragma once

#include <cstddef>

namespace cricket::image {

struct Bounds {
    const void* start = nullptr;  // behind a fatbin wrapper, if it is one
    size_t size = 0;
    const char* why = nullptr;  // what is wrong; the others say nothing then
};

Bounds bounds_of(const void* data) noexcept;

// The fatbin behind a wrapper; null with *why when it is none.
const void* behind_wrapper(const void* wrapper, const char** why) noexcept;

}  // namespace cricket::image
