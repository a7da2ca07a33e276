// SPDX-License-Identifier: MIT
// What a restore repeats: for each living object the call that made it and the calls that changed it, as RPC
// messages in the order of execution. The dispatch table says for each procedure what it does to the journal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace cricket::server {

// Filled by the generated dispatch wrapper after a call succeeded.
struct Effect {
    enum class Kind : uint8_t { None, Create, Destroy, State } kind = Kind::None;
    uint64_t object = 0;             // Create: number made; Destroy: number gone; State: object changed (0: the session)
    uint64_t owner = 0;              // Create: object this one depends on (0: none); destroyed with it
    uint64_t key[2] = {0, 0};        // State: a later call with the same procedure, object and key replaces it
};

struct JournalEntry {
    uint64_t seq = 0;                // of the call; orders the replay
    uint32_t procedure = 0;
    Effect effect;
    std::vector<std::byte> message;  // RPC call message, credential included
};

class Journal {
  public:
    void record(uint32_t procedure, uint64_t seq, const Effect& effect, std::span<const std::byte> message);
    // Living entries in order of execution.
    const std::map<uint64_t, JournalEntry>& entries() const { return entries_; }
    void insert(JournalEntry entry);  // restore

  private:
    std::map<uint64_t, JournalEntry> entries_;  // by seq: one call makes at most one entry
};

}  // namespace cricket::server
