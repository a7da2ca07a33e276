// SPDX-License-Identifier: MIT
// What a stream does, as data: one step is done by a stream at once, or becomes a node of a graph, which
// shows it, changes it, and does it at each launch. action() makes the function that does it.
#pragma once

#include <functional>
#include <variant>

#include "module.h"

namespace softgpu {

struct Event;
struct Graph;
struct GraphAllocation;
struct Conditional;

using Action = std::function<void()>;
// Of one executable graph, at any depth of it.
using Conditions = std::map<CUgraphConditionalHandle, std::shared_ptr<Conditional>>;

struct KernelStep {
    std::shared_ptr<Function> function;
    CUfunction handle = nullptr;  // of `function`
    CUkernel kernel = nullptr;    // when it was named by that
    ptx::Dim3 grid, block;
    unsigned shared = 0;            // bytes of dynamic shared memory
    std::vector<std::byte> values;  // as ptx::Kernel::params lays them out
    std::map<CUlaunchAttributeID, CUlaunchAttributeValue> attributes;

    bool cooperative() const;
};

struct MemcpyStep {
    CUDA_MEMCPY3D params;
    CUcontext context;
};

struct MemsetStep {
    CUDA_MEMSET_NODE_PARAMS_v2 params;
};

struct HostStep {
    CUhostFn function;
    void* data;
};

struct ChildStep {
    std::shared_ptr<Graph> graph;
};

struct EmptyStep {};

struct EventWaitStep {
    CUevent handle;
    std::shared_ptr<Event> event;
};

struct EventRecordStep {
    CUevent handle;
    std::shared_ptr<Event> event;
};

struct AllocStep {
    CUDA_MEM_ALLOC_NODE_PARAMS_v2 params;
    std::vector<CUmemAccessDesc> access;
    std::shared_ptr<GraphAllocation> allocation;
};

struct FreeStep {
    CUdeviceptr pointer;
    std::weak_ptr<GraphAllocation> allocation;  // a graph may have had several in this place
};

struct MemOpsStep {
    CUcontext context;
    std::vector<CUstreamBatchMemOpParams> list;
    unsigned flags;
};

struct ConditionalStep {
    std::shared_ptr<Conditional> condition;
    CUgraphConditionalNodeType type;
    std::vector<std::shared_ptr<Graph>> bodies;
    CUcontext context;
};

// In the order of CUgraphNodeType, but for the external semaphores, which nobody here has.
using Step = std::variant<KernelStep, MemcpyStep, MemsetStep, HostStep, ChildStep, EmptyStep, EventWaitStep,
                          EventRecordStep, AllocStep, FreeStep, MemOpsStep, ConditionalStep>;

// Each fails as the function that does the same in a stream would; what the action itself throws is sticky.
// `on`: multiprocessors that it may run on, a bit for each; 0: all. `conditions`: those that the kernel may set.
Action action(const KernelStep& step, uint64_t on = 0, std::shared_ptr<const Conditions> conditions = nullptr);
Action action(const MemcpyStep& step);
Action action(const MemsetStep& step);
Action action(const HostStep& step);
Action action(const MemOpsStep& step);

// Checks the arguments of a launch and copies the parameters. The context is that of the library's module
// when the function is a CUkernel.
KernelStep kernel_step(CUfunction function, const CUlaunchConfig& config, void** params, void** extra,
                       const std::shared_ptr<Context>& context);

}  // namespace softgpu
