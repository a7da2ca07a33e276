// SPDX-License-Identifier: MIT
#include "client/pointer_cache.h"

#include <array>
#include <atomic>
#include <cstring>

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
    std::atomic<uint64_t> pointer, question, context, stamp;
    std::atomic<uint64_t> sizes;  // a byte each
    std::atomic<uint64_t> values[most];
};
constexpr unsigned entries = 512;
constinit Entry table[entries]{};
constinit std::atomic<uint64_t> changes{1};

Entry& entry_of(CUdeviceptr pointer, uint64_t question) {
    return table[(pointer ^ question * 0xff51afd7ed558ccdu) * 0x9e3779b97f4a7c15u >> 55];
}
static_assert(entries == 1u << (64 - 55));

}  // namespace

uint64_t question(const CUpointer_attribute* attributes, unsigned count, bool list) {
    if (count > most) return 0;
    uint64_t packed = 0;
    for (unsigned i = 0; i < count; ++i) {
        const auto attribute = static_cast<uint32_t>(attributes[i]);
        if (attribute == 0 || attribute > 0x7f) return 0;
        packed = packed << 8 | attribute;
    }
    return list ? packed : ~packed;
}

uint64_t stamp() { return changes.load(std::memory_order_acquire); }

bool find(CUdeviceptr pointer, uint64_t question, unsigned count, Answers* out) {
    if (!question) return false;
    const Entry& entry = entry_of(pointer, question);
    const uint32_t turn = entry.turn.load(std::memory_order_acquire);
    if (turn % 2 || entry.pointer.load(std::memory_order_relaxed) != pointer ||
        entry.question.load(std::memory_order_relaxed) != question ||
        entry.context.load(std::memory_order_relaxed) != current_context() || entry.stamp.load(std::memory_order_relaxed) != stamp())
        return false;
    const uint64_t sizes = entry.sizes.load(std::memory_order_relaxed);
    ::memcpy(out->bytes, &sizes, sizeof sizes);
    for (unsigned i = 0; i < count; ++i) out->values[i] = entry.values[i].load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    return entry.turn.load(std::memory_order_relaxed) == turn;
}

void keep(CUdeviceptr pointer, uint64_t question, unsigned count, uint64_t stamp, const Answers& answers) {
    if (!question) return;
    Entry& entry = entry_of(pointer, question);
    uint32_t turn = entry.turn.load(std::memory_order_relaxed);
    if (turn % 2 || !entry.turn.compare_exchange_strong(turn, turn + 1, std::memory_order_acquire)) return;
    std::atomic_thread_fence(std::memory_order_release);
    uint64_t sizes = 0;
    ::memcpy(&sizes, answers.bytes, count);
    entry.pointer.store(pointer, std::memory_order_relaxed);
    entry.question.store(question, std::memory_order_relaxed);
    entry.context.store(current_context(), std::memory_order_relaxed);
    entry.stamp.store(stamp, std::memory_order_relaxed);
    entry.sizes.store(sizes, std::memory_order_relaxed);
    for (unsigned i = 0; i < count; ++i) entry.values[i].store(answers.values[i], std::memory_order_relaxed);
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
