// SPDX-License-Identifier: MIT
// The same calls over libtirpc's own stream transport (unix socket or TCP): one connection, one call at a time,
// bulk data inside the messages. Proves that the protocol does not depend on the ring; it holds a connected socket,
// so CRIU needs --tcp-close (TCP) or refuses (unix).
#pragma once

#include <rpc/rpc.h>

#include <cstdint>
#include <mutex>

#include "cricket/wire.h"
#include "rpc/ring/message.h"
#include "rpc/values.h"

namespace cricket::rpc {

class PlainClient {
  public:
    // Connects to "unix:PATH" or "tcp:HOST:PORT" and attaches a session. False with a one-line reason.
    bool open(const char* address, const wire::Hello& hello, char* why, size_t why_bytes);

    // One call and its reply; `res` may hold allocated blobs, to be freed with xdr_free. A credential without
    // wants_reply is answered with nothing but its status.
    clnt_stat call(uint32_t procedure, Credential credential, xdrproc_t xdr_args, void* args, xdrproc_t xdr_res,
                   void* res, PostedError* posted);

  private:
    std::mutex mutex_;
    CLIENT* client_ = nullptr;
    AUTH auth_{};
    Credential credential_;  // of the call under way
    PostedError posted_;     // from its verifier
    uint64_t next_seq_ = 1;

    static void next_verifier(AUTH*) {}
    static int marshal(AUTH* auth, XDR* xdrs);
    static int validate(AUTH* auth, opaque_auth* verifier);
    static int refresh(AUTH*, void*) { return FALSE; }
    static void destroy(AUTH*) {}
    static int wrap(AUTH*, XDR* xdrs, xdrproc_t proc, caddr_t where) { return (*proc)(xdrs, where, 0); }
};

}  // namespace cricket::rpc
