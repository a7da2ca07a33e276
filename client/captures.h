// SPDX-License-Identifier: MIT
// Stream capture as the client knows it: how many captures the session has, and each thread's capture mode. While there
// is no capture nothing is asked of the server; while there is one, calls are waited for, so that what a capture does
// not allow is said by the call that did it.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>

#include "client/session.h"

namespace cricket::client::captures {

extern std::atomic<uint64_t> state;  // server/captures.h: state()
extern constinit thread_local uint32_t thread_mode __attribute__((tls_model("initial-exec")));  // CUstreamCaptureMode

// Whether any stream of the session may be capturing.
inline bool active() { return state.load(std::memory_order_acquire) & 0xffff; }
// What the server said last, in whatever order answers are read.
void told(uint64_t state);
// A forked child has no session, so no captures.
void forget();

// The calling thread's mode, in place as wire::CallFlags has it.
inline uint32_t mode_flags() { return thread_mode << wire::capture_mode_shift; }

// Whether `stream` is capturing, asked for only where any stream is. What the server answers for an invalidated
// capture is left to the call that meets it: then false.
bool capturing(uint64_t stream, uint32_t call_flags);

// A copy from or to pageable memory that becomes a node of a graph uses the application's memory at each launch. Makes
// [address, address + bytes) memory that the worker sees at the same address, for the life of the process; pinned memory
// is that already. `from_host`: the memory is only read. CUDA_ERROR_NOT_SUPPORTED, named in the log, where it cannot be.
CUresult share(Session& session, const void* address, uint64_t bytes, bool from_host);

// [start, end) is not registered any more, in pages of the memfd from `offset` on. Where graphs may use part of it the worker
// is to see it on; false: nothing of it was ever shared.
bool share_again(Session& session, uint64_t start, uint64_t end, uint64_t offset);
// Whether [start, end) is shared as a whole, in pages of the memfd that follow each other, and where these are.
bool shared_whole(Session& session, uint64_t start, uint64_t end, uint64_t* offset);

}  // namespace cricket::client::captures
