// SPDX-License-Identifier: MIT
// The process's session with a server: made by cuInit, attached again whenever its server is gone, forgotten in a
// forked child. Everything the application's process holds of it is listed here: two memfds and their mappings.
#pragma once

#include <cuda.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "client/call.h"
#include "client/callbacks.h"
#include "client/host_memory.h"
#include "cricket/image_offer.h"
#include "cricket/wire.h"
#include "rpc/plain/plain_client.h"
#include "rpc/ring/ring_client.h"

namespace cricket::client {

// The CUresult of every call of a session that has no server and will not get one back.
inline constexpr CUresult session_lost = CUDA_ERROR_SYSTEM_NOT_READY;

class Session final : public ring::Attacher {
  public:
    // The session, or null before cuInit succeeded in this process.
    // Null too while a callback of the application runs on this thread: it may not call CUDA (absent() says so).
    static Session* get() {
        return callbacks::running() ? nullptr : current_.load(std::memory_order_acquire);
    }
    // The session, whoever asks.
    static Session* any() { return current_.load(std::memory_order_acquire); }
    // The session of a call that needs a current context, or what the call answers without one.
    static CUresult with_context(Session** session);
    // Attaches a new session (cuInit). CUDA_SUCCESS when there is one already.
    static CUresult start();
    // The process ends: tells the server, which ends the session. Calls made after it answer
    // CUDA_ERROR_DEINITIALIZED.
    static void end();
    // CUDA_LAUNCH_BLOCKING: calls are not posted but waited for, so that errors surface where they arise.
    static bool launch_blocking() { return launch_blocking_; }
    // What a call without a session answers.
    static CUresult absent();

    // Null where calls travel over a plain transport.
    ring::RingClient* ring() { return plain_ ? nullptr : &ring_; }
    rpc::PlainClient* plain() { return plain_; }
    HostMemory& host_memory() { return host_memory_; }

    bool attach(wire::Hello& hello, ring::Channel& channel) override;

    // A file for a call that loads what is in it; the token is filled in.
    bool send_offer(wire::ImageOffer& offer, int file);

    // An error of a call posted earlier, until somebody can report it.
    void note_posted_error(int32_t result);

  private:
    Session();
    CUresult open();
    bool send_beside(const void* data, size_t bytes, const int* fds, size_t count, int* error);
    bool send_hello(const wire::Hello& hello, int channel_fd, int* error);
    bool await_answer(const wire::Hello& hello, ring::Channel& channel, wire::Refusal* refusal);
    static void forget_in_child();

    static std::atomic<Session*> current_;
    static std::atomic<bool> ended_;
    static std::atomic<bool> orphaned_;  // forked from a process that had a session
    static bool launch_blocking_;

    ring::RingClient ring_;
    rpc::PlainClient* plain_ = nullptr;
    HostMemory host_memory_;
    const pid_t process_;  // whose session it is: a child made past fork() has it too, and may end
    wire::Token token_{};
    uint64_t epoch_ = 0;
    CUresult refused_ = CUDA_SUCCESS;  // by the server's driver
    char socket_path_[108] = {};
    int64_t reconnect_timeout_ = -1;  // seconds, -1: for ever
};

// Runs a call whose arguments hold bulk data of any size: stages, calls, waits. For module images and the like.
// `bulk` points at the field in `args` to fill.
CUresult call_with_data(Proc proc, xdrproc_t xdr_args, void* args, rpc::Bulk* bulk, const void* data, uint64_t size,
                        xdrproc_t xdr_res, void* res, const CallOptions& options = {});

// Waits for the reply of a call that was begun on the ring, and releases it. `copy_out`, if given, copies bulk data of
// the reply out of shared memory, if the call succeeded; it may be called again when what it copied could not be believed.
CUresult finish_call(Session& session, ring::Pending& pending, Proc proc, xdrproc_t xdr_res, void* res,
                     void (*copy_out)(void* user), void* user, bool order_held = false);
// A request of this thread in its current context, as the ring takes it.
ring::Request request_for(Proc proc, xdrproc_t xdr_args, void* args, uint32_t flags, bool reply);
// The CUresult of a transport that failed.
CUresult of_status(ring::Status status);
// The error of a posted call that nobody reported yet, 0: none. Taking it reports it.
int32_t take_posted_error();

}  // namespace cricket::client
