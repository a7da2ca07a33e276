// SPDX-License-Identifier: MIT
// One call and its reply through a memfd of its own (cricket/nvml_wire.h).
#pragma once

#include <rpc/rpc.h>

#include <cstdint>

namespace cricket::nvml {

struct Call {
    uint32_t procedure = 0;
    bool (*encode)(XDR* xdrs, void* user) = nullptr;
    bool (*decode)(XDR* xdrs, void* user) = nullptr;
    void* user = nullptr;
    bool wait_for_server = true;  // else a server that is not there is a failure at once
};

enum class Outcome {
    Done,           // decoded
    NoServer,       // logged
    NotEncodable,   // nothing was sent
    OutOfMemory,
    NoProcedure,    // the server is of another age
    Broken,         // the server's NVML process died of it several times, or its reply makes no sense; logged
};

// May be called from any thread; errno is kept. Takes as long as the server does.
Outcome exchange(const Call& call);

}  // namespace cricket::nvml
