// SPDX-License-Identifier: MIT
// Large images are not copied through the ring: the server gets the file that the application has mapped, or a memfd.
#pragma once

#include <cstdint>

namespace cricket::client {

class Session;

// Hands an image to the server. False when it has to travel with its call: it is small, the transport has no descriptors,
// or the server does not take it.
bool offer_image(Session& session, const void* image, uint64_t size, uint64_t* id);

}  // namespace cricket::client
