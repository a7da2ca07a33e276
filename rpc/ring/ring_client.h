// SPDX-License-Identifier: MIT
// The client's end of the ring: posts RPC call messages in one total order, waits for replies, and attaches again
// when the server is gone or the process was restored. What is in the ring stays there until the server has executed
// it, so it can be executed again by a server that has not.
//
// Locks, outermost first: order_ (one record after the other; large copies hold it over all their pieces). Replies are
// awaited without it. Memory: a record is published by a release store of ClientPage::tail; a reply by a release
// store of SlotHeader::seq.
#pragma once

#include <rpc/rpc.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "channel.h"
#include "rpc/values.h"

namespace cricket::ring {

struct Request {
    uint32_t procedure = 0;
    rpc::Credential credential;  // seq is filled in
    xdrproc_t xdr_args = nullptr;
    void* args = nullptr;
    uint64_t reply_bytes = 0;  // bound of the reply message when it may not fit in a slot; taken from the down buffer
};

// A call that was sent and whose reply is awaited.
struct Pending {
    uint64_t seq = 0;
    uint32_t slot = wire::no_slot;
    uint64_t generation = 0;
    uint64_t reply_offset = 0, reply_bytes = 0;  // space in the down buffer that the reply may use
    Pending* previous = nullptr;                 // list of outstanding calls, in order
    Pending* next = nullptr;
    const std::byte* message = nullptr;  // the reply, in shared memory: copy, then confirm(); null: success, the device says
    uint32_t message_bytes = 0;
};

enum class Status {
    Ok,
    Lost,      // the session cannot be had any more; sticky
    TooLarge,  // the message does not fit the ring
};

class RingClient;

// Attaches the channel to a server: sends the hello, waits for the answer, retries as long as the user wants.
class Attacher {
  public:
    // `hello` has the sequence numbers; the rest is the attacher's. False: give up for good.
    virtual bool attach(wire::Hello& hello, Channel& channel) = 0;

  protected:
    ~Attacher() = default;
};

class RingClient {
  public:
    explicit RingClient(Attacher& attacher) : attacher_(attacher) {}

    // Creates the channel and attaches a new session.
    bool open();

    // Sends without waiting for anything but space.
    Status post(const Request& request);
    // Sends if that can be done in this time: no other thread has the order so long, there is space, and a server.
    void post_within(const Request& request, std::chrono::milliseconds patience);
    // Sends; on Ok the caller must finish with release().
    Status begin(const Request& request, Pending* pending);
    // Waits for the reply, attaching again where needed; sets pending->message. `order_held`: by the caller.
    Status wait(Pending* pending, bool order_held = false);
    // To be called after everything of the reply was copied out of shared memory: false when it cannot be believed;
    // then wait() again.
    bool confirm(Pending* pending, bool order_held = false);
    void release(Pending* pending, bool order_held = false);

    // Holds the order over several records (recursive use of post/begin inside is expected: use the *_locked ones).
    std::unique_lock<std::mutex> hold_order() { return std::unique_lock(order_); }
    Status post_locked(const Request& request);
    Status begin_locked(const Request& request, Pending* pending);
    // Takes what the answer needs, for which other threads' records may be let in between: nothing of the call may have been
    // sent, and no data of it have its space, before. begin_locked() does it for a call that is one record without data.
    Status prepare_locked(const Request& request, Pending* pending);
    // For a call that was prepared and is not begun.
    void give_back_locked(Pending* pending);

    // Space in the up buffer for `bytes` (at most up_limit()) contiguous bytes, to be filled before the next record
    // is sent, which frees it once executed. Order held. Null when the session is lost. `window`: the first bytes of the
    // buffer are to do, although they must be waited for.
    std::byte* up_space_locked(uint64_t bytes, uint64_t* offset, uint64_t window = UINT64_MAX);
    uint64_t up_limit() const { return channel_.geometry().up_bytes / 4; }
    // Space in the down buffer; freed by down_free(). Order held. False when the session is lost or, with
    // `wait` false, when there is none right now.
    bool down_alloc_locked(std::unique_lock<std::mutex>& order, uint64_t bytes, uint64_t* offset, bool wait);
    void down_free(uint64_t offset, uint64_t bytes, bool order_held = false);
    std::byte* at(uint64_t offset) const { return channel_.base() + offset; }

    // Attaches again if the server is gone and no other thread holds the order, who would notice.
    void attach_if_free();

    Channel& channel() { return channel_; }
    bool lost() const { return lost_.load(std::memory_order_relaxed); }
    void abandon() { channel_.abandon(); }

  private:
    std::byte* reserve_locked(uint64_t at_least, uint64_t* contiguous);
    Status encode_locked(const Request& request, uint32_t slot, uint64_t reply_offset, uint64_t reply_bytes);
    bool wait_progress_locked(uint64_t wanted_head);
    void ring_doorbell();
    bool reattach(uint64_t seen_generation, bool order_held);
    bool reattach_locked(uint64_t seen_generation);
    void down_free_locked(uint64_t offset, uint64_t bytes);
    uint64_t known_head();
    uint64_t known_up_head();

    Attacher& attacher_;
    Channel channel_;
    std::mutex order_;
    std::condition_variable freed_;  // a slot or down space was freed; with order_
    std::atomic<uint64_t> generation_{0};
    std::atomic<bool> lost_{false};

    uint64_t tail_ = 0;       // bytes posted, our own copy
    uint64_t next_seq_ = 1;
    uint64_t head_ = 0;       // largest head ever read: only true things are read, so it may only grow
    uint64_t up_tail_ = 0;
    uint64_t up_head_ = 0;
    Pending* oldest_ = nullptr;
    Pending* newest_ = nullptr;
    uint64_t free_slots_[wire::max_slots / 64] = {};
    static constexpr uint64_t down_block = 64 * 1024;
    static constexpr unsigned max_down_blocks = 1024;
    uint64_t down_used_[max_down_blocks / 64] = {};
};

}  // namespace cricket::ring
