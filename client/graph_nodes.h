// SPDX-License-Identifier: MIT
// Parameters of graph nodes as they cross (server/graph_nodes.h has the other end): CUgraphNodeParams with handles as
// session numbers, and beside it what its pointers lead to:
//   kernel: the parameters packed at their offsets; batch of memory operations: the operations; allocation: who may access
//   it; conditional (from the server): the numbers of its graphs.
// A host function crosses as the id of a callback, in userData. Host memory of copies crosses by address: pageable memory is
// shared with the server first (captures::share).
//
// What the application gets back lies in memory that lives as long as the node: the same as before where it is the same.
#pragma once

#include <cuda.h>

#include "client/packed_parameters.h"
#include "client/session.h"

namespace cricket::client {

class NodeMessage {
  public:
    NodeMessage() = default;
    NodeMessage(const NodeMessage&) = delete;

    // `params` and `data` point into this object and into what `from` points at.
    CUresult encode(Session& session, const CUgraphNodeParams& from);
    rpc::Blob params, data;

  private:
    CUgraphNodeParams value_{};
    PackedParameters packed_;
};

// The callback that stands for a function with its data in all nodes of graphs: one for each pair, as long as the session.
CUresult host_node_id(CUhostFn function, void* user, uint64_t* id);

// The other way, for the node with this number.
CUresult decode_node_params(uint64_t node, const rpc::Blob& params, const rpc::Blob& data, CUgraphNodeParams* out);

}  // namespace cricket::client
