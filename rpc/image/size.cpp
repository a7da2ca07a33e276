// SPDX-License-Identifier: MIT
// bounds.h with exceptions, for everybody but the client.
#include "bounds.h"
#include "image.h"

namespace cricket::image {

size_t size_of(const void* data) {
    Bounds bounds = bounds_of(data);
    if (bounds.why) throw ImageError(bounds.why);
    return bounds.size;
}

const void* unwrap(const void* wrapper) {
    const char* why = nullptr;
    const void* fatbin = behind_wrapper(wrapper, &why);
    if (!fatbin) throw ImageError(why);
    return fatbin;
}

}  // namespace cricket::image
