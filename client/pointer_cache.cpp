// SPDX-License-Identifier: MIT
#include "client/pointer_cache.h"

#include <array>
#include <atomic>

#include "client/contexts.h"

namespace cricket::client::pointer_cache {
namespace {

// Calls that say nothing new about addresses.
constexpr Proc harmless[] = {
    Proc::cuLaunchKernel, Proc::cuLaunchKernelEx, Proc::cuLaunchCooperativeKernel, Proc::cuMemcpyHtoDAsync_v2,
    Proc::cuMemcpyDtoHAsync_v2, Proc::cuMemcpyDtoDAsync_v2, Proc::cuMemsetD8Async, Proc::cuMemsetD16Async,
    Proc::cuMemsetD32Async, Proc::cuEventCreate, Proc::cuEventRecord, Proc::cuEventRecordWithFlags, Proc::cuEventQuery,
    Proc::cuEventSynchronize, Proc::cuEventElapsedTime_v2, Proc::cuStreamWaitEvent, Proc::cuStreamQuery,
    Proc::cuStreamSynchronize, Proc::cuCtxSynchronize, Proc::cuMemGetInfo_v2, Proc::cuPointerGetAttribute,
    Proc::cuPointerGetAttributes, Proc::cuFuncGetAttribute, Proc::cuKernelGetAttribute, Proc::cuKernelGetFunction,
    Proc::cuMemGetAddressRange_v2, Proc::cuMemHostGetFlags, Proc::cuMemHostGetDevicePointer_v2};

constexpr unsigned known_procedures = 4096;
constexpr auto harmless_bits = [] {
    std::array<uint64_t, known_procedures / 64> bits{};
    for (Proc proc : harmless) bits[static_cast<uint32_t>(proc) / 64] |= uint64_t(1) << (static_cast<uint32_t>(proc) % 64);
    return bits;
}();

bool may_change(Proc proc) {
    const auto number = static_cast<uint32_t>(proc);
    return number >= known_procedures || !(harmless_bits[number / 64] >> (number % 64) & 1);
}

// One writer at a time; whoever reads while it writes, or finds another one writing, does without.
struct Entry {
    std::atomic<uint32_t> turn;  // odd: being written
    std::atomic<uint32_t> what;  // attribute, and whether of a list
    std::atomic<uint64_t> pointer, context, stamp, value, bytes;
};
constexpr unsigned entries = 512;
constinit Entry table[entries]{};
constinit std::atomic<uint64_t> changes{1};

uint32_t what_of(CUpointer_attribute attribute, bool list) { return static_cast<uint32_t>(attribute) << 1 | (list ? 1u : 0u); }

// One pointer's attributes never share a place: they are asked for together.
Entry& entry_of(CUdeviceptr pointer, uint32_t what) {
    return table[((pointer * 0x9e3779b97f4a7c15u >> 55) + what) % entries];
}

}  // namespace

uint64_t stamp() { return changes.load(std::memory_order_acquire); }

bool find(CUdeviceptr pointer, CUpointer_attribute attribute, bool list, Value* out) {
    const uint32_t what = what_of(attribute, list);
    const Entry& entry = entry_of(pointer, what);
    const uint32_t turn = entry.turn.load(std::memory_order_acquire);
    const bool same = entry.pointer.load(std::memory_order_relaxed) == pointer && entry.what.load(std::memory_order_relaxed) == what &&
                      entry.context.load(std::memory_order_relaxed) == current_context() &&
                      entry.stamp.load(std::memory_order_relaxed) == stamp();
    out->value = entry.value.load(std::memory_order_relaxed);
    out->bytes = static_cast<uint32_t>(entry.bytes.load(std::memory_order_relaxed));
    std::atomic_thread_fence(std::memory_order_acquire);
    return same && turn % 2 == 0 && entry.turn.load(std::memory_order_relaxed) == turn;
}

void keep(CUdeviceptr pointer, CUpointer_attribute attribute, bool list, uint64_t stamp, const Value& value) {
    const uint32_t what = what_of(attribute, list);
    Entry& entry = entry_of(pointer, what);
    uint32_t turn = entry.turn.load(std::memory_order_relaxed);
    if (turn % 2 || !entry.turn.compare_exchange_strong(turn, turn + 1, std::memory_order_acquire)) return;
    std::atomic_thread_fence(std::memory_order_release);
    entry.pointer.store(pointer, std::memory_order_relaxed);
    entry.what.store(what, std::memory_order_relaxed);
    entry.context.store(current_context(), std::memory_order_relaxed);
    entry.stamp.store(stamp, std::memory_order_relaxed);
    entry.value.store(value.value, std::memory_order_relaxed);
    entry.bytes.store(value.bytes, std::memory_order_relaxed);
    entry.turn.store(turn + 2, std::memory_order_release);
}

void forget() { changes.fetch_add(1, std::memory_order_acq_rel); }

// Before the call, and after it: an answer that was asked for in between may be of either side.
Crossing::Crossing(Proc proc) : changes_(may_change(proc)) {
    if (changes_) changes.fetch_add(1, std::memory_order_acq_rel);
}

Crossing::~Crossing() {
    if (changes_) changes.fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace cricket::client::pointer_cache
