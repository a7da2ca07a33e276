// SPDX-License-Identifier: MIT
#include "control_client.h"

#include <rpc/rpc.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "control_convert.h"

namespace cricket::server {
namespace {

constexpr std::chrono::seconds greeting_patience{30};

bool_t nothing(XDR*, ...) { return TRUE; }

// A C string of libtirpc's type: it reads, but does not say so.
char* plain(const std::string& text) {
    return const_cast<char*>(text.c_str());
}

}  // namespace

ControlClient::ControlClient(UniqueFd fd, std::string peer_name) : peer_name_(std::move(peer_name)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    netbuf buffer{};
    buffer.maxlen = sizeof address;
    buffer.len = sizeof address;
    buffer.buf = &address;
    CLIENT* client = clnt_vc_create(fd.get(), &buffer, CRICKET_CONTROL, CRICKET_CONTROL_V2, 0, 0);
    if (!client)
        throw ControlError("cannot talk to " + peer_name_ + ": " + clnt_spcreateerror("control plane"));
    clnt_control(client, CLSET_FD_CLOSE, nullptr);
    fd.release();
    client_ = client;
}

ControlClient ControlClient::connect(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        throw ControlError("the socket's path '" + path + "' is too long");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) throw ControlError(std::string("cannot make a socket: ") + std::strerror(errno));
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        throw ControlError("no cricket-server answers at '" + path + "': " + std::strerror(errno));
    ucred peer{};
    socklen_t length = sizeof peer;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        throw ControlError("cannot tell whose server is at '" + path + "': " + std::strerror(errno));
    if (peer.uid != ::geteuid() && peer.uid != 0 && ::geteuid() != 0)
        throw ControlError("the server at '" + path + "' belongs to another user (uid " +
                           std::to_string(peer.uid) + ")");
    ControlClient client(std::move(fd), "the server at '" + path + "'");
    client.greet(greeting_patience);
    return client;
}

// What listens there may be no server of ours and say nothing, and a command is waited for as long as it takes.
void ControlClient::greet(std::chrono::milliseconds patience) {
    CLIENT* client = static_cast<CLIENT*>(client_);
    timeval limit{static_cast<time_t>(patience.count() / 1000), static_cast<suseconds_t>(patience.count() % 1000 * 1000)};
    clnt_control(client, CLSET_TIMEOUT, reinterpret_cast<char*>(&limit));
    require_answer(clnt_call(client, NULLPROC, nothing, nullptr, nothing, nullptr, limit));
}

int ControlClient::fd() const {
    int fd = -1;
    clnt_control(static_cast<CLIENT*>(client_), CLGET_FD, reinterpret_cast<char*>(&fd));
    return fd;
}

ControlClient::~ControlClient() {
    if (!client_) return;
    CLIENT* client = static_cast<CLIENT*>(client_);
    auth_destroy(client->cl_auth);
    clnt_destroy(client);
}

ControlClient::ControlClient(ControlClient&& other) noexcept
    : client_(std::exchange(other.client_, nullptr)), peer_name_(std::move(other.peer_name_)) {}

template <typename Procedure, typename Arguments, typename Result>
void ControlClient::call(Procedure procedure, Arguments* arguments, Result* result,
                         std::chrono::seconds timeout) {
    std::memset(static_cast<void*>(result), 0, sizeof *result);
    CLIENT* client = static_cast<CLIENT*>(client_);
    timeval limit{static_cast<time_t>(timeout.count()), 0};
    clnt_control(client, CLSET_TIMEOUT, reinterpret_cast<char*>(&limit));
    require_answer(procedure(arguments, result, client));
}

void ControlClient::require_answer(int status) const {
    if (status == RPC_SUCCESS) return;
    if (status == RPC_TIMEDOUT) throw ControlError(peer_name_ + " does not answer");
    if (status == RPC_CANTSEND || status == RPC_CANTRECV)
        throw ControlError(peer_name_ + " ended, or closed the connection, before it answered");
    if (status == RPC_PROGUNAVAIL || status == RPC_PROGVERSMISMATCH || status == RPC_PROCUNAVAIL)
        throw ControlError(peer_name_ + " speaks another version of the control protocol");
    if (status == RPC_CANTENCODEARGS) throw ControlError("a name or path is too long to be sent to " + peer_name_);
    throw ControlError(peer_name_ + ": " + clnt_sperrno(static_cast<clnt_stat>(status)));
}

template <typename Procedure, typename Arguments>
OpResult ControlClient::simple(Procedure procedure, Arguments* arguments, std::chrono::seconds timeout) {
    ctl_result result;
    call(procedure, arguments, &result, timeout);
    OpResult converted = from_xdr(result);
    xdr_free(reinterpret_cast<xdrproc_t>(xdr_ctl_result), reinterpret_cast<char*>(&result));
    return converted;
}

template <typename Procedure, typename Arguments>
ReportResult ControlClient::report(Procedure procedure, Arguments* arguments) {
    ctl_report_result result;
    call(procedure, arguments, &result, no_hurry);
    ReportResult converted{from_xdr(result.result), result.report ? result.report : ""};
    xdr_free(reinterpret_cast<xdrproc_t>(xdr_ctl_report_result), reinterpret_cast<char*>(&result));
    return converted;
}

ControlStatus ControlClient::status(std::chrono::seconds timeout) {
    ctl_status result;
    call(ctl_status_2, static_cast<void*>(nullptr), &result, timeout);
    ControlStatus converted = from_xdr(result);
    xdr_free(reinterpret_cast<xdrproc_t>(xdr_ctl_status), reinterpret_cast<char*>(&result));
    return converted;
}

OpResult ControlClient::quiesce(const std::string& target, uint32_t timeout_ms, bool hold) {
    ctl_quiesce_args arguments{plain(target), timeout_ms, hold};
    return simple(ctl_quiesce_2, &arguments);
}

OpResult ControlClient::resume(const std::string& target) {
    char* argument = plain(target);
    return simple(ctl_resume_2, &argument);
}

OpResult ControlClient::snapshot(const std::string& target, const std::string& directory,
                                 const std::string& checkpoint) {
    ctl_snapshot_args arguments{plain(target), plain(directory), plain(checkpoint)};
    return simple(ctl_snapshot_2, &arguments);
}

template <typename Procedure, typename Arguments>
SnapshotState ControlClient::snapshot_call(Procedure procedure, Arguments* arguments) {
    ctl_snapshot_state result;
    call(procedure, arguments, &result, no_hurry);
    SnapshotState converted = from_xdr(result);
    xdr_free(reinterpret_cast<xdrproc_t>(xdr_ctl_snapshot_state), reinterpret_cast<char*>(&result));
    return converted;
}

SnapshotState ControlClient::begin_snapshot(const std::string& target, const SnapshotRequest& request) {
    ctl_snapshot_request arguments{plain(target),        plain(request.directory), plain(request.checkpoint),
                                   plain(request.base),  request.series,           request.live,
                                   request.compress, request.frozen, request.without_gpu};
    return snapshot_call(ctl_snapshot_begin_2, &arguments);
}

SnapshotState ControlClient::wait_snapshot(const std::string& target, uint64_t id) {
    ctl_snapshot_id arguments{plain(target), id};
    return snapshot_call(ctl_snapshot_wait_2, &arguments);
}

SnapshotState ControlClient::snapshot_state(const std::string& target, uint64_t id) {
    ctl_snapshot_id arguments{plain(target), id};
    return snapshot_call(ctl_snapshot_state_2, &arguments);
}

SnapshotState ControlClient::abort_snapshot(const std::string& target, uint64_t id) {
    ctl_snapshot_id arguments{plain(target), id};
    return snapshot_call(ctl_snapshot_abort_2, &arguments);
}

OpResult ControlClient::drop(const std::string& target, bool force, std::chrono::seconds timeout) {
    ctl_drop_args arguments{plain(target), force};
    return simple(ctl_drop_2, &arguments, timeout);
}

template <typename Procedure, typename Arguments>
LoadResult ControlClient::load_call(Procedure procedure, Arguments* arguments) {
    ctl_load_result result;
    call(procedure, arguments, &result, no_hurry);
    LoadResult converted{from_xdr(result.result), from_xdr(result.session)};
    xdr_free(reinterpret_cast<xdrproc_t>(xdr_ctl_load_result), reinterpret_cast<char*>(&result));
    return converted;
}

LoadResult ControlClient::load(const std::string& directory, const std::string& devices) {
    ctl_load_args arguments{plain(directory), plain(devices)};
    return load_call(ctl_load_on_2, &arguments);
}

LoadResult ControlClient::begin_load(const std::string& directory, const std::string& devices, bool without_gpu) {
    ctl_load_args arguments{plain(directory), plain(devices)};
    return load_call(without_gpu ? ctl_load_without_gpu_2 : ctl_load_begin_2, &arguments);
}

LoadResult ControlClient::finish_load(const std::string& target) {
    char* argument = plain(target);
    return load_call(ctl_load_finish_2, &argument);
}

OpResult ControlClient::guard(const std::string& directory) {
    char* argument = plain(directory);
    return simple(ctl_guard_2, &argument);
}

OpResult ControlClient::criu_dumped(int32_t criu, int32_t program, bool stays) {
    ctl_criu_args arguments{criu, program, stays};
    return simple(ctl_criu_dumped_2, &arguments);
}

OpResult ControlClient::criu_restores(int32_t criu) { return simple(ctl_criu_restores_2, &criu); }

OpResult ControlClient::keep(const std::string& target) {
    char* argument = plain(target);
    return simple(ctl_keep_2, &argument);
}

OpResult ControlClient::criu_restored(int32_t criu, int32_t program, bool let_go) {
    ctl_criu_args arguments{criu, program, let_go};
    return simple(ctl_criu_restored_2, &arguments);
}

ReportResult ControlClient::survey(const std::string& target) {
    char* argument = plain(target);
    return report(ctl_survey_2, &argument);
}

ReportResult ControlClient::check(const std::string& target, const std::string& directory) {
    ctl_check_args arguments{plain(target), plain(directory)};
    return report(ctl_check_2, &arguments);
}

}  // namespace cricket::server
