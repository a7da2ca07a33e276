// SPDX-License-Identifier: MIT
// call() hands out a result whose blobs lie in shared memory; whoever calls gives it back, also when it
// failed.
#pragma once

#include "calls.h"

namespace cricket::client {

struct ReplyGuard {
    ReplyGuard() = default;
    ~ReplyGuard() { release_reply(); }
    ReplyGuard(const ReplyGuard&) = delete;
    ReplyGuard& operator=(const ReplyGuard&) = delete;
};

}  // namespace cricket::client
