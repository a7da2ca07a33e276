// SPDX-License-Identifier: MIT
// What a restore repeats: for each living object the call that made it and the calls that changed it, as RPC
// messages in the order of execution. The dispatch table says for each procedure what it does to the journal.
// Contexts, modules and libraries that are gone stay in it with the call that ended them: where the driver puts
// module variables depends on the whole order of loads (facts/cuda-driver.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cricket::server {

// Filled by the generated dispatch wrapper after a call succeeded.
struct Effect {
    enum class Kind : uint8_t { None, Create, Destroy, State } kind = Kind::None;
    uint64_t object = 0;        // Create: number made; Destroy: number gone; State: object changed (0: the session)
    uint64_t owner = 0;         // Create: object this one depends on (0: none); destroyed with it
    uint64_t key[2] = {0, 0};   // State: a later call with the same procedure, object and key replaces it
};

// Bulk data of a journalled call (a module's image): the channel's copy is gone after the call.
using Attachment = std::shared_ptr<const std::vector<std::byte>>;

struct JournalEntry {
    uint64_t seq = 0;  // of the call; orders the replay
    uint32_t procedure = 0;
    Effect effect;
    std::vector<std::byte> message;  // RPC call message, credential included
    Attachment attachment;
};

class Journal {
  public:
    // Returns the objects that are gone with this call: the one named, if any, and all that depend on it.
    std::vector<uint64_t> record(JournalEntry entry);
    // Everything that depends on `owner` is gone (a primary context was reset), the owner stays.
    std::vector<uint64_t> forget_owned(uint64_t owner);

    // In order of execution.
    const std::map<uint64_t, JournalEntry>& entries() const { return entries_; }
    // The entry that made a living object, or null.
    const JournalEntry* creation(uint64_t object) const;
    uint64_t owner(uint64_t object) const;

  private:
    void drop(uint64_t object, std::vector<uint64_t>* gone);

    std::map<uint64_t, JournalEntry> entries_;                 // by seq: one call makes at most one entry
    std::map<uint64_t, uint64_t> created_by_;                  // living object -> seq
    std::map<uint64_t, std::vector<uint64_t>> owned_;          // owner -> living objects
    std::map<uint64_t, std::vector<uint64_t>> states_;         // object -> seqs of State entries
};

}  // namespace cricket::server
