// SPDX-License-Identifier: MIT
// A session as it stood at one moment: everything small copied, and a list of the large that is still where it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>
#include <vector>

#include "executor.h"
#include "host_aside.h"
#include "session.h"
#include "snapshot_store.h"

namespace cricket::server {

// Device memory that belongs at `offset` of a part. Its chunks are cut at the same multiples in every snapshot of a series.
struct CapturedRange {
    uint64_t address = 0, bytes = 0;
    uint32_t part = 0;
    uint64_t offset = 0;
    uint64_t context = 0;  // whose it is; 0: any that is on the device
    int32_t device = 0;
    size_t first_id = 0;   // where its chunks' ids begin, once they are known
};

// Memory of the worker's own that belongs at `offset` of a part.
struct CapturedPiece {
    std::span<const std::byte> data;
    uint32_t part = 0;
    uint64_t offset = 0;
    const ContentId* ids = nullptr;  // of its chunks, where they are known
};

struct Capture {
    SnapshotInfo info;
    nlohmann::json meta;
    std::vector<CapturedRange> ranges;
    std::vector<CapturedPiece> host;  // changes as soon as a client comes back
    std::vector<JournalEntry> journal;
    std::vector<std::pair<uint64_t, KeptReply>> replies;
    std::vector<CapturedPiece> images;  // of the journal's attachments
    std::shared_ptr<HostAside> arrays;  // what was in arrays, written with the rest
    std::vector<CapturedPiece> array_pieces;
    std::vector<std::pair<uint64_t, CUdeviceptr>> mapped;  // physical memory by number, and where it was mapped for this
    uint64_t device_bytes() const {
        uint64_t sum = 0;
        for (const CapturedRange& range : ranges) sum += range.bytes;
        return sum;
    }
};

// On the executor's thread, while nothing of the session moves; small parts go to the writer at once. Throws
// std::runtime_error naming what cannot be saved.
void capture_session(Session& session, Executor& executor, bool coordinated, bool without_gpu, SnapshotWriter& writer,
                     Capture& capture);
// Takes back what capturing mapped; on the same thread, once the ranges have been read or copied.
void unmap_captured(Session& session, Capture& capture);
// What can be written after the session goes on: completes the meta data and lists the images. On any thread.
void describe_calls(Capture& capture, SnapshotWriter& writer);

}  // namespace cricket::server
