// SPDX-License-Identifier: MIT
// Descriptors of memory and pools as applications hold them: memfds with a name in them.
#pragma once

#include <cuda.h>

#include "cricket/shared_names.h"
#include "rpc/values.h"

namespace cricket::client {

// Makes a descriptor for the SharedHandle in `blob` and stores it in the int at `target`. The application owns it.
CUresult give_descriptor(void* target, const rpc::Blob& blob);
// What a descriptor, passed as CUDA passes them, names; false, and a log line, when it names nothing of ours.
bool read_descriptor(const char* function, void* descriptor, SharedHandle* shared);

}  // namespace cricket::client
