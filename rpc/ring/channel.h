// SPDX-License-Identifier: MIT
// The channel memfd as each side maps it. The client creates it and is the only writer of its page, the ring and
// the up buffer; the worker maps those read-only, so what is there is always what the client posted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cricket/unique_fd.h"
#include "cricket/wire.h"

namespace cricket::ring {

inline constexpr uint64_t page = 4096;
inline constexpr char memfd_name[] = "cricket-channel";

// A shared mapping of a whole channel; unmapped with the object.
class Channel {
  public:
    Channel() = default;
    Channel(Channel&& other) noexcept { swap(other); }
    Channel& operator=(Channel&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Channel();

    // Client: a new memfd with this geometry. False with errno set when there is no memory.
    bool create();
    // Server: maps a client's memfd after checking magic, protocol and geometry against its size. On failure
    // `why` says what does not hold.
    // `at`: where to map it, if that is free; null: anywhere.
    bool map_as_server(UniqueFd fd, std::string* why, void* at = nullptr);

    explicit operator bool() const { return base_ != nullptr; }
    int fd() const { return fd_.get(); }
    std::byte* base() const { return base_; }
    const wire::ChannelGeometry& geometry() const { return geometry_; }
    wire::ClientPage& client_page() const { return *reinterpret_cast<wire::ClientPage*>(base_); }
    wire::ServerPage& server_page() const { return *reinterpret_cast<wire::ServerPage*>(base_ + page); }
    std::byte* ring() const { return base_ + geometry_.ring_offset; }
    wire::SlotHeader& slot(uint32_t index) const {
        return *reinterpret_cast<wire::SlotHeader*>(base_ + geometry_.slots_offset + index * geometry_.slot_bytes);
    }
    // Bytes of reply that fit in a slot behind its header.
    uint64_t slot_capacity() const {
        return geometry_.slot_bytes - sizeof(wire::SlotHeader) - (looks_for_done() ? wire::slot_done_bytes : 0);
    }
    // The number of a call that is over, as the device tells it: only of a client that looks for it.
    std::atomic<uint64_t>& slot_done(uint32_t index) const {
        return *reinterpret_cast<std::atomic<uint64_t>*>(base_ + geometry_.slots_offset + (index + 1) * geometry_.slot_bytes - wire::slot_done_bytes);
    }
    bool looks_for_done() const { return habits_ & wire::looks_for_done; }
    bool keeps_cuts() const { return habits_ & wire::keeps_cuts; }

    // Server: takes the lock that tells the client it is alive.
    bool lock();
    // Client: whether a worker holds the lock on this very memfd.
    bool server_alive() const;
    // Forgets the mapping without unmapping (a forked child must not touch the parent's).
    void abandon();

  private:
    void swap(Channel& other) noexcept;
    UniqueFd fd_;
    UniqueFd lock_fd_;
    std::byte* base_ = nullptr;
    wire::ChannelGeometry geometry_{};  // private copies: the mapped ones may change under us
    uint32_t habits_ = 0;
};

// Spins a little, then the caller should sleep: `spin_until(f)` returns true as soon as f() does.
template <class Condition>
bool spin_until(Condition condition, unsigned rounds) {
    for (unsigned i = 0; i < rounds; ++i) {
        if (condition()) return true;
        __builtin_ia32_pause();
    }
    return condition();
}

// Timed wait on a word of shared memory; returns on wake-up, change, signal or time-out alike.
void futex_wait(const std::atomic<uint32_t>& word, uint32_t expected, uint64_t timeout_us);
void futex_wake_all(std::atomic<uint32_t>& word);

}  // namespace cricket::ring
