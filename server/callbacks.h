// SPDX-License-Identifier: MIT
// Callbacks from the driver into the application (the other end: client/callbacks.h).
//
// A handler that hands a function to the driver gives it host_function() or stream_callback() with a context from here,
// made for the id that the client sent. The driver calls it in a thread of its own, where it blocks until the application's
// function has returned: so the stream goes on no sooner. The id is shown to the client in the server page and the end is
// read from the client page; nothing of that passes the executor, which may be blocked in the driver by work behind the
// callback. Callbacks are shown one after the other, in the order in which the driver called, each with a ticket that counts
// up over the session's life: the client says which ticket it has done last, so that each runs exactly once, whatever is
// dumped, killed and restored in between.
//
// Locks: mutex_, held over no call to the driver. The pages are touched with it held only, since they go when the client
// does.
#pragma once

#include <cuda.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cricket/wire.h"

namespace cricket::server {

class Callbacks {
  public:
    enum class Use { Once, Repeated };

    // The context to hand to the driver together with one of the functions below. Once: it is gone after the driver's
    // call. Repeated: the same context for the same id each time, until forget().
    void* context(uint64_t id, Use use);
    // Of the driver's call of the context, 0 until it comes. What was before the callback is known to be over by an
    // application that has begun it (ClientPage::callback_begun).
    std::shared_ptr<const std::atomic<uint64_t>> ticket(void* context);
    // The driver refused it, or will not call again.
    void forget(void* context);
    void forget_repeated(uint64_t id);
    // The id of a context that the driver gave back; 0: none of ours.
    uint64_t id_of(void* context);

    // What the driver calls; they block until the application's function has returned.
    static void CUDA_CB host_function(void* context);
    static void CUDA_CB stream_callback(CUstream stream, CUresult status, void* context);
    // For callbacks that nobody waits for: `data` (cut at wire::callback_data_bytes) goes along.
    static void tell(void* context, uint32_t value, const void* data, size_t bytes);

    // Whether a callback is due and not yet done.
    bool pending() const { return pending_.load(std::memory_order_acquire); }
    // Its description, for a message: which it is and how many there are. Empty when there is none.
    std::string describe_pending();

    // The client's end, as long as it is attached. Empty, or why its image does not fit.
    std::string refusal(const wire::ClientPage& client);
    void attach(const wire::ClientPage& client, wire::ServerPage& server);
    void detach();
    // Looks whether the client has done what is shown. True when something moved.
    bool collect();

    // The same by hand, for a client that is not attached yet: show_front() puts the next callback into its page and
    // returns the ticket, finish_front() lets the driver go on; note_done() catches up with what it had done.
    uint64_t show_front(wire::ServerPage& server);
    void finish_front();
    void note_done(uint64_t ticket);

    // Tickets done so far: part of a snapshot, which holds no pending callbacks.
    uint64_t done();
    void set_done(uint64_t ticket);

  private:
    struct Entry {
        Callbacks* owner;
        uint64_t id;
        Use use;
        std::shared_ptr<std::atomic<uint64_t>> ticket = std::make_shared<std::atomic<uint64_t>>(0);
    };
    struct Due {
        uint64_t ticket, id;
        uint32_t value;
        std::vector<std::byte> data;
    };
    uint64_t push_locked(const Entry& entry, uint32_t value, const void* data, size_t bytes);
    void run(Entry* entry, uint32_t value);
    void show_locked(wire::ServerPage* server);
    void finish_locked();
    bool collect_locked();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<Entry*, std::unique_ptr<Entry>> entries_;
    std::map<uint64_t, Entry*> repeated_;
    std::deque<Due> due_;
    std::atomic<bool> pending_{false};  // due_ is not empty: asked with every call
    uint64_t last_ticket_ = 0, done_ = 0;
    const wire::ClientPage* client_ = nullptr;
    wire::ServerPage* server_ = nullptr;
};

}  // namespace cricket::server
