// SPDX-License-Identifier: MIT
// The values that conditional nodes look at.
#include "graph.h"

namespace softgpu {
namespace {

std::mutex mutex;
std::map<uint64_t, std::weak_ptr<Conditional>>& conditionals() {
    return immortal<std::map<uint64_t, std::weak_ptr<Conditional>>>();
}

}  // namespace

CUgraphConditionalHandle add_conditional(Graph& graph, unsigned default_value, bool assign_default) {
    static uint64_t last = 0x7c0dull << 40;
    auto made = std::make_shared<Conditional>();
    made->graph = &graph;
    made->default_value = default_value;
    made->assign_default = assign_default;
    made->value = default_value;
    std::unique_lock lock(mutex);
    made->handle = ++last;
    conditionals()[made->handle] = made;
    graph.conditionals.push_back(made);
    return made->handle;
}

void set_conditional(uint64_t handle, unsigned value) {
    std::unique_lock lock(mutex);
    auto found = conditionals().find(handle);
    if (found == conditionals().end()) return;
    if (auto condition = found->second.lock()) condition->value = value;
}

}  // namespace softgpu
