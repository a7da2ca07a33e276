// SPDX-License-Identifier: MIT
// Contexts as the client knows them: each thread's stack, and for each living context its device and what
// libraries stored with it. Answers cuCtxGetCurrent and cuCtxGetDevice (hundreds of thousands of calls)
// without the server. Contexts are session numbers and never reused; a destroyed one stays on the stacks of
// other threads and is recognised there because the registry no longer knows it.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace cricket::client {

// Number of the calling thread's current context as calls carry it: 0 when there is none, or only one that
// was destroyed or is an inactive primary. Two loads.
uint64_t current_context();

// Provided by the session: cuInit succeeded in this very process (false again in a forked child).
bool initialized();
// CUDA_SUCCESS when calls can be made in a current context; else why not, as the driver says it.
CUresult need_context();

namespace contexts {

// The calling thread's stack. top() is what cuCtxGetCurrent says, living or not; 0 when empty. False when
// memory for it ran out.
uint64_t top();
bool push(uint64_t number);
bool replace_top(uint64_t number);  // pushes when empty
bool pop(uint64_t* number);         // false when empty
// CUDA_ERROR_INVALID_CONTEXT: none is current. CUDA_ERROR_CONTEXT_IS_DESTROYED: destroyed, or an inactive
// primary.
CUresult current_device(CUdevice* device);

// The registry. A primary context that is not retained stays known, inactive: its handle remains valid, but
// calls in it find it destroyed; add() revives it.
bool add(uint64_t number, CUdevice device, bool primary);     // false when memory ran out
bool add_inactive_primary(uint64_t number, CUdevice device);  // no change when it is known
// A green context's; values kept with it are kept with `home`, its device's primary context. It stays known, inactive, once it
// is gone: it can still be made current.
bool add_green(uint64_t number, CUdevice device, uint64_t home);
void deactivate(uint64_t number);
void remove(uint64_t number);
bool known(uint64_t number);
bool is_primary(uint64_t number);
bool is_green(uint64_t number);
bool attach(uint64_t number);  // one more reference; false: unknown
bool detach(uint64_t number);  // one less; false: there was none
CUresult device_of(uint64_t number, CUdevice* device);  // CUDA_ERROR_INVALID_CONTEXT: unknown

// The driver's own number of the context (cuCtxGetId), 0 while nobody asked.
uint64_t driver_id(uint64_t number);
void set_driver_id(uint64_t number, uint64_t id);

// Values that libraries keep with a context. `number` 0 means the current one.
using Destructor = void (*)(CUcontext, void* key, void* value);
CUresult put(uint64_t number, void* key, void* value, Destructor destructor);
CUresult get(uint64_t number, void* key, void** value);
CUresult erase(uint64_t number, void* key);  // without calling the destructor
// Takes all values out and calls their destructors, as the driver does when a context goes. They may call
// CUDA.
void destroy_values(uint64_t number);

}  // namespace contexts
}  // namespace cricket::client
