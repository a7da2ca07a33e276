// SPDX-License-Identifier: MIT
#include "message.h"

#include "cricket/wire.h"

namespace cricket::rpc {
namespace {

// A call's head never changes shape: 10 words, then the credential's 6 words and the empty verifier's 2.
constexpr unsigned head_words = 8 + wire::credential_bytes / 4 + 2;

bool_t xdr_nothing(XDR*, void*) { return TRUE; }

}  // namespace

uint32_t encode_call(void* place, uint32_t limit, uint32_t procedure, const Credential& credential,
                     xdrproc_t xdr_args, void* args) {
    XDR xdrs;
    memory_xdr(&xdrs, place, limit, XDR_ENCODE);
    auto* word = XDR_INLINE(&xdrs, head_words * 4);
    if (!word) return 0;
    IXDR_PUT_U_INT32(word, static_cast<uint32_t>(credential.seq));
    IXDR_PUT_U_INT32(word, static_cast<uint32_t>(CALL));
    IXDR_PUT_U_INT32(word, RPC_MSG_VERSION);
    IXDR_PUT_U_INT32(word, wire::cuda_program);
    IXDR_PUT_U_INT32(word, wire::cuda_program_version);
    IXDR_PUT_U_INT32(word, procedure);
    IXDR_PUT_U_INT32(word, wire::credential_flavor);
    IXDR_PUT_U_INT32(word, wire::credential_bytes);
    IXDR_PUT_U_INT32(word, static_cast<uint32_t>(credential.seq >> 32));
    IXDR_PUT_U_INT32(word, static_cast<uint32_t>(credential.seq));
    IXDR_PUT_U_INT32(word, static_cast<uint32_t>(credential.context >> 32));
    IXDR_PUT_U_INT32(word, static_cast<uint32_t>(credential.context));
    IXDR_PUT_U_INT32(word, credential.thread);
    IXDR_PUT_U_INT32(word, credential.flags);
    IXDR_PUT_U_INT32(word, static_cast<uint32_t>(AUTH_NONE));
    IXDR_PUT_U_INT32(word, 0u);
    if (xdr_args && !(*xdr_args)(&xdrs, args, 0)) return 0;
    return XDR_GETPOS(&xdrs);
}

// The head of an accepted, successful reply, whose shape never changes either.
struct ReplyHead {
    uint32_t xid = 0, direction = REPLY, stat = MSG_ACCEPTED, flavor = wire::credential_flavor, verifier_bytes = 12;
    PostedError posted;
    uint32_t accepted = SUCCESS;

    bool_t move(XDR* xdrs) {
        return xdr_numbers(xdrs, &xid, &direction, &stat, &flavor, &verifier_bytes, &posted.result, &posted.seq, &accepted);
    }
    bool holds() const {
        return direction == REPLY && stat == MSG_ACCEPTED && flavor == wire::credential_flavor && verifier_bytes == 12 &&
               accepted == SUCCESS;
    }
};

static uint32_t encode_accepted(void* place, uint32_t limit, uint32_t xid, const PostedError& posted,
                                accept_stat status) {
    XDR xdrs;
    memory_xdr(&xdrs, place, limit, XDR_ENCODE);
    char verifier[12];
    XDR verifier_xdrs;
    memory_xdr(&verifier_xdrs, verifier, sizeof verifier, XDR_ENCODE);
    PostedError copy = posted;
    xdr_i32(&verifier_xdrs, &copy.result);
    xdr_u64(&verifier_xdrs, &copy.seq);
    rpc_msg reply{};
    reply.rm_xid = xid;
    reply.rm_direction = REPLY;
    reply.rm_reply.rp_stat = MSG_ACCEPTED;
    reply.acpted_rply.ar_verf = {static_cast<enum_t>(wire::credential_flavor), verifier, sizeof verifier};
    reply.acpted_rply.ar_stat = status;
    if (status == PROG_MISMATCH) reply.acpted_rply.ar_vers = {wire::cuda_program_version, wire::cuda_program_version};
    reply.acpted_rply.ar_results.proc = reinterpret_cast<xdrproc_t>(xdr_nothing);
    if (!xdr_replymsg(&xdrs, &reply)) return 0;
    return XDR_GETPOS(&xdrs);
}

uint32_t encode_reply(void* place, uint32_t limit, uint32_t xid, const PostedError& posted, xdrproc_t xdr_res,
                      void* res) {
    XDR xdrs;
    memory_xdr(&xdrs, place, limit, XDR_ENCODE);
    ReplyHead head;
    head.xid = xid;
    head.posted = posted;
    if (!head.move(&xdrs) || (xdr_res && !(*xdr_res)(&xdrs, res, 0))) return 0;
    return XDR_GETPOS(&xdrs);
}

uint32_t encode_failure(void* place, uint32_t limit, uint32_t xid, accept_stat status) {
    return encode_accepted(place, limit, xid, {}, status);
}

clnt_stat decode_reply(const void* message, uint32_t bytes, uint32_t xid, PostedError* posted, xdrproc_t xdr_res,
                       void* res) {
    XDR xdrs;
    memory_xdr(&xdrs, message, bytes, XDR_DECODE);
    if (ReplyHead head; head.move(&xdrs) && head.holds()) {
        if (head.xid != xid || (xdr_res && !(*xdr_res)(&xdrs, res, 0))) return RPC_CANTDECODERES;
        *posted = head.posted;
        return RPC_SUCCESS;
    }
    memory_xdr(&xdrs, message, bytes, XDR_DECODE);
    char verifier[MAX_AUTH_BYTES];
    rpc_msg reply{};
    reply.acpted_rply.ar_verf.oa_base = verifier;
    reply.acpted_rply.ar_results.where = static_cast<caddr_t>(res);
    reply.acpted_rply.ar_results.proc = xdr_res ? xdr_res : reinterpret_cast<xdrproc_t>(xdr_nothing);
    if (!xdr_replymsg(&xdrs, &reply) || reply.rm_xid != xid) return RPC_CANTDECODERES;
    rpc_err error{};
    _seterr_reply(&reply, &error);
    if (error.re_status != RPC_SUCCESS) return error.re_status;
    const auto& verf = reply.acpted_rply.ar_verf;
    *posted = {};
    if (static_cast<uint32_t>(verf.oa_flavor) == wire::credential_flavor && verf.oa_length == 12) {
        XDR verifier_xdrs;
        memory_xdr(&verifier_xdrs, verifier, 12, XDR_DECODE);
        xdr_i32(&verifier_xdrs, &posted->result);
        xdr_u64(&verifier_xdrs, &posted->seq);
    }
    return RPC_SUCCESS;
}

bool decode_call_head(XDR* xdrs, uint32_t* xid, uint32_t* procedure, Credential* credential) {
    auto* word = XDR_INLINE(xdrs, head_words * 4);
    if (!word) return false;
    auto next = [&] { return static_cast<uint32_t>(IXDR_GET_U_INT32(word)); };
    auto next64 = [&] {
        const uint64_t high = next();
        return high << 32 | next();
    };
    *xid = next();
    const bool ours = next() == static_cast<uint32_t>(CALL) && next() == RPC_MSG_VERSION && next() == wire::cuda_program &&
                      next() == wire::cuda_program_version;
    if (!ours) return false;
    *procedure = next();
    if (next() != wire::credential_flavor || next() != wire::credential_bytes) return false;
    credential->seq = next64();
    credential->context = next64();
    credential->thread = next();
    credential->flags = next();
    return next() == AUTH_NONE && next() == 0;
}

}  // namespace cricket::rpc
