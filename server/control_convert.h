// SPDX-License-Identifier: MIT
// Between the control program's XDR structs (malloc'ed, freed by XDR) and ours.
#pragma once

#include <string>

#include "control_service.h"
#include "server/control.h"  // generated from control.x

namespace cricket::server {

// A malloc'ed copy, cut at `limit` bytes so that it can always be encoded.
char* to_xdr(const std::string& text, size_t limit);
void to_xdr(const OpResult& from, ctl_result* to);
void to_xdr(const SessionStatus& from, ctl_session* to);
void to_xdr(const ControlStatus& from, ctl_status* to);
void to_xdr(const SnapshotState& from, ctl_snapshot_state* to);

OpResult from_xdr(const ctl_result& from);
SnapshotState from_xdr(const ctl_snapshot_state& from);
SnapshotRequest from_xdr(const ctl_snapshot_request& from);
SessionStatus from_xdr(const ctl_session& from);
ControlStatus from_xdr(const ctl_status& from);

}  // namespace cricket::server
