// SPDX-License-Identifier: MIT
// What a restore repeats: for each living object the call that made it and the calls that changed it, as RPC
// messages in the order of execution. The dispatch table says for each procedure what it does to the journal.
// Contexts, modules and libraries that are gone stay in it with the call that ended them, and so do their kernels and
// functions: where the driver puts module variables depends on the whole order of loads (facts/cuda-driver.md). So do
// CUDA arrays that lived while something was loaded: the driver chooses their places too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "attachment.h"
#include "handle_kinds.h"

namespace cricket::server {

// Filled by the generated dispatch wrapper after a call succeeded.
struct Effect {
    enum class Kind : uint8_t { None, Create, Destroy, State, Load } kind = Kind::None;
    uint64_t object = 0;        // Create: number made; Destroy: number gone; State: object changed (0: the session)
    uint64_t owner = 0;         // Create: object this one depends on (0: none); destroyed with it
    uint64_t key[2] = {0, 0};   // State: a later call with the same procedure, object and key replaces it
                                // Create of a handle that is a value: the value
    HandleKind value_of = HandleKind::None;  // object is a value of the driver's, of this kind; not after record_call()
    // Load: something that moved what the driver places; stays for ever, whatever becomes of the object.
};

struct JournalEntry {
    uint64_t seq = 0;   // of the call; orders the replay
    uint32_t part = 0;  // among the entries of one call, given by record()
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

    using Place = std::pair<uint64_t, uint32_t>;  // seq, part
    // In order of execution.
    const std::map<Place, JournalEntry>& entries() const { return entries_; }
    // The entry that made a living object, or null.
    const JournalEntry* creation(uint64_t object) const;
    uint64_t owner(uint64_t object) const;

  private:
    void drop(uint64_t object, std::vector<uint64_t>* gone);
    bool outlives(uint64_t object) const;
    bool leaves_streams(uint64_t object) const;

    std::map<Place, JournalEntry> entries_;
    Place last_load_{};                                        // what was made before it and lived then moved it
    std::map<uint64_t, Place> created_by_;                     // living object -> its entry
    std::map<uint64_t, std::vector<uint64_t>> owned_;          // owner -> living objects
    std::map<uint64_t, std::vector<Place>> states_;            // object -> its State entries
};

}  // namespace cricket::server
