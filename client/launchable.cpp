// SPDX-License-Identifier: MIT
#include "launchable.h"

#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "client/reply_guard.h"

namespace cricket::client {
namespace {

struct Known {
    std::shared_mutex mutex;
    std::unordered_map<uint64_t, uint64_t> numbers;  // by handle; the driver uses handles again, numbers are never
};
Known& known() {
    static auto* one = new Known;  // calls may come after the destructors
    return *one;
}

}  // namespace

CUgraphExec launchable_handle(uint64_t number, uint64_t flags) {
    if (flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) {
        cricketGraphExecHandle_args args{};
        cricketGraphExecHandle_res res{};
        args.exec = number;
        ReplyGuard guard;
        if (call(args, res) == CUDA_SUCCESS && res.handle) {
            std::unique_lock lock(known().mutex);
            known().numbers[res.handle] = number;
            return from_number<CUgraphExec>(res.handle);
        }
    }
    return from_number<CUgraphExec>(number);
}

uint64_t launchable_number(uint64_t handle) {
    std::shared_lock lock(known().mutex);
    const auto found = known().numbers.find(handle);
    return found == known().numbers.end() ? handle : found->second;
}

}  // namespace cricket::client
