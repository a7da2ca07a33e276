// SPDX-License-Identifier: MIT
// Green contexts: a part of a device's multiprocessors under a context handle of its own. All that such a context has is
// its device's primary context's; only its default stream and where its kernels run are its own.
#pragma once

#include "stream.h"

namespace softgpu {

struct GreenContext {
    std::shared_ptr<Context> primary;
    uint64_t multiprocessors = 0;  // a bit for each
    CUgreenCtx handle = nullptr;
    CUcontext context = nullptr;  // an alias of the primary context's handle
    uint64_t id = 0;
    std::shared_ptr<Stream> default_stream;
};

// Null when the handle is of no green context.
std::shared_ptr<GreenContext> green_of(CUcontext handle);
// The primary context is gone, and they with it.
void forget_green(const Context& primary);
uint64_t all_multiprocessors();  // of any device: a bit for each

}  // namespace softgpu
