// SPDX-License-Identifier: MIT
// The session's handles: numbers that the application sees, and the driver's pointers behind them. A number holds
// its kind, so that a handle of the wrong kind is refused as the driver would. Numbers are never reused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "handle_kinds.h"

namespace cricket::server {

// Where a kernel's parameters begin in the packed ones, which have to be `bytes` long at least.
struct ParameterOffsets {
    std::vector<uint32_t> offsets;
    uint64_t bytes = 0;
};

// number = (kind << 32 | index) << 4, index from 1: never null, never 1 or 2 (CU_STREAM_LEGACY, _PER_THREAD).
class Objects {
  public:
    // Registers a driver handle and returns its number; the same driver handle of the same kind keeps its number
    // (cuKernelGetFunction twice gives one CUfunction). While numbers are forced, the next forced one is used.
    // `wanted`: the number to give, for objects whose number is fixed (cricket/primary_contexts.h); 0: the next one.
    uint64_t add(HandleKind kind, void* driver_handle, uint64_t wanted = 0);
    struct Entry {
        uint64_t number = 0;
        void* handle = nullptr;
        uint64_t loaded_in = 0;  // functions and kernels: the context that they were last known to be loaded in (loading.h)
        uint64_t may_run_in = 0;  // functions and kernels: the context in which they were last seen to run (device_heaps.h)
        std::unique_ptr<const ParameterOffsets> parameters{};  // of a function or kernel that was launched
    };
    // Null when the number is unknown or of another kind; valid until the next add() or remove().
    Entry* entry(HandleKind kind, uint64_t number);
    // A context is gone: nothing is loaded in it, and nothing runs.
    void unload(uint64_t context);
    // Handles whose value the application sees as the driver gave it (handles.spec: value): each context has its own.
    uint64_t add_value(HandleKind kind, uint64_t context, uint64_t value);
    uint64_t find_value(HandleKind kind, uint64_t context, uint64_t value) const;  // its number, 0 when unknown
    // The driver's handle, or null when the number is unknown or of another kind.
    void* get(HandleKind kind, uint64_t number) const;
    void remove(HandleKind kind, uint64_t number);
    // The number of a driver handle, 0 when unknown.
    uint64_t find(HandleKind kind, void* driver_handle) const;

    size_t count(HandleKind kind) const { return by_handle_[static_cast<uint32_t>(kind)].size(); }

    // Restore: the next add() calls take these numbers, in order.
    void force(std::vector<uint64_t> numbers);
    bool all_forced_used() const { return forced_.empty(); }

    uint64_t last_index() const { return last_index_; }
    void set_last_index(uint64_t index) { last_index_ = index; }

    static HandleKind kind_of(uint64_t number) { return static_cast<HandleKind>(number >> 36); }

  private:
    // Handles by the index in their numbers, which counts up over all kinds: pages of a table, given back when
    // nothing in them lives. Numbers that are fixed (primary contexts) have indices far beyond.
    struct Page {
        static constexpr uint64_t entries = 512;
        Entry entry[entries];
        unsigned living = 0;
    };
    static constexpr uint64_t first_fixed_index = uint64_t(1) << 31;
    const Entry* entry_of(uint64_t number) const;
    void put(uint64_t number, void* handle);
    uint64_t new_number(HandleKind kind, uint64_t wanted);
    std::vector<std::unique_ptr<Page>> pages_;
    std::unordered_map<uint64_t, Entry> fixed_;
    std::unordered_map<void*, uint64_t> by_handle_[handle_kind_count];
    std::map<std::tuple<HandleKind, uint64_t, uint64_t>, uint64_t> values_;  // kind, context, value -> number
    std::deque<uint64_t> forced_;
    uint64_t last_index_ = 0;
};

}  // namespace cricket::server
