// SPDX-License-Identifier: MIT
// A session's links of the JIT linker, by number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

namespace cricket::server {

class JitOptions;

struct Link {
    std::unique_ptr<JitOptions> options;  // the driver writes into them until the link is destroyed
    std::span<const std::byte> cubin;     // the driver's, likewise
    uint64_t steps = 0;                   // in the journal
};
using Links = std::map<uint64_t, std::shared_ptr<Link>>;

}  // namespace cricket::server
