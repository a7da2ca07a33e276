// SPDX-License-Identifier: MIT
// What never changes about a device is asked once and answered in the client from then on: programs ask for
// attributes hundreds of times. The answers stay what they were when a checkpoint is restored on another GPU:
// the application has built on them. Only a reset of a device begins anew: after a restore without the GPU there may be others.
#pragma once

#include <cuda.h>

#include <cstddef>

#include "client/software_validity.h"

namespace cricket::client::devices {

inline constexpr int max_cached = 64;  // devices beyond are asked every time

CUresult count(int* count);
void forget();
CUresult check(CUdevice device);  // CUDA_ERROR_INVALID_DEVICE when there is no such device
CUresult attribute(int* value, int attribute, CUdevice device);
CUresult uuid(CUuuid* uuid, CUdevice device);  // cuDeviceGetUuid_v2: of the MIG instance, if it is one
CUresult physical_uuid(CUuuid* uuid, CUdevice device);  // cuDeviceGetUuid; the one that CUDA's runtime knows

// The CUDA version that the application is told: the server's driver's, but never newer than the API we
// speak, and this API's own before cuInit. Once told it stays, as the runtime's validity check depends on it.
int driver_version();

// The devices as the software-validity check wants them; returns how many were filled in.
size_t validity_devices(ValidityDevice (&out)[max_cached]);

}  // namespace cricket::client::devices
