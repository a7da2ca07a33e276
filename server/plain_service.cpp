// SPDX-License-Identifier: MIT
#include "plain_service.h"

#include <poll.h>
#include <rpc/svc_auth.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "dispatch.h"
#include "log.h"
#include "rpc/ring/message.h"

namespace cricket::server {
namespace {

// libtirpc's dispatch functions take no argument of the caller's: a worker serves one connection.
struct Serving {
    Session& session;
    Executor& executor;
    std::function<void()> attached;
    std::vector<std::max_align_t> args{max_args_bytes / sizeof(std::max_align_t) + 1};
    std::vector<std::max_align_t> res{max_res_bytes / sizeof(std::max_align_t) + 1};
    char verifier[12] = {};
};
Serving* serving = nullptr;

auth_stat accept_credential(svc_req*, rpc_msg*) { return AUTH_OK; }

struct Answer {
    int32_t refusal = 0;
    char text[256] = {};
};
bool_t xdr_answer(XDR* xdrs, Answer* answer) {
    return rpc::xdr_i32(xdrs, &answer->refusal) && ::xdr_opaque(xdrs, answer->text, sizeof answer->text);
}
bool_t xdr_hello(XDR* xdrs, wire::Hello* hello) {
    return ::xdr_opaque(xdrs, reinterpret_cast<char*>(hello), sizeof *hello);
}

void attach(SVCXPRT* transport) {
    wire::Hello hello{};
    if (!svc_getargs(transport, reinterpret_cast<xdrproc_t>(xdr_hello), reinterpret_cast<caddr_t>(&hello))) {
        svcerr_decode(transport);
        return;
    }
    Answer answer;
    if (hello.magic != wire::hello_magic || hello.protocol != wire::protocol_version) {
        answer.refusal = static_cast<int32_t>(wire::Refusal::Protocol);
        std::snprintf(answer.text, sizeof answer.text, "this server speaks protocol version %u", wire::protocol_version);
    } else {
        serving->session.token = hello.token;
        serving->session.program.assign(hello.program, strnlen(hello.program, sizeof hello.program));
        serving->attached();
    }
    svc_sendreply(transport, reinterpret_cast<xdrproc_t>(xdr_answer), reinterpret_cast<char*>(&answer));
}

// The reply's verifier carries the error of calls that nobody waited for; here every call is waited for. And how much
// kernels have printed.
void set_verifier(SVCXPRT* transport) {
    XDR xdrs;
    xdrmem_create(&xdrs, serving->verifier, sizeof serving->verifier, XDR_ENCODE);
    int32_t none = 0;
    uint64_t text = serving->session.device_text.total();
    rpc::xdr_i32(&xdrs, &none) && rpc::xdr_u64(&xdrs, &text);
    transport->xp_verf = {static_cast<enum_t>(wire::credential_flavor), serving->verifier, sizeof serving->verifier};
}

bool read_credential(const opaque_auth& raw, rpc::Credential* credential) {
    if (static_cast<uint32_t>(raw.oa_flavor) != wire::credential_flavor || raw.oa_length != wire::credential_bytes)
        return false;
    XDR xdrs;
    xdrmem_create(&xdrs, raw.oa_base, raw.oa_length, XDR_DECODE);
    return rpc::xdr_credential(&xdrs, credential);
}

void serve(svc_req* request, SVCXPRT* transport) {
    if (request->rq_proc == NULLPROC) {
        svc_sendreply(transport, reinterpret_cast<xdrproc_t>(reinterpret_cast<void (*)()>(xdr_void)), nullptr);
        return;
    }
    if (request->rq_proc == wire::proc_attach) return attach(transport);
    const uint32_t procedure = static_cast<uint32_t>(request->rq_proc);
    const uint32_t index = procedure - wire::first_cuda_proc;
    if (index >= dispatch_count || !dispatch_table[index].serve) return svcerr_noproc(transport);
    Session& session = serving->session;
    const DispatchEntry& entry = dispatch_table[index];
    Call call{session, session.driver, session.objects, {}, nullptr, 0, {}, false, 0, 0};
    if (!read_credential(request->rq_cred, &call.credential) || call.credential.seq != session.executed + 1)
        return svcerr_auth(transport, AUTH_BADCRED);
    void* args = serving->args.data();
    void* res = serving->res.data();
    std::memset(args, 0, entry.args_size);
    if (!svc_getargs(transport, entry.xdr_args, static_cast<char*>(args))) {
        svc_freeargs(transport, entry.xdr_args, static_cast<char*>(args));
        return svcerr_decode(transport);
    }
    call.credential.flags |= wire::wants_reply;
    serving->executor.execute(entry, procedure, call, args, res);
    if (call.wait_for) {
        const CUresult status = session.driver.cuEventSynchronize(call.wait_for.event);
        session.flush_text(call.wait_for.event, nullptr, status);
        session.give(call.wait_for);
        if (call.reclaim) session.reclaim(call.reclaim);
        if (call.then) call.then();
        auto& result = *static_cast<int32_t*>(res);
        if (result == CUDA_SUCCESS) result = status;
    }
    if (session.device_text.possible()) session.device_text.look();
    session.executed = call.credential.seq;
    set_verifier(transport);
    if (!svc_sendreply(transport, entry.xdr_res, static_cast<char*>(res))) svcerr_systemerr(transport);
    svc_freeargs(transport, entry.xdr_args, static_cast<char*>(args));
    XDR xdrs{};
    xdrs.x_op = XDR_FREE;
    (*entry.xdr_res)(&xdrs, res, 0);
}

bool still_open(int fd) {
    for (int i = 0; i < svc_max_pollfd; ++i)
        if (svc_pollfd[i].fd == fd) return true;
    return false;
}

}  // namespace

void serve_plain(Session& session, Executor& executor, UniqueFd connection, std::function<void()> attached) {
    Serving now{session, executor, std::move(attached)};
    serving = &now;
    svc_auth_reg(static_cast<int>(wire::credential_flavor), accept_credential);
    const int fd = connection.get();
    SVCXPRT* transport = ::svc_fd_create(fd, 0, 0);
    if (!transport || !::svc_reg(transport, wire::cuda_program, wire::cuda_program_version, serve, nullptr)) {
        log_error("the stream connection with descriptor %d cannot be served: no memory for its transport", fd);
        serving = nullptr;
        return;
    }
    connection.release();  // the transport closes it
    while (still_open(fd)) {
        pollfd waited{fd, POLLIN, 0};
        if (::poll(&waited, 1, -1) < 0 && errno != EINTR) break;
        if (waited.revents) ::svc_getreq_common(fd);
    }
    serving = nullptr;
}

}  // namespace cricket::server
