// SPDX-License-Identifier: MIT
// Values that libraries keep with a context, each under a key of its own; the context's end calls the
// destructors.
#pragma once

#include "core.h"

namespace softgpu {

using StorageDestructor = void (*)(CUcontext context, void* key, void* value);

void put_storage(CUcontext context, void* key, void* value, StorageDestructor destructor);
void delete_storage(CUcontext context, void* key);
void* get_storage(CUcontext context, void* key);  // or CUDA_ERROR_INVALID_HANDLE
void end_storage(CUcontext context);

}  // namespace softgpu
