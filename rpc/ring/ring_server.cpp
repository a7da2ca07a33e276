// SPDX-License-Identifier: MIT
#include "ring_server.h"

namespace cricket::ring {

// Reads the record at *at, skipping padding (then *at moves). Nothing where the client has posted nothing.
std::optional<Record> RingServer::read_at(uint64_t* at) {
    const auto& geometry = channel_.geometry();
    if (*at == known_tail_ || known_tail_ < *at) {
        const uint64_t told = channel_.client_page().tail.load(std::memory_order_acquire);
        if (told < *at || told - *at > geometry.ring_bytes || told % 8)
            throw BadRecord("ring tail " + std::to_string(told) + " does not fit position " + std::to_string(*at));
        known_tail_ = told;
    }
    const uint64_t tail = known_tail_;
    while (*at != tail) {
        const uint64_t offset = *at & (geometry.ring_bytes - 1);
        const uint64_t room = std::min(geometry.ring_bytes - offset, tail - *at);
        const uint64_t to_end = geometry.ring_bytes - offset;
        if (to_end < sizeof(wire::RecordHeader)) {
            if (to_end > tail - *at) throw BadRecord("ring tail " + std::to_string(tail) + " is where no record ends");
            *at += to_end;
            continue;
        }
        wire::RecordHeader header;
        std::memcpy(&header, channel_.ring() + offset, sizeof header);
        const auto where = [at] { return "ring record at " + std::to_string(*at); };
        if (header.bytes < sizeof header || header.bytes > room || header.bytes % 8)
            throw BadRecord(where() + ": length " + std::to_string(header.bytes));
        if (header.kind == wire::record_pad) {
            if (header.bytes != to_end) throw BadRecord(where() + ": padding of " + std::to_string(header.bytes));
            *at += to_end;
            continue;
        }
        if (header.kind != wire::record_call) throw BadRecord(where() + ": kind " + std::to_string(header.kind));
        if (header.message > header.bytes - sizeof header) throw BadRecord(where() + ": message longer than the record");
        if (header.slot != wire::no_slot && header.slot >= geometry.slots)
            throw BadRecord(where() + ": slot " + std::to_string(header.slot));
        if (header.reply_bytes &&
            (header.reply_offset < geometry.down_offset || header.reply_bytes > geometry.down_bytes ||
             header.reply_offset - geometry.down_offset > geometry.down_bytes - header.reply_bytes))
            throw BadRecord(where() + ": reply outside the down buffer");
        Record record;
        record.seq = header.seq;
        record.slot = header.slot;
        record.reply_offset = header.reply_offset;
        record.reply_bytes = header.reply_bytes;
        record.up_end = header.up_end;
        record.message = {channel_.ring() + offset + sizeof header, header.message};
        record.end = *at + header.bytes;
        return record;
    }
    return std::nullopt;
}

wire::Refusal RingServer::position(const wire::Hello& hello, uint64_t executed, std::string* why) {
    at_ = hello.first_offset;
    known_tail_ = at_;
    if (hello.next_seq <= executed) {
        *why = "the application's image is older than the session: it would repeat calls " +
               std::to_string(hello.next_seq) + " to " + std::to_string(executed);
        return wire::Refusal::ImageTooOld;
    }
    if (hello.first_seq > executed + 1) {
        *why = "the session is older than the application's image: calls " + std::to_string(executed + 1) + " to " +
               std::to_string(hello.first_seq - 1) + " are lost";
        return wire::Refusal::SessionTooOld;
    }
    try {
        uint64_t seq = hello.first_seq;
        for (auto record = read_at(&at_); record && record->seq <= executed; record = read_at(&at_)) {
            if (record->seq != seq++) throw BadRecord("ring record " + std::to_string(record->seq) + " out of order");
            at_ = record->end;
        }
    } catch (const BadRecord& bad) {
        *why = bad.what();
        return wire::Refusal::BadChannel;
    }
    next_seq_ = executed + 1;
    return wire::Refusal::None;
}

void RingServer::begin(uint64_t executed, uint64_t up_end) {
    auto& server = channel_.server_page();
    server.executed_seq.store(executed);
    server.head.store(at_);
    server.up_head.store(up_end);
}

std::optional<Record> RingServer::peek() {
    auto record = read_at(&at_);
    if (record && record->seq != next_seq_)
        throw BadRecord("ring record " + std::to_string(record->seq) + " where " + std::to_string(next_seq_) +
                        " was expected");
    return record;
}

bool RingServer::any(const std::function<bool(const Record&)>& such) {
    uint64_t at = at_;
    while (const auto record = read_at(&at)) {
        if (such(*record)) return true;
        at = record->end;
    }
    return false;
}

void RingServer::advance(const Record& record) {
    at_ = record.end;
    next_seq_ = record.seq + 1;
    if (++untold_ >= tell_every || at_ == known_tail_) tell_head();
}

void RingServer::tell_head() {
    auto& server = channel_.server_page();
    untold_ = 0;
    server.executed_seq.store(next_seq_ - 1, std::memory_order_release);
    server.head.store(at_, std::memory_order_release);
    tell_progress();
}

void RingServer::drained(uint64_t up_end) {
    channel_.server_page().up_head.store(up_end, std::memory_order_release);
    tell_progress();
}

void RingServer::tell_progress() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const auto& client = channel_.client_page();
    if (client.wants_progress.load(std::memory_order_relaxed) == 0) return;
    if (channel_.server_page().head.load(std::memory_order_relaxed) < client.wants_head.load(std::memory_order_relaxed)) return;
    channel_.server_page().progress.fetch_add(1, std::memory_order_release);
    futex_wake_all(channel_.server_page().progress);
}

std::byte* RingServer::reply_place(uint32_t slot, uint64_t reply_offset, uint64_t reply_bytes, uint32_t* capacity) {
    if (reply_bytes) {
        *capacity = static_cast<uint32_t>(std::min<uint64_t>(reply_bytes, UINT32_MAX));
        return channel_.base() + reply_offset;
    }
    *capacity = static_cast<uint32_t>(channel_.slot_capacity());
    return reinterpret_cast<std::byte*>(&channel_.slot(slot) + 1);
}

void RingServer::publish(uint32_t slot, uint64_t seq, const std::byte* place, uint32_t bytes) {
    auto& header = channel_.slot(slot);
    header.offset = static_cast<uint64_t>(place - channel_.base());
    header.length = bytes;
    header.seq.store(seq, std::memory_order_seq_cst);
    header.ready.store(static_cast<uint32_t>(seq), std::memory_order_seq_cst);
    if (channel_.client_page().waiting[slot].load(std::memory_order_seq_cst)) futex_wake_all(header.ready);
}

void RingServer::sleep(uint64_t timeout_us) {
    auto& server = channel_.server_page();
    auto& doorbell = channel_.client_page().doorbell;
    const uint32_t before = doorbell.load(std::memory_order_seq_cst);
    server.sleeping.store(1, std::memory_order_seq_cst);
    if (empty()) futex_wait(doorbell, before, timeout_us);
    server.sleeping.store(0, std::memory_order_seq_cst);
}

void RingServer::wake() { futex_wake_all(channel_.client_page().doorbell); }

}  // namespace cricket::ring
