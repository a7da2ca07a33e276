// SPDX-License-Identifier: MIT
// Words of host memory that the device writes when a stream's work is over: seen by reading them, where
// asking the driver about a completed event takes it 0.6 us longer (tests/bench/where-time-goes.md). Each
// stands beside an event, which knows what a word cannot tell: that the work failed. Where nothing else is to be said,
// the word is that of the call's reply slot: the application sees it itself, before our answer would reach it.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "driver_table.h"

namespace cricket::server {

class Completions {
  public:
    using Place = std::atomic<uint32_t>;
    // Where the client itself sees that its call is over: in the channel, which it may write to as well. Calls use a slot one
    // after the other, so a later one's number says that this one is over too.
    struct Done {
        std::atomic<uint64_t>* place = nullptr;  // null: the client does not look, or must be told more than that
        uint64_t seq = 0;
    };
    // Owned by whoever asked for it, until give().
    struct Word {
        Place* place = nullptr;  // null, and no `done` either: there is none, ask the event
        uint32_t value = 0;
        Done done{};
        explicit operator bool() const { return place || done.place; }
        bool written() const {
            if (done.place) return done.place->load(std::memory_order_acquire) >= done.seq;
            return place && place->load(std::memory_order_acquire) == value;
        }
    };

    explicit Completions(const DriverTable& driver) : driver_(driver) {}

    // Registers memory in the current context for the device to write to, at the address that it has here. False: it is not.
    static bool show_device(const DriverTable& driver, std::byte* memory, uint64_t bytes);
    // A word that is written when `stream` has done all it has now. `context` is current, has the stream and
    // no captures. None where it cannot be had.
    Word behind(uint64_t context, CUstream stream);
    void give(Word word);
    // Before the driver ends it. A context that cannot be used any more has no words either.
    void context_ends(uint64_t context);
    // It has ended: what was still awaited in it is never written.
    void context_gone(uint64_t context) { pages_.erase(context); }

  private:
    static constexpr uint64_t page_bytes = 4096;
    static constexpr uint64_t word_stride = 64;  // a cache line for each
    static constexpr unsigned words = page_bytes / word_stride;
    struct Page {
        std::byte* base = nullptr;  // null: this context has none
        std::vector<Place*> idle;
        std::vector<Word> late;  // given back, because their event was seen first, and not written yet when last looked at
        void look_at_late();
    };
    Page make();

    const DriverTable& driver_;
    std::map<uint64_t, Page> pages_;  // by context
    uint64_t made_ = 0;  // pages, which are never unmapped
    std::vector<std::byte*> spare_;
};

// What an answer waits for. Whoever holds it gives it back: Session::give().
struct Awaited {
    CUevent event = nullptr;
    Completions::Word word{};
    Awaited(CUevent event = nullptr, Completions::Word word = {}) : event(event), word(word) {}
    explicit operator bool() const { return event; }
};

}  // namespace cricket::server
