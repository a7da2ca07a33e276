// SPDX-License-Identifier: MIT
// What an application asked for that we do not have.
#pragma once

namespace cricket::client {

class Session;

// `caller`: an address in the code that asked, if known. `function`: a name that need not outlive the call.
void note_unsupported(const char* function, const char* reason, const void* caller);
// What was asked for before there was a session.
void report_unsupported(Session& session);
void forget_unsupported_in_child();

}  // namespace cricket::client
