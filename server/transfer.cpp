// SPDX-License-Identifier: MIT
#include "transfer.h"

#include <cstdlib>

#include "session.h"

namespace cricket::server {
namespace {

// Below this a copy out of unregistered memory costs the driver less than an event that says when a registered
// buffer is free again. It reads it with our core, and the bytes are in the application's core's cache.
constexpr uint64_t copied_at_once = 8 * 1024;

bool in_message(const rpc::Bulk& data) {
    return data.where == rpc::Bulk::Where::Inline || data.where == rpc::Bulk::Where::None;
}

}  // namespace

CUresult answer_after(Call& call, CUstream stream) {
    if (call.session.captures.capturing(stream)) return CUDA_SUCCESS;
    CUresult status;
    call.wait_for = call.session.await(stream, &status, call.done);
    return status;
}

const void* transfer_source(Call& call, const rpc::Bulk& data) {
    const bool small = data.where == rpc::Bulk::Where::Shared && data.size <= copied_at_once;
    return small ? call.session.up_pageable(data.offset, data.size) : call.read(data);
}

// The memory of a node must outlive the call. The client sends nothing else, unless a capture began meanwhile.
bool outlives_call(Call& call, const rpc::Bulk& data, CUstream stream) {
    return data.where == rpc::Bulk::Where::Host || !call.session.captures.captured(stream);
}

CUresult transfer_source_given(Call& call, const rpc::Bulk& data, CUstream stream) {
    const bool staged = data.where == rpc::Bulk::Where::Fetched ||
                        (data.where == rpc::Bulk::Where::Shared && data.size > copied_at_once);
    if (!staged) return CUDA_SUCCESS;
    CUevent event = call.session.record(stream);
    if (!event) return call.driver.cuStreamSynchronize(stream);
    call.session.up_in_use(event);
    return CUDA_SUCCESS;
}

void* transfer_target(Call& call, const rpc::Bulk& data, rpc::Bulk* result) {
    if (!in_message(data)) return call.write(data);
    if (data.size > rpc::max_blob_bytes) return nullptr;
    void* memory = std::malloc(data.size);
    if (memory)
        *result = {rpc::Bulk::Where::Inline, 0, data.size, {memory, static_cast<uint32_t>(data.size), true, true}};
    return memory;
}

CUresult transfer_target_given(Call& call, const rpc::Bulk& data, CUstream stream) {
    if (in_message(data)) return call.driver.cuStreamSynchronize(stream);
    if (data.where != rpc::Bulk::Where::Host || call.session.captures.capturing(stream)) return CUDA_SUCCESS;
    return call.session.copied_to_host({{data.offset, data.size}}, stream);
}

}  // namespace cricket::server
