// SPDX-License-Identifier: MIT
// Parameters of graph nodes between messages and the driver (client/graph_nodes.h has the other end): CUgraphNodeParams as
// it is, with handles as session numbers, and beside it what its pointers lead to.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <vector>

#include "call.h"

namespace cricket::server {

// Packed parameters of a kernel as the driver's array of pointers; where the driver does not tell the kernel's layout,
// as `extra`. Points into itself.
class KernelParameters {
  public:
    KernelParameters() = default;
    KernelParameters(const KernelParameters&) = delete;
    CUresult unpack(Call& call, uint64_t function, const rpc::Blob& packed);
    void** pointers() { return pointers_.empty() ? nullptr : pointers_.data(); }
    void** extra() { return pointers_.empty() && !bytes_.empty() ? extra_ : nullptr; }

  private:
    std::vector<std::max_align_t> bytes_;
    std::vector<void*> pointers_;
    size_t size_ = 0;
    void* extra_[5] = {};
};

// Offsets and sizes of a function's parameters. `number` is a CUfunction's or a CUkernel's.
struct KernelParameter {
    size_t offset, size;
};
CUresult kernel_parameters(Call& call, uint64_t number, std::vector<KernelParameter>* out);
CUresult kernel_parameters(Call& call, CUfunction function, std::vector<KernelParameter>* out);

// The events in attributes of kernels: numbers to handles; false when one is none of the session's. And back.
bool attribute_to_driver(Call& call, CUlaunchAttributeID id, CUlaunchAttributeValue* value);
void attribute_from_driver(Call& call, CUlaunchAttributeID id, CUlaunchAttributeValue* value);

// One node's parameters for a call of the driver. `value` points into this object.
class NodeParams {
  public:
    NodeParams() = default;
    NodeParams(const NodeParams&) = delete;
    CUresult decode(Call& call, const rpc::Blob& params, const rpc::Blob& data);
    CUgraphNodeParams value{};

  private:
    KernelParameters kernel_;
    std::vector<CUstreamBatchMemOpParams> operations_;
    std::vector<CUmemAccessDesc> access_;
};

// The structs of the functions before cuGraphAddNode begin like their newer versions.
template <class Old, class New>
Old* as_older(New* params) {
    static_assert(sizeof(Old) <= sizeof(New));
    return reinterpret_cast<Old*>(params);
}

// Asks the driver about a node of a type that has parameters it tells; pointers in them are valid as long as the node.
CUresult driver_node_params(const DriverTable& driver, CUgraphNode node, CUgraphNodeType type, CUgraphNodeParams* out);

// What the driver says about a node, as a message. `node` owns graphs that appear in it.
CUresult encode_node_params(Call& call, CUgraphNode node, CUgraphNodeParams value, rpc::Blob* params, rpc::Blob* data);

// Numbers of the nodes of a graph, of graphs inside it and of their nodes are dropped. Before the driver destroys it, since
// it is asked which they are.
class DroppedNumbers {
  public:
    explicit DroppedNumbers(Call& call) : call_(call) {}
    void graph(CUgraph graph);  // without its own number
    void node(CUgraphNode node);
    void drop();                // when the driver has destroyed them

  private:
    Call& call_;
    std::vector<uint64_t> graphs_, nodes_;
};

}  // namespace cricket::server
