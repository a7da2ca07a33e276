// SPDX-License-Identifier: MIT
// One call as a handler sees it. Handlers run on the worker's executor thread, one after the other, in the order of
// the session's log, with the call's context current.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <functional>

#include "completions.h"
#include "driver_table.h"
#include "journal.h"
#include "objects.h"
#include "rpc/values.h"

namespace cricket::server {

class Session;

struct Call {
    Session& session;
    const DriverTable& driver;
    Objects& objects;
    rpc::Credential credential;

    // Set by a handler whose answer must wait for the device: the reply is sent when the event has completed, with
    // the event's result as status. The executor owns it.
    Awaited wait_for{};
    // Device memory to give back once wait_for has completed, or at once without one.
    CUdeviceptr reclaim = 0;
    // Bulk data to be kept with the journal entry; set before the call when it is a replay.
    Attachment attachment;
    bool replaying = false;
    // What the handler wrote outside the reply message, kept as long as the reply.
    uint64_t down_offset = 0, down_bytes = 0;
    // Set when the client went away while its memory was being read: the call has not been made, it is sent again.
    bool client_gone = false;
    CUresult read_error = CUDA_ERROR_INVALID_VALUE;  // why read() gave null
    // What else is to be done once wait_for has completed; nothing without it.
    std::function<void()> then{};
    // Where the device may tell the application that the call is over and has succeeded, when nothing but its end is awaited.
    Completions::Done done{};

    // The stream that 0 means in this call: the legacy one, or the calling thread's own.
    CUstream default_stream();
    // Translates a session stream number (0, 1 and 2 included). False when there is no such stream.
    bool stream(uint64_t number, CUstream* out);
    // Where bulk data lies, bounds checked; null when it is not there.
    const void* read(const rpc::Bulk& bulk);
    void* write(const rpc::Bulk& bulk);
    bool wants_reply() const;
    // The context that what the call makes belongs to (Session::home).
    uint64_t home() const;
};

// What the driver says of a green context that is not there: any more, or at all.
CUresult no_green_context(uint64_t number);

}  // namespace cricket::server
