// SPDX-License-Identifier: MIT
// Host memory that executable graphs copy or set to. After a launch the application may look at it as soon as it knows
// that the launch is over, not before: till then what is there in the worker is newest (session.h, CopyToHost).
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <vector>

#include "call.h"
#include "host_memory.h"
#include "procedures.h"

namespace cricket::server {

class GraphTargets {
  public:
    // Whether after() is to be called for this procedure.
    static bool concerns(uint32_t procedure);
    // After the call succeeded; `args` and `res` are the procedure's.
    void after(Call& call, Proc procedure, const void* args, const void* res);
    // An executable graph was made of this graph, or updated from it.
    void made(Session& session, CUgraphExec exec, CUgraph graph);
    // cuGraphExecChildGraphNodeSetParams.
    void child_changed(Session& session, CUgraphExec exec, CUgraphNode node, CUgraph child);

  private:
    // By the node of the graph that the executable graph was made of. Lines of memory, where they are not one.
    using Targets = std::map<CUgraphNode, std::vector<HostRange>>;
    void collect(Session& session, CUgraph graph, Targets* out);
    void launched(Call& call, CUgraphExec exec, uint64_t stream);

    std::map<CUgraphExec, Targets> execs_;  // those that have any
};

}  // namespace cricket::server
