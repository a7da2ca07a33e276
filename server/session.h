// SPDX-License-Identifier: MIT
// All that a worker holds for its session: the driver, objects, memory, and where the log of calls stands. Used by
// the executor thread only.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "callbacks.h"
#include "captures.h"
#include "completions.h"
#include "cricket/wire.h"
#include "device_heaps.h"
#include "device_memory.h"
#include "device_resources.h"
#include "device_text.h"
#include "driver_table.h"
#include "environment.h"
#include "fetcher.h"
#include "graph_history.h"
#include "graph_memory.h"
#include "graph_targets.h"
#include "host_memory.h"
#include "images.h"
#include "journal.h"
#include "links.h"
#include "loading.h"
#include "managed_memory.h"
#include "memory_pools.h"
#include "objects.h"
#include "rpc/ring/message.h"
#include "rpc/ring/ring_server.h"
#include "user_objects.h"
#include "virtual_memory.h"

namespace cricket::server {

struct Call;

// A copy into host memory of which the application has not been told that it is over.
struct CopyToHost {
    std::vector<HostRange> ranges;  // a graph has more than one
    CUstream stream = nullptr;
    CUevent event = nullptr;    // null once it completed
    uint64_t told_by = 0;       // the call whose reply tells the application; 0: none yet
    std::shared_ptr<const std::atomic<uint64_t>> callback;  // the ticket of one behind it: once the application begins it, it knows
    bool in_parts = false;      // stands for earlier copies too, or for a graph's: some may be over before the event
    bool told_by_callback(uint64_t begun) const { return callback && *callback && *callback <= begun; }
};

// What a snapshot that is being written while the session goes on has to know of it; on the executor's thread.
class SnapshotHooks {
  public:
    virtual ~SnapshotHooks() = default;
    // Device memory is short: gives some of the snapshot's back, waiting for it. False: it has none.
    virtual bool make_room() = 0;
    virtual uint64_t held_aside(CUdevice device) = 0;  // bytes that are free but for the snapshot
    virtual void context_ends(uint64_t context) = 0;   // before the driver ends it
};

class Session {
  public:
    explicit Session(const DriverTable& driver);

    // cuInit, the reserved ranges. Empty on success, else the reason.
    std::string open();

    const DriverTable& driver;
    Objects objects;
    Journal journal;
    Loading loading;
    Images images;
    Links links;
    DeviceMemory device_memory;
    VirtualMemory virtual_memory;
    MemoryPools pools;
    HostMemory host_memory;
    ManagedMemory managed;
    Callbacks callbacks;
    std::map<uint64_t, uint64_t> callback_ids;  // registered log and notification callbacks, by number
    DeviceText device_text;
    // Makes the driver write what kernels have printed and looks how much that is. `done`: an event that has completed;
    // `idle`: a stream whose work is over, if one is known; `status`: what the device answered.
    void flush_text(CUevent done, CUstream idle, CUresult status);

    wire::Token token{};
    uint64_t epoch = 0, previous_epoch = 0;
    uint64_t attached_at = 0;  // `executed` when the epoch began
    uint64_t executed = 0;     // every call up to this one has been executed
    uint64_t up_end = 0;       // up-buffer position behind the last executed call's data
    std::string program;
    // Uses by the application of functions that the client does not have: (function, library that called) -> times.
    std::map<std::pair<std::string, std::string>, uint64_t> unsupported;
    Variables environment;                  // the application's CUDA_* variables
    CUresult driver_result = CUDA_SUCCESS;  // of cuInit
    int32_t client_pid = 0;    // of the attached process, or the last one; in the server's pid namespace

    // Contexts.
    CUresult make_current(uint64_t number);       // 0: none
    uint64_t current() const { return current_; }
    // Whose is what is made in a context: what is made in a green one is its device's primary context's, but for streams.
    uint64_t home(uint64_t context) const {
        const auto found = homes_.find(context);
        return found == homes_.end() ? context : found->second;
    }
    uint64_t current_home() const { return homes_.empty() ? current_ : home(current_); }
    void forget_current() { current_known_ = false; }  // somebody else may have changed it
    bool any_context();                           // makes some living context current; false when there is none
    // Whether any context's device work is not over. Of what cannot be asked it is not said; `all_told` is false then.
    bool busy(bool* all_told = nullptr);
    // Whether all contexts' work is over for certain; and whether that can be told at all.
    bool idle();
    bool can_tell_idle() const;
    CUresult synchronize_all();                   // every context's device work; the first error
    std::map<CUdevice, unsigned> primary_retained;
    std::map<CUdevice, uint64_t> primary_numbers;  // once retained, for ever
    struct GreenContext {
        CUdevice device;
        uint64_t context;  // the number of its CUcontext, once asked for
    };
    std::map<uint64_t, GreenContext> green_contexts;  // by number
    DeviceResources resources;
    DeviceHeaps device_heaps;
    // Of a checkpoint without the GPU: nothing that the application had in these devices' primary contexts is there any more.
    // Calls in them answer CUDA_ERROR_CONTEXT_IS_DESTROYED until the application resets the device.
    std::set<CUdevice> lost_devices;
    bool contexts_lost = false;  // there may be threads whose current context was not saved
    std::set<CUdevice> empty_primaries;            // released or reset: the next retain makes it anew
    std::map<uint64_t, CUdevice> context_devices; // living contexts and retained primaries, by number
    CUdevice current_device();
    CUstream thread_stream(uint32_t thread);
    void note_created(const Effect& effect);
    void forget_objects(const std::vector<uint64_t>& gone);
    void forget_object(uint64_t number);  // that went without a call of its own
    void forget_destroyed();              // user objects whose last reference went
    void forget_context(uint64_t number);
    void end_own_streams(uint64_t context);  // streams outlive a green context and can then not be destroyed
    void at_home(uint64_t context, uint64_t home) { homes_[context] = home; }

    // Posted errors, until a reply carries them.
    void note_posted(CUresult result, uint64_t seq);
    rpc::PostedError take_posted() { return std::exchange(posted_, {}); }
    const rpc::PostedError& posted() const { return posted_; }
    void set_posted(const rpc::PostedError& posted) { posted_ = posted; }
    // The thread whose copy in pieces has had one, posted, that could not be fetched: the answer to its last piece says so,
    // and no other. 0: none.
    uint32_t refused_fetch = 0;

    // Streams and events of our own (session_streams.cpp), used again and again.
    CUevent take_event();  // of the current context's home; null when it cannot be had
    void give_event(CUevent event);
    bool event_exists(CUevent event) const { return event_contexts_.contains(event); }  // it has not gone with its context
    // An event that completes when `stream`, of whatever context, has done all it has now; null: `status` says why.
    CUevent record(CUstream stream, CUresult* status = nullptr);
    // The same, for an answer that waits for it. The device tells `done` where it can.
    Awaited await(CUstream stream, CUresult* status = nullptr, const Completions::Done& done = {});
    void give(Awaited awaited);
    // A non-blocking stream of our own in the current context, free for an event wait: waits on it would queue up
    // behind each other, so each call gets the next of a few; null when it cannot be had.
    CUstream waiting_stream();
    // An event that completes when all work so far of the current context has; null when it cannot be had, as while there
    // are captures: it would become part of them.
    CUevent all_work();
    Awaited await_all_work(const Completions::Done& done = {});
    // Without an event: waits until whoever could use memory of the current context is done. Not while there are captures.
    CUresult synchronize_home();
    void settle_all_work();  // either way
    // What the driver does with a call that a capture forbids.
    CUresult refused_by_capture();
    // Freed while there are captures: given back to device_memory after the last one, when the device is done.
    void reclaim_after_captures(CUdeviceptr address) { freed_later_.push_back({current_home(), address}); }
    void reclaim_after(CUevent event, CUdeviceptr address) { freed_later_.push_back({current_home(), address, event}); }
    void captures_ended();

    // The channel's bulk buffers (session_channel.cpp). Null: plain transport or nobody attached.
    ring::RingServer* ring = nullptr;
    void* up_data(uint64_t offset, uint64_t bytes);              // registered where possible
    const void* up_pageable(uint64_t offset, uint64_t bytes);    // the same bytes, never registered: copied at once
    void* down_data(uint64_t offset, uint64_t bytes);
    Fetcher* fetcher = nullptr;  // null: the client brings its data itself
    void channel_arrived();                                  // after `ring` was set
    void channel_leaves();                                   // before it goes
    // The device reads up-buffer data of the call being executed until `event` (owned from here on) completes.
    void up_in_use(CUevent event);
    bool drain_up(bool wait);                                // true when something was drained

    // Device memory that an answered call gave back (Call::reclaim), whatever kind it is of; or unused_memory: what
    // pools hold above their thresholds.
    void reclaim(CUdeviceptr address);
    static constexpr CUdeviceptr unused_memory = 1;
    void share_through(Exchange* exchange);  // with the server's other sessions
    std::set<uint64_t> shared_events;        // that another session has, or had first
    // Why a snapshot cannot hold what is shared with other sessions; empty when nothing is.
    std::string shared_refusal() const;

    SnapshotHooks* snapshot_hooks = nullptr;
    void context_ends(uint64_t context);  // before the driver ends it

    std::deque<CopyToHost> copies_to_host;
    // Work that copies to these ranges is in the stream now.
    CUresult copied_to_host(std::vector<HostRange> ranges, CUstream stream, bool in_parts = false);
    // What the copies wrote of which the application, which has begun the callback with this ticket last, does not know that
    // they are over; it must leave those ranges alone. For HostMemory::adopt().
    std::vector<HostRange> untold_copies(uint64_t callback_begun);
    GraphTargets graph_targets;
    Captures captures;
    // Graphs that belong to nodes and have numbers: child graphs, bodies of conditional nodes.
    std::map<CUgraphNode, std::vector<uint64_t>> graphs_in_nodes;
    // What the driver does not tell of conditional nodes; handles by the number of their graph.
    struct ConditionalNode {
        CUgraphNodeParams params{};  // as messages have them
        std::vector<CUgraph> bodies;
    };
    std::map<CUgraphNode, ConditionalNode> conditional_nodes;
    std::map<uint64_t, std::vector<ConditionalHandle>> conditional_handles;
    GraphMemory graph_memory;
    std::vector<char> graph_text;  // of cuGraphDebugDotPrint, while it is being fetched
    UserObjects user_objects;
    GraphHistory graph_history;

    // Events' times across a restore (serve_sync.cpp).
    struct EventTime {
        double ms = 0;      // since the session began, of the last record before the restore
        bool old = false;   // recorded in an earlier life and not since
        bool recorded = false;
    };
    std::map<uint64_t, EventTime> event_times;
    CUevent time_base = nullptr;
    double time_base_ms = 0;

  private:
    struct PinnedPart {
        uint64_t offset = 0;  // in the memfd
        bool pinned = false;
    };
    Awaited behind_all_work(bool with_word, const Completions::Done& done);
    // A word behind what the stream of the current context has now, where one is of use. `all`: and behind all its other work.
    Completions::Word word_behind(CUstream stream, const Completions::Done& done = {}, bool all = false);
    // Whether the end of what the stream has now (`all`: of everything) tells the application of all copies to its memory of
    // which it has not been told.
    bool tells_of_copies(CUstream stream, bool all) const;
    bool device_sees_slots();  // of the channel, in the current context
    void let_go_of_slots();
    void pin_part(uint64_t area, uint64_t area_bytes, uint64_t offset);
    CUresult synchronize_streams(uint64_t context);
    Completions completions_;
    uint64_t slots_context_ = 0;  // where the channel's slots are registered, or could not be; 0: not tried
    bool slots_shown_ = false;
    unsigned slots_awaited_ = 0;  // words in them that may not be written yet
    uint64_t current_ = 0;
    bool current_known_ = false;
    std::map<uint64_t, uint64_t> homes_;  // of green contexts, those that are gone too
    std::map<std::pair<uint64_t, uint32_t>, CUstream> thread_streams_;
    rpc::PostedError posted_;
    std::map<uint64_t, std::vector<CUevent>> idle_events_;  // by context
    std::map<CUevent, uint64_t> event_contexts_;
    // Streams that the legacy stream does not wait for, by context, and a stream of ours that can wait for them all.
    std::map<uint64_t, std::set<uint64_t>> non_blocking_;
    std::map<uint64_t, CUstream> joins_;
    std::map<uint64_t, CUevent> busy_markers_;  // all_work() of a context that busy() is waiting for
    static constexpr unsigned waiters_per_context = 16;
    struct Waiters {
        CUstream streams[waiters_per_context] = {};
        unsigned next = 0;
    };
    std::map<uint64_t, Waiters> waiters_;
    struct UpUse {
        uint64_t end;
        CUevent event;
    };
    std::deque<UpUse> up_uses_;
    struct Freed {
        uint64_t context;
        CUdeviceptr address;
        CUevent event = nullptr;
    };
    std::vector<Freed> freed_later_;
    std::vector<PinnedPart> pinned_parts_;
    std::byte* pageable_up_ = nullptr;
};

}  // namespace cricket::server
