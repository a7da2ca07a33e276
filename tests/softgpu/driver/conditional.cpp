// SPDX-License-Identifier: MIT
// The values that conditional nodes look at. Their handles count from 1 in each graph that is inside of no other,
// so that a handle means something only to the executable graph in which a kernel names it.
#include "graph.h"

namespace softgpu {

CUgraphConditionalHandle add_conditional(Graph& graph, unsigned default_value, bool assign_default) {
    auto top = &graph;
    while (top->owner) top = top->owner->graph;
    auto made = std::make_shared<Conditional>();
    made->default_value = default_value;
    made->assign_default = assign_default;
    made->value = default_value;
    made->handle = ++top->last_conditional;
    graph.conditionals.push_back(made);
    return made->handle;
}

void set_conditional(const Conditions& conditions, uint64_t handle, unsigned value) {
    auto found = conditions.find(handle);
    if (found != conditions.end()) found->second->value = value;
}

}  // namespace softgpu
