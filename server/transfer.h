// SPDX-License-Identifier: MIT
// The application's memory as one end of a copy on a stream: data beside a message, or host memory that both sides
// map. Each end is looked up before the copy is given to the driver and noted after it, so that nothing is reused
// while the device may still read or write it.
#pragma once

#include <cuda.h>

#include "call.h"

namespace cricket::server {

// Null: not there, or not all of it.
const void* transfer_source(Call& call, const rpc::Bulk& data);
CUresult transfer_source_given(Call& call, const rpc::Bulk& data, CUstream stream);

// `result` takes the data where it travels with the answer.
void* transfer_target(Call& call, const rpc::Bulk& data, rpc::Bulk* result);
CUresult transfer_target_given(Call& call, const rpc::Bulk& data, CUstream stream);

// Whether the copy may be given to the driver: what is captured uses the memory at each launch of its graph.
bool outlives_call(Call& call, const rpc::Bulk& data, CUstream stream);

// The call is answered when `stream` has done all it has now.
CUresult answer_after(Call& call, CUstream stream);

}  // namespace cricket::server
