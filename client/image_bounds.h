// SPDX-License-Identifier: MIT
// CUDA passes program images as bare pointers; their own headers say how long they are.
#pragma once

#include <cstddef>

namespace cricket::client {

// The image that `data` means (behind a fatbin wrapper, if it is one) and its size. False, with a log line
// that says why, when it is none. `data` must be readable as far as its headers say, as CUDA demands.
bool find_image(const void* data, const void** image, size_t* size);

// Whether `data`, at least 16 bytes, begins like an image.
bool begins_image(const void* data);
bool begins_ptx(const void* data);

}  // namespace cricket::client
