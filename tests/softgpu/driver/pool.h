// SPDX-License-Identifier: MIT
// Memory pools: memory that streams allocate and free in their order.
#pragma once

#include "stream.h"

namespace softgpu {

constexpr uint64_t kPoolAlignment = 512;

// Adds what one description allows to sets of devices (a bit each); takes away for PROT_NONE.
void apply_access(const CUmemAccessDesc& access, uint32_t& readers, uint32_t& writers);

// cuMemFree of memory of a pool or a graph; false when the address is neither's.
bool free_pooled(CUdeviceptr pointer);

// A synchronization is over: pools give back what they hold beyond their thresholds.
void release_pools(int device);
// The context ends, and its allocations with it.
void forget_pooled(CUcontext owner);

// The pool of an allocation, null for others.
CUmemoryPool pool_of(CUdeviceptr pointer);

}  // namespace softgpu
