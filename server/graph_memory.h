// SPDX-License-Identifier: MIT
// Memory that nodes of graphs allocate, or cuMemAllocAsync in a capture: it has its address from the making of its node on, and is
// there from a launch until something frees it - mostly a node of the same graph.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <set>

#include "driver_table.h"

namespace cricket::server {

class GraphMemory {
  public:
    void note(CUdeviceptr address) {
        addresses_.insert(address);
        begins(address);
    }
    // The lowest address of all, in earlier lives of the session too: where the driver's range begins (graph_places.h); 0: none yet.
    CUdeviceptr beginning() const { return beginning_; }
    void begins(CUdeviceptr address) {
        if (address) beginning_ = beginning_ ? std::min(beginning_, address) : address;
    }
    bool any() const { return !addresses_.empty(); }

    // An address at which a launch has left memory, 0: none. `freed`: what the graph that allocates it frees. What is not in
    // use, and `known` no more, is forgotten.
    CUdeviceptr left(const DriverTable& driver, const std::set<CUdeviceptr>& known, const std::set<CUdeviceptr>& freed) {
        for (auto at = addresses_.begin(); at != addresses_.end();) {
            CUdeviceptr base = 0;
            size_t bytes = 0;
            if (!freed.contains(*at) && driver.cuMemGetAddressRange_v2(&base, &bytes, *at) == CUDA_SUCCESS) return *at;
            at = known.contains(*at) ? std::next(at) : addresses_.erase(at);
        }
        return 0;
    }

  private:
    std::set<CUdeviceptr> addresses_;
    CUdeviceptr beginning_ = 0;
};

// A value that kernels set and conditional nodes read; the driver counts a graph's up from 1, those of the bodies in it included.
struct ConditionalHandle {
    uint64_t value = 0, context = 0;  // the latter by number, 0: that of the call
    uint32_t initial = 0, flags = 0;
};

}  // namespace cricket::server
