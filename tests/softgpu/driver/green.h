// SPDX-License-Identifier: MIT
// Green contexts: a part of a device's multiprocessors under a context handle of its own. All that such a context has is
// its device's primary context's; only its streams and where its kernels run are its own. What of one stays when it is gone is
// as on an H200 with driver 580 (tests/conformance/green.cpp).
#pragma once

#include "stream.h"

namespace softgpu {

struct GreenContext {
    explicit GreenContext(Device& device) : device(device) {}
    Device& device;
    std::shared_ptr<Context> primary;  // null when it is gone
    std::atomic<bool> ended = false;
    uint64_t multiprocessors = 0;  // a bit for each
    CUgreenCtx handle = nullptr;
    CUcontext context = nullptr;  // an alias of the primary context's handle, while it is there
    uint64_t id = 0;
    std::shared_ptr<Stream> default_stream;
};

// Null when the handle is of no green context, living or gone.
std::shared_ptr<GreenContext> green_of(CUcontext handle);
unsigned green_contexts_of(const Device& device);  // living ones, which each retain the primary context
uint64_t all_multiprocessors();  // of any device: a bit for each

}  // namespace softgpu
