// SPDX-License-Identifier: MIT
// How the shim's functions, generated and hand-written, reach the session. Runs inside somebody else's process:
// never throws, never prints to stdout, keeps errno.
#pragma once

#include <cuda.h>
#include <rpc/rpc.h>

#include <cstdint>

#include "procedures.h"

namespace cricket::client {

struct CallOptions {
    uint32_t flags = 0;        // wire::CallFlags
    uint64_t reply_bytes = 0;  // upper bound of the variable part of the reply, when it may exceed 256 bytes
};

// Sends a call and waits for its result. `args` and `res` are the generated cuX_args and cuX_res, the latter
// beginning with int32_t status; `res` is decoded only on success of the transport. Blobs of `res` point into
// shared memory that stays valid until release_reply(), which the caller must call in any case.
// Returns the CUresult to hand to the application: the driver's, an earlier posted call's error, or the session's
// transport error (CUDA_ERROR_NOT_INITIALIZED before cuInit, CUDA_ERROR_SYSTEM_NOT_READY without a server).
CUresult call(Proc proc, xdrproc_t xdr_args, void* args, xdrproc_t xdr_res, void* res,
              const CallOptions& options = {});
// What kernels printed is written then, unless calls cannot be made now (the order is held).
void release_reply(bool may_call = true);

// Sends a call whose result nobody needs; its error surfaces at the next call that can report one.
// Needs a current context (CUDA_ERROR_INVALID_CONTEXT).
CUresult post(Proc proc, xdrproc_t xdr_args, void* args, const CallOptions& options = {});

// CUDA_ERROR_NOT_SUPPORTED. The function is named once in the log for each library that asks, and listed by cricketctl
// status. `caller`: the return address of the application's call, where it is known.
CUresult unsupported(const char* function, const char* reason, const void* caller = nullptr);

}  // namespace cricket::client
