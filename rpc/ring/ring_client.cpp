// SPDX-License-Identifier: MIT
#include "ring_client.h"

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <chrono>

#include "spinning.h"
#include "message.h"
#include "not_cancelled.h"

namespace cricket::ring {
namespace {

constexpr uint64_t largest_record = 256 * 1024;
constexpr unsigned spin_rounds = 4000;        // some 60 to 180 us
constexpr uint64_t hot_bytes = 1u << 20;      // of the up buffer: stays in the caches of the cores that use it
constexpr uint64_t sleep_us = 20000;          // between looks at whether the server still lives
constexpr uint64_t round8(uint64_t n) { return (n + 7) & ~uint64_t(7); }

// How long a caller spins for its reply before it sleeps; the driver spins for as long as it takes.
constinit SpinBudget rounds;
constinit std::atomic<uint64_t> patience_ns{0};  // after that

template <class Condition>
bool spin_patiently(Condition condition) {
    if (spin_until(condition, static_cast<unsigned>(rounds.next()))) {
        rounds.paid();
        return true;
    }
    rounds.in_vain();
    const uint64_t patience = patience_ns.load(std::memory_order_relaxed);
    if (patience == 0) return false;
    // A difference: where it is restored meanwhile the clock may say less than when it began.
    for (const uint64_t began = now_ns(); now_ns() - began < patience;)
        if (spin_until(condition, 64)) return true;
    return false;
}

}  // namespace

bool RingClient::open() {
    if (!channel_.create()) return false;
    const Cores here = cores();
    patience_ns.store(here == Cores::Many ? 10'000'000 : 0, std::memory_order_relaxed);
    rounds.set(here == Cores::One ? 0 : spin_rounds, here == Cores::Few);
    for (uint32_t i = 0; i < channel_.geometry().slots; ++i) free_slots_[i / 64] |= uint64_t(1) << (i % 64);
    std::unique_lock order(order_);
    return reattach_locked(generation_.load());
}

void RingClient::ring_doorbell() {
    if (!channel_.server_page().sleeping.load(std::memory_order_seq_cst)) [[likely]]
        return;
    auto& doorbell = channel_.client_page().doorbell;
    doorbell.fetch_add(1, std::memory_order_seq_cst);
    futex_wake_all(doorbell);
}

uint64_t RingClient::known_head() {
    head_ = std::max(head_, channel_.server_page().head.load(std::memory_order_acquire));
    return std::min(head_, tail_);
}

uint64_t RingClient::known_up_head() {
    up_head_ = std::max(up_head_, channel_.server_page().up_head.load(std::memory_order_acquire));
    return std::min(up_head_, up_tail_);
}

// Waits until the server moved on: the head to `wanted_head`, or anything at all where that is 0; may return early. Order
// held, because whoever needs space must be next.
bool RingClient::wait_progress_locked(uint64_t wanted_head) {
    auto& client = channel_.client_page();
    auto& server = channel_.server_page();
    const uint64_t generation = generation_.load();
    const uint32_t before = server.progress.load(std::memory_order_acquire);
    const uint64_t head = server.head.load(), up_head = server.up_head.load();
    const auto moved = [&] {
        return wanted_head ? server.head.load() >= wanted_head : server.head.load() != head || server.up_head.load() != up_head;
    };
    if (!wanted_head && spin_until(moved, static_cast<unsigned>(rounds.next()))) return true;
    client.wants_head.store(wanted_head, std::memory_order_relaxed);
    client.wants_progress.store(1, std::memory_order_seq_cst);
    ring_doorbell();  // what the device is done with is found by looking
    if (!moved()) futex_wait(server.progress, before, sleep_us);
    client.wants_progress.store(0, std::memory_order_relaxed);
    if (server.head.load() == head && server.up_head.load() == up_head && !channel_.server_alive())
        return reattach_locked(generation);
    return true;
}

// Contiguous space at the tail, at least `at_least` bytes; pads to the start of the ring where the end is too near.
std::byte* RingClient::reserve_locked(uint64_t at_least, uint64_t* contiguous) {
    const uint64_t size = channel_.geometry().ring_bytes;
    for (;;) {
        if (lost()) return nullptr;
        const uint64_t offset = tail_ & (size - 1);
        const uint64_t to_end = size - offset;
        // The server's line is read only where what is known of it does not do: fetching it takes as long as a small call.
        uint64_t free = size - (tail_ - std::min(head_, tail_));
        if (std::min(to_end, free) < at_least) free = size - (tail_ - known_head());
        if (std::min(to_end, free) >= at_least) {
            *contiguous = std::min(to_end, free);
            return channel_.ring() + offset;
        }
        if (to_end < at_least && free >= to_end) {
            if (to_end >= sizeof(wire::RecordHeader)) {
                auto& pad = *reinterpret_cast<wire::RecordHeader*>(channel_.ring() + offset);
                pad = {};
                pad.bytes = static_cast<uint32_t>(to_end);
                pad.kind = wire::record_pad;
            }  // a shorter rest is skipped by the reader without a header
            tail_ += to_end;
            channel_.client_page().tail.store(tail_, std::memory_order_release);
            continue;
        }
        // A full ring holds much work: its server is left alone with it until half is done.
        if (!wait_progress_locked(std::min(known_head() + std::max(at_least, size / 2), tail_))) return nullptr;
    }
}

Status RingClient::encode_locked(const Request& request, uint32_t slot, uint64_t reply_offset, uint64_t reply_bytes) {
    uint64_t want = 1024;
    for (;;) {
        uint64_t room = 0;
        std::byte* place = reserve_locked(want, &room);
        if (!place) return Status::Lost;
        auto& header = *reinterpret_cast<wire::RecordHeader*>(place);
        rpc::Credential credential = request.credential;
        credential.seq = next_seq_;
        const uint32_t limit = static_cast<uint32_t>(std::min(room, largest_record) - sizeof header);
        const uint32_t bytes = rpc::encode_call(place + sizeof header, limit, request.procedure, credential,
                                                request.xdr_args, request.args);
        if (bytes == 0) {
            if (want >= largest_record) return Status::TooLarge;
            want = largest_record;
            continue;
        }
        header.bytes = static_cast<uint32_t>(round8(sizeof header + bytes));
        header.kind = wire::record_call;
        header.seq = next_seq_;
        header.slot = slot;
        header.message = bytes;
        header.reply_offset = reply_offset;
        header.reply_bytes = reply_bytes;
        header.up_end = up_tail_;
        break;
    }
    auto& client = channel_.client_page();
    const std::byte* place = channel_.ring() + (tail_ & (channel_.geometry().ring_bytes - 1));
    tail_ += reinterpret_cast<const wire::RecordHeader*>(place)->bytes;
    ++next_seq_;
    client.tail.store(tail_, std::memory_order_seq_cst);
    ring_doorbell();
    return Status::Ok;
}

Status RingClient::post_locked(const Request& request) {
    if (lost()) return Status::Lost;
    if (!oldest_) channel_.client_page().acked_seq.store(next_seq_ - 1, std::memory_order_relaxed);
    return encode_locked(request, wire::no_slot, 0, 0);
}

Status RingClient::post(const Request& request) {
    std::unique_lock order(order_);
    return post_locked(request);
}

void RingClient::post_within(const Request& request, std::chrono::milliseconds patience) {
    const auto limit = std::chrono::steady_clock::now() + patience;
    const auto ns = std::chrono::nanoseconds(limit.time_since_epoch()).count();
    const timespec until{ns / 1'000'000'000, ns % 1'000'000'000};
    if (::pthread_mutex_clocklock(order_.native_handle(), CLOCK_MONOTONIC, &until) != 0) return;
    const std::unique_lock order(order_, std::adopt_lock);
    auto& client = channel_.client_page();
    auto& server = channel_.server_page();
    const auto full = [&] { return channel_.geometry().ring_bytes - (tail_ - known_head()) <= 2 * largest_record; };
    for (;;) {
        if (lost() || !channel_.server_alive()) return;
        const uint32_t before = server.progress.load(std::memory_order_acquire);
        if (!full()) break;
        if (std::chrono::steady_clock::now() > limit) return;
        client.wants_head.store(0, std::memory_order_relaxed);
        client.wants_progress.store(1, std::memory_order_seq_cst);
        ring_doorbell();
        if (full()) futex_wait(server.progress, before, sleep_us);
        client.wants_progress.store(0, std::memory_order_relaxed);
    }
    post_locked(request);
}

Status RingClient::prepare_locked(const Request& request, Pending* pending) {
    auto take_slot = [&]() -> bool {
        for (unsigned word = 0; word < wire::max_slots / 64; ++word) {
            if (!free_slots_[word]) continue;
            const int bit = std::countr_zero(free_slots_[word]);
            free_slots_[word] &= ~(uint64_t(1) << bit);
            pending->slot = word * 64 + static_cast<unsigned>(bit);
            return true;
        }
        return false;
    };
    // Slots are given back without the server's help, by threads that finish their calls.
    while (!take_slot()) {
        const NotCancelled whole;
        std::unique_lock adopted(order_, std::adopt_lock);
        freed_.wait_for(adopted, std::chrono::milliseconds(20));
        adopted.release();
        if (lost()) return Status::Lost;
    }
    pending->reply_offset = pending->reply_bytes = 0;
    if (request.reply_bytes <= channel_.slot_capacity()) return Status::Ok;
    std::unique_lock adopted(order_, std::adopt_lock);
    const bool have = down_alloc_locked(adopted, request.reply_bytes, &pending->reply_offset, true);
    adopted.release();
    if (!have) {
        give_back_locked(pending);
        return lost() ? Status::Lost : Status::TooLarge;
    }
    pending->reply_bytes = request.reply_bytes;
    return Status::Ok;
}

void RingClient::give_back_locked(Pending* pending) {
    free_slots_[pending->slot / 64] |= uint64_t(1) << (pending->slot % 64);
    if (pending->reply_bytes) down_free_locked(pending->reply_offset, pending->reply_bytes);
    pending->slot = wire::no_slot;
}

Status RingClient::begin_locked(const Request& request, Pending* pending) {
    if (lost()) return Status::Lost;
    if (pending->slot == wire::no_slot)
        if (const Status status = prepare_locked(request, pending); status != Status::Ok) return status;
    pending->seq = next_seq_;
    channel_.client_page().acked_seq.store(oldest_ ? oldest_->seq - 1 : next_seq_ - 1, std::memory_order_relaxed);
    const Status status = encode_locked(request, pending->slot, pending->reply_offset, pending->reply_bytes);
    if (status != Status::Ok) {
        give_back_locked(pending);
        return status;
    }
    pending->previous = newest_;
    pending->next = nullptr;
    (newest_ ? newest_->next : oldest_) = pending;
    newest_ = pending;
    return Status::Ok;
}

Status RingClient::begin(const Request& request, Pending* pending) {
    std::unique_lock order(order_);
    return begin_locked(request, pending);
}

Status RingClient::wait(Pending* pending, bool order_held) {
    auto& slot = channel_.slot(pending->slot);
    auto& waiting = channel_.client_page().waiting[pending->slot];
    auto& done = channel_.slot_done(pending->slot);
    auto answered = [&] { return slot.seq.load(std::memory_order_acquire) == pending->seq; };
    auto arrived = [&] { return done.load(std::memory_order_acquire) == pending->seq || answered(); };
    for (bool first = true;; first = false) {
        if (lost()) return Status::Lost;
        const uint64_t generation = generation_.load(std::memory_order_acquire);
        // Once: who has slept is woken, and looks in between only whether there still is a server.
        if (!(first ? spin_patiently(arrived) : arrived())) {
            const uint32_t before = slot.ready.load(std::memory_order_acquire);
            waiting.store(1, std::memory_order_seq_cst);
            if (!arrived()) futex_wait(slot.ready, before, sleep_us);
            waiting.store(0, std::memory_order_relaxed);
            if (!arrived()) {
                if (!channel_.server_alive() && !reattach(generation, order_held)) return Status::Lost;
                continue;
            }
        }
        if (!answered()) {
            pending->generation = generation;
            pending->message = nullptr;
            pending->message_bytes = 0;
            return Status::Ok;
        }
        const uint64_t offset = slot.offset;
        const uint32_t bytes = slot.length;
        const uint64_t own = channel_.geometry().slots_offset + pending->slot * channel_.geometry().slot_bytes +
                             sizeof(wire::SlotHeader);
        // A server that knows of no last word may have needed it.
        const bool in_slot = offset == own && bytes <= channel_.geometry().slot_bytes - sizeof(wire::SlotHeader);
        const bool in_down = pending->reply_bytes && offset == pending->reply_offset && bytes <= pending->reply_bytes;
        pending->generation = generation;
        if (!in_slot && !in_down) {  // torn by a dump, or a server that lies
            if (!confirm(pending, order_held)) continue;
            lost_.store(true);
            return Status::Lost;
        }
        pending->message = channel_.base() + offset;
        pending->message_bytes = bytes;
        return Status::Ok;
    }
}

bool RingClient::confirm(Pending* pending, bool order_held) {
    if (!channel_.server_alive()) {
        reattach(pending->generation, order_held);
        return false;
    }
    return generation_.load(std::memory_order_acquire) == pending->generation;
}

void RingClient::release(Pending* pending, bool order_held) {
    {
        std::unique_lock order(order_, std::defer_lock);
        if (!order_held) order.lock();
        (pending->previous ? pending->previous->next : oldest_) = pending->next;
        (pending->next ? pending->next->previous : newest_) = pending->previous;
        give_back_locked(pending);
    }
    freed_.notify_all();
}

std::byte* RingClient::up_space_locked(uint64_t bytes, uint64_t* offset, uint64_t window) {
    const auto& geometry = channel_.geometry();
    const uint64_t size = geometry.up_bytes;
    bytes = (bytes + 63) & ~uint64_t(63);
    // The next place at or behind `from` where nothing is cut. The last part has room for what up_limit() allows.
    const auto place = [&](uint64_t from) {
        for (;;) {
            const uint64_t left = wire::bulk_part(wire::up_cuts, size, from % size).end - from % size;
            if (left >= bytes) return from;
            from += left;
        }
    };
    // What is free at the buffer's start again is better than what was never touched: its pages are there and in the caches.
    const uint64_t at = up_tail_ % size, here = place(up_tail_), again = place(up_tail_ + (size - at));
    const bool cooling = at + bytes > hot_bytes && again + bytes - known_up_head() <= size;
    const bool beyond = here % size + bytes > window && again + bytes - up_tail_ <= size;
    up_tail_ = cooling || beyond ? again : here;
    const auto fits = [&](uint64_t head) { return up_tail_ + bytes - head <= size; };
    while (!fits(std::min(up_head_, up_tail_)) && !fits(known_up_head())) {
        if (lost() || !wait_progress_locked(0)) return nullptr;
    }
    *offset = geometry.up_offset + up_tail_ % size;
    up_tail_ += bytes;
    return channel_.base() + *offset;
}

bool RingClient::down_alloc_locked(std::unique_lock<std::mutex>& order, uint64_t bytes, uint64_t* offset, bool wait) {
    const unsigned total = static_cast<unsigned>(std::min<uint64_t>(channel_.geometry().down_bytes / down_block,
                                                                     max_down_blocks));
    const unsigned need = static_cast<unsigned>((bytes + down_block - 1) / down_block);
    if (need == 0 || need > total) return false;
    for (;;) {
        unsigned run = 0;
        for (unsigned block = 0; block < total; ++block) {
            const bool used = down_used_[block / 64] >> (block % 64) & 1;
            if (std::ranges::find(wire::down_cuts, block * down_block) != std::end(wire::down_cuts)) run = 0;
            run = used ? 0 : run + 1;
            if (run < need) continue;
            const unsigned first = block + 1 - need;
            for (unsigned i = first; i <= block; ++i) down_used_[i / 64] |= uint64_t(1) << (i % 64);
            *offset = channel_.geometry().down_offset + first * down_block;
            return true;
        }
        if (!wait || lost()) return false;
        const NotCancelled whole;
        freed_.wait_for(order, std::chrono::milliseconds(20));
    }
}

void RingClient::down_free_locked(uint64_t offset, uint64_t bytes) {
    const uint64_t first = (offset - channel_.geometry().down_offset) / down_block;
    const uint64_t count = (bytes + down_block - 1) / down_block;
    for (uint64_t i = first; i < first + count; ++i) down_used_[i / 64] &= ~(uint64_t(1) << (i % 64));
}

void RingClient::down_free(uint64_t offset, uint64_t bytes, bool order_held) {
    {
        std::unique_lock order(order_, std::defer_lock);
        if (!order_held) order.lock();
        down_free_locked(offset, bytes);
    }
    freed_.notify_all();
}

void RingClient::attach_if_free() {
    std::unique_lock order(order_, std::try_to_lock);
    if (order && !channel_.server_alive()) reattach_locked(generation_.load());
}

bool RingClient::reattach(uint64_t seen_generation, bool order_held) {
    std::unique_lock order(order_, std::defer_lock);
    if (!order_held) order.lock();
    return reattach_locked(seen_generation);
}

bool RingClient::reattach_locked(uint64_t seen_generation) {
    if (lost()) return false;
    if (generation_.load() != seen_generation) return true;  // another thread did
    const NotCancelled whole;
    // From here to the answer no reply in the slots is believed: they may be torn copies of an earlier life.
    generation_.fetch_add(1, std::memory_order_acq_rel);
    const auto& geometry = channel_.geometry();
    for (uint32_t i = 0; i < geometry.slots; ++i) {
        channel_.slot(i).seq.store(0, std::memory_order_relaxed);
        channel_.slot_done(i).store(0, std::memory_order_relaxed);
    }
    channel_.server_page().attach_state.store(static_cast<uint32_t>(wire::AttachState::Waiting));
    channel_.server_page().sleeping.store(0);
    channel_.server_page().callback_ticket.store(0);
    channel_.client_page().acked_seq.store(oldest_ ? oldest_->seq - 1 : next_seq_ - 1);
    wire::Hello hello{};
    hello.magic = wire::hello_magic;
    hello.protocol = wire::protocol_version;
    hello.next_seq = next_seq_;
    hello.first_offset = known_head();
    hello.first_seq = next_seq_;
    for (uint64_t at = hello.first_offset; at < tail_;) {
        const uint64_t to_end = geometry.ring_bytes - (at & (geometry.ring_bytes - 1));
        const auto& record = *reinterpret_cast<wire::RecordHeader*>(channel_.ring() + (geometry.ring_bytes - to_end));
        if (to_end >= sizeof record && record.kind == wire::record_call) {
            hello.first_seq = record.seq;
            break;
        }
        at += to_end;
    }
    if (!attacher_.attach(hello, channel_)) {
        lost_.store(true);
        freed_.notify_all();
        return false;
    }
    // A dump in the middle of the attach may have put replies of an earlier life into the slots: who has read one since
    // reads it again.
    generation_.fetch_add(1, std::memory_order_acq_rel);
    return true;
}

}  // namespace cricket::ring
