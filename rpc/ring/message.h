// SPDX-License-Identifier: MIT
// ONC RPC call and reply messages in plain memory, as our transports exchange them.
#pragma once

#include <rpc/rpc.h>

#include <cstdint>

#include "rpc/values.h"

namespace cricket::rpc {

// Encodes a call message of the CUDA program into `place`; the xid is the low half of the sequence number.
// Returns its bytes, 0 when it does not fit into `limit` or an argument cannot be encoded.
uint32_t encode_call(void* place, uint32_t limit, uint32_t procedure, const Credential& credential,
                     xdrproc_t xdr_args, void* args);

// The verifier of a reply: what went wrong with calls that were posted before.
struct PostedError {
    int32_t result = 0;  // CUresult, 0: nothing
    uint64_t seq = 0;    // of the first call that failed; when nothing did: bytes that kernels have printed so far
};

// Encodes an accepted, successful reply. 0 when it does not fit.
uint32_t encode_reply(void* place, uint32_t limit, uint32_t xid, const PostedError& posted, xdrproc_t xdr_res,
                      void* res);
// Encodes an accepted reply of another status (GARBAGE_ARGS, PROC_UNAVAIL, SYSTEM_ERR, PROG_MISMATCH).
uint32_t encode_failure(void* place, uint32_t limit, uint32_t xid, accept_stat status);

// Decodes a reply; RPC_SUCCESS when it is accepted and its results were decoded.
clnt_stat decode_reply(const void* message, uint32_t bytes, uint32_t xid, PostedError* posted, xdrproc_t xdr_res,
                       void* res);

// The head of a call message: fills procedure and credential, leaves `xdrs` at the arguments.
// False when it is not a call of our program, version and credential.
bool decode_call_head(XDR* xdrs, uint32_t* xid, uint32_t* procedure, Credential* credential);

}  // namespace cricket::rpc
