// SPDX-License-Identifier: MIT
#include "control_convert.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace cricket::server {

char* to_xdr(const std::string& text, size_t limit) {
    const size_t length = std::min(text.size(), limit);
    char* copy = static_cast<char*>(std::malloc(length + 1));
    if (!copy) throw std::bad_alloc();
    std::memcpy(copy, text.data(), length);
    copy[length] = '\0';
    return copy;
}

void to_xdr(const OpResult& from, ctl_result* to) {
    to->ok = from.ok;
    to->error = to_xdr(from.error, CTL_TEXT);
}

void to_xdr(const SessionStatus& from, ctl_session* to) {
    static_assert(sizeof to->token == sizeof from.token.bytes);
    to->id = from.id;
    std::memcpy(to->token, from.token.bytes, sizeof to->token);
    to->epoch = from.epoch;
    to->pid = from.pid;
    to->command = to_xdr(from.program, CTL_NAME);
    to->state = static_cast<u_int>(from.state);
    to->device_bytes = from.device_bytes;
    to->host_bytes = from.host_bytes;
    to->calls = from.calls;
    to->started = from.started;
    to->state_since = from.state_since;
    const size_t uses = std::min<size_t>(from.unsupported.size(), CTL_UNSUPPORTED);
    to->unsupported.unsupported_val =
        static_cast<ctl_unsupported*>(std::calloc(std::max<size_t>(uses, 1), sizeof(ctl_unsupported)));
    if (!to->unsupported.unsupported_val) throw std::bad_alloc();
    to->unsupported.unsupported_len = static_cast<u_int>(uses);
    for (size_t i = 0; i < uses; ++i) {
        ctl_unsupported& use = to->unsupported.unsupported_val[i];
        use.function = to_xdr(from.unsupported[i].function, CTL_NAME);
        use.library = to_xdr(from.unsupported[i].library, CTL_NAME);
        use.times = from.unsupported[i].times;
    }
}

void to_xdr(const ControlStatus& from, ctl_status* to) {
    to->pid = from.pid;
    to->release = to_xdr(from.version, CTL_NAME);
    to->driver = to_xdr(from.driver, CTL_PATH);
    const size_t count = std::min<size_t>(from.sessions.size(), CTL_SESSIONS);
    to->sessions.sessions_len = static_cast<u_int>(count);
    to->sessions.sessions_val =
        static_cast<ctl_session*>(std::calloc(std::max<size_t>(count, 1), sizeof(ctl_session)));
    if (!to->sessions.sessions_val) throw std::bad_alloc();
    for (size_t i = 0; i < count; ++i) to_xdr(from.sessions[i], &to->sessions.sessions_val[i]);
}

namespace {

// The same fields on both sides, one by one.
template <class From, class To>
void convert_figures(const From& from, To* to) {
    to->id = from.id;
    to->total = from.total;
    to->done = from.done;
    to->zeros = from.zeros;
    to->shared = from.shared;
    to->written = from.written;
    to->aside_device = from.aside_device;
    to->aside_host = from.aside_host;
    to->streamed = from.streamed;
    to->secured = from.secured;
    to->captured = from.captured;
    to->hashed = from.hashed;
    to->copied = from.copied;
    to->stream = from.stream;
    to->complete = from.complete;
}

}  // namespace

void to_xdr(const SnapshotState& from, ctl_snapshot_state* to) {
    to_xdr(from.error.empty() ? OpResult{} : OpResult::failure(from.error), &to->result);
    to->phase = static_cast<u_int>(from.phase);
    convert_figures(from, to);
}

SnapshotState from_xdr(const ctl_snapshot_state& from) {
    SnapshotState to;
    to.error = from_xdr(from.result).error;
    to.phase = static_cast<SnapshotPhase>(from.phase);
    convert_figures(from, &to);
    return to;
}

SnapshotRequest from_xdr(const ctl_snapshot_request& from) {
    const auto text = [](const char* one) { return std::string(one ? one : ""); };
    return {text(from.directory), text(from.checkpoint), text(from.base), from.series != 0, from.live != 0, from.compress,
            from.frozen != 0, from.without_gpu != 0};
}

OpResult from_xdr(const ctl_result& from) {
    return {from.ok != 0, from.error ? from.error : ""};
}

SessionStatus from_xdr(const ctl_session& from) {
    SessionStatus to;
    to.id = from.id;
    std::memcpy(to.token.bytes, from.token, sizeof to.token.bytes);
    to.epoch = from.epoch;
    to.pid = from.pid;
    to.program = from.command ? from.command : "";
    to.state = static_cast<SessionState>(from.state);
    to.device_bytes = from.device_bytes;
    to.host_bytes = from.host_bytes;
    to.calls = from.calls;
    to.started = from.started;
    to.state_since = from.state_since;
    for (u_int i = 0; i < from.unsupported.unsupported_len; ++i) {
        const ctl_unsupported& use = from.unsupported.unsupported_val[i];
        to.unsupported.push_back({use.function ? use.function : "", use.library ? use.library : "", use.times});
    }
    return to;
}

ControlStatus from_xdr(const ctl_status& from) {
    ControlStatus to;
    to.pid = from.pid;
    to.version = from.release ? from.release : "";
    to.driver = from.driver ? from.driver : "";
    for (u_int i = 0; i < from.sessions.sessions_len; ++i)
        to.sessions.push_back(from_xdr(from.sessions.sessions_val[i]));
    return to;
}

}  // namespace cricket::server
