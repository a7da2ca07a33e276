// SPDX-License-Identifier: MIT
// The worker's end of the ring: reads records, refuses what does not hold up, writes replies. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

#include "channel.h"

namespace cricket::ring {

// A client that writes what no client of ours would; ends the session's attachment.
class BadRecord : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

struct Record {
    uint64_t seq = 0;
    uint32_t slot = wire::no_slot;
    uint64_t reply_offset = 0, reply_bytes = 0;
    uint64_t up_end = 0;
    std::span<const std::byte> message;  // in the ring, read-only, until advance()
    uint64_t end = 0;                    // ring position behind it
};

class RingServer {
  public:
    RingServer() = default;
    explicit RingServer(Channel channel) : channel_(std::move(channel)) {}

    // Positions the reader behind `executed`: walks from hello.first_offset. Returns what refuses the attach.
    wire::Refusal position(const wire::Hello& hello, uint64_t executed, std::string* why);

    // After position(): fills the server page for a client that is about to be answered.
    void begin(uint64_t executed, uint64_t up_end);

    // The next record, or nothing. Throws BadRecord.
    std::optional<Record> peek();
    // Whether one that was posted and is not executed is `such`. Throws BadRecord.
    bool any(const std::function<bool(const Record&)>& such);
    // Fetches what follows the record while it is being executed: the client's core has it still.
    void fetch_after(const Record& record) const {
        constexpr uint64_t lines = 4, line = 64;
        if (known_tail_ - record.end < lines * line) return;  // it may be being written
        for (uint64_t i = 0; i < lines; ++i)
            __builtin_prefetch(channel_.ring() + ((record.end + i * line) & (channel_.geometry().ring_bytes - 1)));
    }
    // The record was executed. The client, which may reuse its space, is told after a few of them, or once all that was
    // seen in the ring is executed: each telling takes the cache line from a client that waits for space.
    void advance(const Record& record);
    // The device is done with the up buffer up to here.
    void drained(uint64_t up_end);

    // Where a reply of at most `capacity` bytes may be written for this record.
    std::byte* reply_place(uint32_t slot, uint64_t reply_offset, uint64_t reply_bytes, uint32_t* capacity);
    void publish(uint32_t slot, uint64_t seq, const std::byte* place, uint32_t bytes);

    // Sleeps until a record may be there, somebody calls wake(), or the time is over.
    void sleep(uint64_t timeout_us);
    void wake();

    bool empty() const { return channel_.client_page().tail.load(std::memory_order_acquire) == at_; }
    uint64_t acked_seq() const { return channel_.client_page().acked_seq.load(std::memory_order_acquire); }
    Channel& channel() { return channel_; }

  private:
    std::optional<Record> read_at(uint64_t* at);
    void tell_progress();
    void tell_head();
    static constexpr unsigned tell_every = 32;  // records: well below what fits the ring
    Channel channel_;
    uint64_t at_ = 0;
    uint64_t known_tail_ = 0;  // the client's tail as last read
    unsigned untold_ = 0;      // records executed since the client was told
    uint64_t next_seq_ = 1;
};

}  // namespace cricket::ring
