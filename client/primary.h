// SPDX-License-Identifier: MIT
// Primary contexts: one a device, counted by retain and release.
#pragma once

#include <cuda.h>

namespace cricket::client::primary {

// What cuDevicePrimaryCtxGetState last heard about the device may be wrong from now on.
void state_changed(CUdevice device);

// The device's primary context with one more use.
CUresult retain(CUcontext* context, CUdevice device);

// Green contexts hold their device's primary context, too. Around the end of one; `last`: nothing else holds the primary one.
bool green_made(CUdevice device);  // false when memory ran out
bool green_is_last(CUdevice device);
void green_gone(CUdevice device);

// The handle alone: no use is counted, and the context need not exist yet.
CUresult handle(CUcontext* context, CUdevice device);

}  // namespace cricket::client::primary
