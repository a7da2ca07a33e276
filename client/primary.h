// SPDX-License-Identifier: MIT
// Primary contexts: one a device, counted by retain and release.
#pragma once

#include <cuda.h>

namespace cricket::client::primary {

// What cuDevicePrimaryCtxGetState last heard about the device may be wrong from now on.
void state_changed(CUdevice device);

// The device's primary context with one more use.
CUresult retain(CUcontext* context, CUdevice device);

// The handle alone: no use is counted, and the context need not exist yet.
CUresult handle(CUcontext* context, CUdevice device);

}  // namespace cricket::client::primary
