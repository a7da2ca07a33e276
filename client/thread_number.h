// SPDX-License-Identifier: MIT
// The number by which the server knows a thread of the application: it has the thread's default stream under it. A thread that
// ends leaves its number to a later one, so that threads which come and go cost the server no more than those that are there at once.
#pragma once

#include <cstdint>

namespace cricket::client {

uint32_t thread_number();

}  // namespace cricket::client
