// SPDX-License-Identifier: MIT
// libtirpc's own server loop keeps its transports in tables of the process and dispatches one call at a time.
// Here each connection has a thread and a transport of its own, made of the public pieces: record stream,
// call and reply messages, and the dispatch function that rpcgen wrote.
#include <poll.h>
#include <rpc/rpc.h>
#include <rpc/svc_mt.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

#include "control_convert.h"
#include "control_service.h"
#include "log.h"

extern "C" void cricket_control_2(struct svc_req* request, SVCXPRT* transport);

namespace cricket::server {
namespace {

using std::chrono::steady_clock;

constexpr u_int buffer_bytes = 16384;

struct Connection {
    int fd = -1;
    ControlService* service = nullptr;
    XDR xdrs{};
    SVCXPRT transport{};
    SVCXPRT_EXT extension{};
    uint32_t xid = 0;
    bool broken = false, closed = false;
    std::chrono::steady_clock::time_point first_call_by{};  // passed: it did not come in time; none: any later call may take its time
    const char* why = nullptr;
};

Connection& of(SVCXPRT* transport) {
    return *static_cast<Connection*>(transport->xp_p1);
}

// False when the first call does not come in time.
bool await(Connection& connection) {
    while (connection.first_call_by != steady_clock::time_point{}) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(connection.first_call_by - steady_clock::now()).count();
        pollfd one{connection.fd, POLLIN, 0};
        if (::poll(&one, 1, static_cast<int>(std::max<int64_t>(left, 0))) > 0) return true;
        if (left <= 0) return connection.why = "it did not make a call in time", false;
    }
    return true;
}

int read_stream(void* handle, void* buffer, int length) {
    Connection& connection = *static_cast<Connection*>(handle);
    if (!await(connection)) return -1;
    const int fd = connection.fd;
    ssize_t got = 0;
    do {
        got = ::recv(fd, buffer, static_cast<size_t>(length), 0);
    } while (got < 0 && errno == EINTR);
    connection.closed = got <= 0;
    return got <= 0 ? -1 : static_cast<int>(got);
}

int write_stream(void* handle, void* buffer, int length) {
    Connection& connection = *static_cast<Connection*>(handle);
    const int fd = connection.fd;
    int done = 0;
    while (done < length) {
        const ssize_t put =
            ::send(fd, static_cast<char*>(buffer) + done, static_cast<size_t>(length - done), MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0 && errno == EAGAIN) connection.why = "it does not take its answers";
        if (put < 0) return -1;
        done += static_cast<int>(put);
    }
    return done;
}

bool_t receive_nothing(SVCXPRT*, rpc_msg*) {
    return FALSE;
}  // the loop below receives
xprt_stat stat_idle(SVCXPRT*) {
    return XPRT_IDLE;
}
void destroy_nothing(SVCXPRT*) {}
bool_t control_nothing(SVCXPRT*, u_int, void*) {
    return FALSE;
}

bool_t get_arguments(SVCXPRT* transport, xdrproc_t routine, void* arguments) {
    if ((*routine)(&of(transport).xdrs, arguments)) return TRUE;
    xdr_free(routine, static_cast<char*>(arguments));  // the caller frees only what is whole
    return FALSE;
}

bool_t free_arguments(SVCXPRT*, xdrproc_t routine, void* arguments) {
    xdr_free(routine, static_cast<char*>(arguments));
    return TRUE;
}

bool_t reply(SVCXPRT* transport, rpc_msg* message) {
    Connection& connection = of(transport);
    message->rm_xid = connection.xid;
    connection.xdrs.x_op = XDR_ENCODE;
    const bool_t sent = xdr_replymsg(&connection.xdrs, message) && xdrrec_endofrecord(&connection.xdrs, TRUE);
    connection.xdrs.x_op = XDR_DECODE;
    if (!sent) connection.broken = true;  // half a record may be out
    return sent;
}

constexpr struct __rpc_svcxprt::xp_ops operations = {receive_nothing, stat_idle,      get_arguments,
                                        reply,           free_arguments, destroy_nothing};
constexpr struct __rpc_svcxprt::xp_ops2 more_operations = {control_nothing};

// Reads one call and answers it. False when the connection has ended.
bool serve_one(Connection& connection) {
    connection.xdrs.x_op = XDR_DECODE;
    const auto no_call = [&] {
        if (!connection.why && !connection.closed) connection.why = "what came is no call";
        return false;
    };
    if (!xdrrec_skiprecord(&connection.xdrs)) return no_call();
    char credential[MAX_AUTH_BYTES], verifier[MAX_AUTH_BYTES];
    rpc_msg message{};
    message.rm_call.cb_cred.oa_base = credential;
    message.rm_call.cb_verf.oa_base = verifier;
    if (!xdr_callmsg(&connection.xdrs, &message)) return no_call();
    connection.first_call_by = {};
    connection.xid = message.rm_xid;
    svc_req request{};
    request.rq_prog = message.rm_call.cb_prog;
    request.rq_vers = message.rm_call.cb_vers;
    request.rq_proc = message.rm_call.cb_proc;
    request.rq_cred = message.rm_call.cb_cred;
    request.rq_xprt = &connection.transport;
    if (request.rq_prog != CRICKET_CONTROL)
        svcerr_noprog(&connection.transport);
    else if (request.rq_vers != CRICKET_CONTROL_V2)
        svcerr_progvers(&connection.transport, CRICKET_CONTROL_V2, CRICKET_CONTROL_V2);
    else
        cricket_control_2(&request, &connection.transport);
    return !connection.broken && !connection.service->finished();
}

// What every procedure does with its result: none may throw through the C code above it.
template <typename Result, typename Function>
bool_t answer(svc_req* request, Result* result, Function&& function) {
    std::memset(static_cast<void*>(result), 0, sizeof *result);
    try {
        to_xdr(function(*of(request->rq_xprt).service), result);
        return TRUE;
    } catch (const std::exception& error) {
        log_error("a control call failed: %s", error.what());
        return svcerr_systemerr(request->rq_xprt), FALSE;
    }
}

std::string text(const char* from) {
    return from ? from : "";
}

}  // namespace

const char* serve_control(int fd, ControlService& service, std::chrono::seconds patience) {
    Connection connection;
    connection.fd = fd;
    connection.service = &service;
    if (patience.count()) {
        connection.first_call_by = steady_clock::now() + patience;
        const timeval limit{static_cast<time_t>(patience.count()), 0};
        ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    }
    connection.transport.xp_fd = fd;
    connection.transport.xp_ops = &operations;
    connection.transport.xp_ops2 = &more_operations;
    connection.transport.xp_verf = _null_auth;
    connection.transport.xp_p1 = &connection;
    connection.transport.xp_p3 = &connection.extension;
    xdrrec_create(&connection.xdrs, buffer_bytes, buffer_bytes, &connection, read_stream, write_stream);
    while (serve_one(connection)) {
    }
    xdr_destroy(&connection.xdrs);
    return connection.why;
}

void to_xdr(const LoadResult& from, ctl_load_result* to) {
    to_xdr(from.result, &to->result);
    to_xdr(from.session, &to->session);
}

void to_xdr(const ReportResult& from, ctl_report_result* to) {
    const bool fits = from.report.size() <= CTL_REPORT;
    to_xdr(fits ? from.result : OpResult::failure("the report is too long to be sent"), &to->result);
    to->report = to_xdr(fits ? from.report : std::string(), CTL_REPORT);
}

}  // namespace cricket::server

using namespace cricket::server;

extern "C" {

bool_t ctl_status_2_svc(void*, ctl_status* result, svc_req* request) {
    return answer(request, result, [](ControlService& service) { return service.status(); });
}

bool_t ctl_quiesce_2_svc(ctl_quiesce_args* args, ctl_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.quiesce(text(args->target), args->timeout_ms, args->hold != 0);
    });
}

bool_t ctl_resume_2_svc(char** target, ctl_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) { return service.resume(text(*target)); });
}

bool_t ctl_snapshot_2_svc(ctl_snapshot_args* args, ctl_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.snapshot(text(args->target), text(args->directory), text(args->checkpoint));
    });
}

bool_t ctl_snapshot_begin_2_svc(ctl_snapshot_request* args, ctl_snapshot_state* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.begin_snapshot(text(args->target), from_xdr(*args));
    });
}

bool_t ctl_snapshot_wait_2_svc(ctl_snapshot_id* args, ctl_snapshot_state* result, svc_req* request) {
    return answer(request, result,
                  [&](ControlService& service) { return service.wait_snapshot(text(args->target), args->id); });
}

bool_t ctl_snapshot_state_2_svc(ctl_snapshot_id* args, ctl_snapshot_state* result, svc_req* request) {
    return answer(request, result,
                  [&](ControlService& service) { return service.snapshot_state(text(args->target), args->id); });
}

bool_t ctl_snapshot_abort_2_svc(ctl_snapshot_id* args, ctl_snapshot_state* result, svc_req* request) {
    return answer(request, result,
                  [&](ControlService& service) { return service.abort_snapshot(text(args->target), args->id); });
}

bool_t ctl_drop_2_svc(ctl_drop_args* args, ctl_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.drop(text(args->target), args->force != 0);
    });
}

bool_t ctl_load_2_svc(char** directory, ctl_load_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) { return service.load(text(*directory), {}); });
}

bool_t ctl_load_on_2_svc(ctl_load_args* args, ctl_load_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.load(text(args->directory), text(args->devices));
    });
}

bool_t ctl_load_begin_2_svc(ctl_load_args* args, ctl_load_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.begin_load(text(args->directory), text(args->devices), false);
    });
}

bool_t ctl_load_without_gpu_2_svc(ctl_load_args* args, ctl_load_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.begin_load(text(args->directory), text(args->devices), true);
    });
}

bool_t ctl_load_finish_2_svc(char** target, ctl_load_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) { return service.finish_load(text(*target)); });
}

bool_t ctl_survey_2_svc(char** target, ctl_report_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) { return service.survey(text(*target)); });
}

bool_t ctl_guard_2_svc(char** directory, ctl_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) { return service.guard(text(*directory)); });
}

bool_t ctl_criu_dumped_2_svc(ctl_criu_args* args, ctl_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.criu_dumped(args->criu, args->root, args->stays != 0);
    });
}

bool_t ctl_criu_restores_2_svc(int* criu, ctl_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) { return service.criu_restores(*criu); });
}

bool_t ctl_criu_restored_2_svc(ctl_criu_args* args, ctl_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.criu_restored(args->criu, args->root, args->stays != 0);
    });
}

bool_t ctl_keep_2_svc(char** target, ctl_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) { return service.keep(text(*target)); });
}

bool_t ctl_check_2_svc(ctl_check_args* args, ctl_report_result* result, svc_req* request) {
    return answer(request, result, [&](ControlService& service) {
        return service.check(text(args->target), text(args->directory));
    });
}

int cricket_control_2_freeresult(SVCXPRT*, xdrproc_t routine, caddr_t result) {
    xdr_free(routine, result);
    return TRUE;
}
}
