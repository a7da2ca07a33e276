// SPDX-License-Identifier: MIT
// Copies between boxes: 2D, 3D, between devices, of arrays. What CUDA's documents let every such copy be refused for is
// refused here; memory types are resolved here too, since only this side knows the application's own memory.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "client/session.h"
#include "rpc/copy_3d.h"

namespace cricket::client {

rpc::CopyFields copy_fields(const CUDA_MEMCPY2D& copy);

// Checks both ends, and makes HOST or DEVICE of UNIFIED ones. Array and context handles stay session numbers. Addresses,
// offsets and pitches stay the application's.
CUresult resolve_copy(Session& session, rpc::CopyFields* copy, rpc::CopyForm form);

// Runs a copy on `stream` (session number, 0 as `flags` say). `wait`: as the function without "Async" does: until the
// driver has answered, and until it is over when an end is the application's memory.
CUresult copy_3d(const rpc::CopyFields& copy, rpc::CopyForm form, uint64_t stream, uint32_t flags, bool wait);

}  // namespace cricket::client
