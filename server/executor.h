// SPDX-License-Identifier: MIT
// Executes a session's log of calls: decodes, dispatches, journals, answers; keeps replies until the client has them.
// One thread. Calls that wait for the device do not hold up the others: their replies are sent when their event is
// complete, while the log goes on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <vector>

#include "call.h"
#include "dispatch.h"
#include "rpc/ring/ring_server.h"
#include "session.h"

namespace cricket::server {

// A reply that the client may still ask for, and where it lies in the channel.
struct KeptReply {
    uint32_t slot = wire::no_slot;
    uint64_t reply_offset = 0, reply_bytes = 0;  // as the record gave them
    bool sent = false;
    std::vector<std::byte> message;              // once sent
    uint64_t down_offset = 0, down_bytes = 0;    // bulk data that belongs to it
    std::vector<std::byte> down;                 // only while no channel holds it (after a restore)
};

class Executor {
  public:
    explicit Executor(Session& session);

    // Executes the next call of the ring if there is one. Throws ring::BadRecord.
    bool step(ring::RingServer& ring);
    // Sends replies whose events have completed, lets go of up-buffer space. True when something moved.
    bool poll(ring::RingServer* ring);
    // The client has ended in order: nothing follows.
    bool said_goodbye() const { return said_goodbye_; }
    // The same, of one that has ended: its goodbye is in the ring, behind calls that will not be executed any more.
    static bool goodbye_is_posted(ring::RingServer& ring);
    // The next call cannot be executed any more: the client ended while its memory was being read.
    bool client_gone() const { return client_gone_; }
    bool waiting() const { return !deferred_.empty(); }
    // Completes every waiting call (the device is waited for). Their replies are sent or kept.
    void finish_waiting(ring::RingServer* ring);

    // One call outside the ring: a replay, or one over a plain transport. `res` is zeroed first. The caller frees
    // args and res with XDR_FREE. Waits for the device where the call does.
    void execute(const DispatchEntry& entry, uint32_t procedure, Call& call, void* args, void* res);

    std::map<uint64_t, KeptReply>& kept() { return kept_; }
    // Before a channel goes: takes the bulk data of kept replies out of it.
    void save_bulk(ring::RingServer& ring);
    // Puts all kept replies into a new channel.
    void republish(ring::RingServer& ring);

  private:
    struct Deferred {
        uint64_t seq;
        Awaited awaited;
        const DispatchEntry* entry;
        std::vector<std::byte> res;
        CUdeviceptr reclaim;
        std::function<void()> then;
    };
    // `seen`: the client may have taken the device's word for it already, so this answer carries nothing else.
    void answer(ring::RingServer* ring, uint64_t seq, const DispatchEntry* entry, void* res, bool seen = false);
    void refuse(ring::RingServer& ring, uint64_t seq, accept_stat status);
    void send(ring::RingServer* ring, uint64_t seq, const KeptReply& kept, std::span<const std::byte> message);
    void complete(ring::RingServer* ring, Deferred& deferred, CUresult status);
    void forget_acked(ring::RingServer& ring);
    void tell_copies(uint64_t seq);

    Session& session_;
    bool said_goodbye_ = false;
    bool client_gone_ = false;
    std::deque<Deferred> deferred_;
    uint64_t asked_ = 0;  // when the events of calls with words were asked for last
    std::map<uint64_t, KeptReply> kept_;
    std::array<uint64_t, wire::max_slots> used_by_{};  // slots: the latest call that has it
    std::vector<std::max_align_t> args_, res_;
    std::vector<std::byte> answer_;  // the reply being encoded
};

}  // namespace cricket::server
