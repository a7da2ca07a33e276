// SPDX-License-Identifier: MIT
// Ids of chunks of device memory, found on the device at the speed of its memory (hash/chunk_hash.ptx). The kernel is loaded
// as one of the application's would be, and journalled: it moves what the driver places later, so a restore repeats it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "executor.h"
#include "session.h"
#include "snapshot_chunks.h"

namespace cricket::server {

struct HashedChunk {
    uint64_t address = 0;  // a multiple of 16
    uint32_t bytes = 0;    // at least 1
    uint32_t zero = 0;
};

// Ids of chunks that are all in memory of the context's device, readable in that context, in the order given. On the
// executor's thread, the session standing. Empty, or why there are none.
// No chunks: the kernel is loaded.
std::string hash_chunks(Session& session, Executor& executor, uint64_t context, std::span<const HashedChunk> chunks,
                        std::span<ContentId> ids);

}  // namespace cricket::server
