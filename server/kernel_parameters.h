// SPDX-License-Identifier: MIT
// Parameters of a kernel, which cross packed at their offsets, as the driver takes them; and the attributes of a launch that
// hold handles. For launches and for nodes of graphs.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "call.h"

namespace cricket::server {

// Packed parameters of a kernel as the driver's array of pointers; where the driver does not tell the kernel's layout,
// as `extra`. Points into itself.
class KernelParameters {
  public:
    KernelParameters() = default;
    KernelParameters(const KernelParameters&) = delete;
    void unpack(Call& call, uint64_t function, const rpc::Blob& packed);
    void** pointers() { return pointers_.empty() ? nullptr : pointers_.data(); }
    void** extra() { return pointers_.empty() && !bytes_.empty() ? extra_ : nullptr; }

  private:
    std::vector<std::max_align_t> bytes_;
    std::vector<void*> pointers_;
    size_t size_ = 0;
    void* extra_[5] = {};
};
// The other way: the parameters of a kernel node as the driver tells them. An empty blob for a kernel without any.
CUresult pack_parameters(Call& call, const CUDA_KERNEL_NODE_PARAMS_v3& kernel, rpc::Blob* packed);

// Offset and size in bytes of each of a kernel's parameters, in order. `number`: of a CUfunction or a CUkernel.
struct KernelParameter {
    size_t offset, size;
};
CUresult kernel_parameters(Call& call, uint64_t number, std::vector<KernelParameter>* out);

// The events in attributes of kernels: numbers to handles; false when one is none of the session's. And back.
bool attribute_to_driver(Call& call, CUlaunchAttributeID id, CUlaunchAttributeValue* value);
void attribute_from_driver(Call& call, CUlaunchAttributeID id, CUlaunchAttributeValue* value);

}  // namespace cricket::server
