// SPDX-License-Identifier: MIT
// The image that comes with a call.
#pragma once

#include "call.h"

namespace cricket::server {

// Copied out of the channel, or mapped; it becomes the call's attachment. Null when it is not where the call says.
Attachment take_image(Call& call, const rpc::Bulk& bulk);
// What the call answers then.
CUresult no_image(const rpc::Bulk& bulk);

}  // namespace cricket::server
