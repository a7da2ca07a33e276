// SPDX-License-Identifier: MIT
#include "client/parameter_layout.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "client/reply_guard.h"

namespace cricket::client {
namespace {

constexpr unsigned bucket_count = 1024;
constinit std::atomic<ParameterLayout*> layouts[bucket_count]{};  // entries are only ever added

std::atomic<ParameterLayout*>& bucket(uint64_t function) { return layouts[(function >> 4) % bucket_count]; }

const ParameterLayout* known(uint64_t function) {
    for (ParameterLayout* layout = bucket(function).load(std::memory_order_acquire); layout; layout = layout->next)
        if (layout->function == function) return layout;
    return nullptr;
}

CUresult ask(uint64_t function, const ParameterLayout** out) {
    cricketParameterLayout_args args{};
    cricketParameterLayout_res res{};
    args.function = function;
    ReplyGuard guard;
    // 32 KiB of parameters are at most 32 K parameters of 16 bytes of description; few kernels have more than 64.
    const CUresult result = call(args, res, {.reply_bytes = 512 * 1024});
    if (result != CUDA_SUCCESS) return result;
    const uint32_t count = res.layout.size / 16;
    auto* layout = static_cast<ParameterLayout*>(
        std::malloc(sizeof(ParameterLayout) + count * sizeof(ParameterLayout::Param)));
    if (!layout) return CUDA_ERROR_OUT_OF_MEMORY;
    layout->params = reinterpret_cast<ParameterLayout::Param*>(layout + 1);
    layout->function = function;
    layout->count = count;
    layout->bytes = 0;
    for (uint32_t i = 0; i < count; ++i) {
        uint64_t pair[2];
        std::memcpy(pair, static_cast<const std::byte*>(res.layout.data) + i * sizeof pair, sizeof pair);
        layout->params[i] = {static_cast<uint32_t>(pair[0]), static_cast<uint32_t>(pair[1])};
        const uint32_t end = layout->params[i].offset + layout->params[i].size;
        if (end > layout->bytes) layout->bytes = end;
    }
    auto& head = bucket(function);
    layout->next = head.load();
    while (!head.compare_exchange_weak(layout->next, layout, std::memory_order_release)) {
    }
    *out = layout;
    return CUDA_SUCCESS;
}

}  // namespace

CUresult parameter_layout(uint64_t function, const ParameterLayout** layout) {
    *layout = known(function);
    return *layout ? CUDA_SUCCESS : ask(function, layout);
}

void forget_parameter_layouts() {
    for (auto& head : layouts) head.store(nullptr);
}

}  // namespace cricket::client
