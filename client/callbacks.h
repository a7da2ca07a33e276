// SPDX-License-Identifier: MIT
// Functions of the application that the server's driver calls: host functions in streams and graphs, stream callbacks,
// destructors of user objects, log and device notifications.
//
// The client keeps function and user data under a number, the callback's id, and sends the id along with the call that
// hands the function to the driver. When the driver calls, the worker shows the id in the channel's server page
// (server/callbacks.h), and the one callback thread of this process, started with the first add(), runs the function.
// All functions run on that thread, one after the other, in the order in which the driver called them: those of one
// stream in the stream's order, as CUDA says; those of different streams do not overlap, which CUDA leaves open. While one
// runs, calls of CUDA on that thread answer CUDA_ERROR_NOT_PERMITTED.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace cricket::client {

class Session;

namespace callbacks {

enum class Kind : uint32_t {
    HostFunction,       // CUhostFn: host functions, host nodes, destructors of user objects
    StreamCallback,     // CUstreamCallback; `handle` is the stream as the application named it
    Log,                // CUlogsCallback
    AsyncNotification,  // CUasyncCallback; `handle` is the CUasyncCallbackHandle, set by set_handle()
};
enum class Use {
    Once,      // forgotten when it has run
    Repeated,  // runs until remove(): graph nodes, registered callbacks
};

// Registers `function` with its `user` data. CUDA_SUCCESS and an id that is never used again; else what the CUDA call is to
// answer (NULL function, no session, no thread to be had, a transport that cannot bring callbacks).
CUresult add(Kind kind, Use use, void* function, void* user, uint64_t* id, uint64_t handle = 0);
// The driver did not take it, or never calls it again. Waits for nothing: it may be running.
void remove(uint64_t id);
// Added as Once, but it turned out to run more often (a host function that a stream capture put into a graph).
void keep(uint64_t id);
void set_handle(uint64_t id, uint64_t handle);
// What was registered under an id; false when nothing is.
bool find(uint64_t id, void** function, void** user);
// Whether this is the callback thread, running a function of the application.
bool running();

// Runs the callback that the server shows, if it shows one. For the callback thread, while it attaches again.
bool serve_shown(Session& session);
bool on_callback_thread();
void forget_in_child();

}  // namespace callbacks
}  // namespace cricket::client
