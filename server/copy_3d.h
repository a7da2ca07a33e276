// SPDX-License-Identifier: MIT
// CUDA_MEMCPY3D as the session speaks of it, made into what the driver takes. Used by copies and by graph nodes.
#pragma once

#include "call.h"
#include "rpc/copy_3d.h"

namespace cricket::server {

// Session numbers of arrays (and contexts, if `contexts`) become the driver's handles. Host memory must be memory that
// both sides map, where the application has it; memory types are HOST, DEVICE or ARRAY: the client has resolved the
// others (client/copy_3d.h).
CUresult driver_source(Call& call, rpc::CopyFields* copy, bool contexts);
CUresult driver_target(Call& call, rpc::CopyFields* copy, bool contexts);
// Both ends; the reserved members are left alone.
CUresult driver_copy(Call& call, CUDA_MEMCPY3D* copy);

}  // namespace cricket::server
