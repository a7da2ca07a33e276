// SPDX-License-Identifier: MIT
// Where the driver puts the variables of what is loaded again, once repeating the order of loads alone did not do. Streams that
// are gone, executable graphs, large stacks and the like had taken room of the driver's before, and nothing repeats them.
//
// Measured on an H200 (driver 580, address randomization off): the driver takes room for variables, graphs and streams in blocks
// of 2 MiB, the lowest free one of an arena first; small variables share a block, and only a load that needs a new one is
// concerned. Arenas (32 MiB and multiples) are opened one below the other when the last is full. An address range that is
// reserved without a wish lies among these blocks, and costs no memory. So, before something is loaded whose variables lay in a block
// that nothing else has shown yet, ranges are reserved until that block is the next; an allocation opens a further arena.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace cricket::server {

class Session;

class Placement {
  public:
    // `variables`: as in a snapshot.
    Placement(Session& session, const nlohmann::json& variables);
    ~Placement() { give_back(); }
    Placement(const Placement&) = delete;
    // A module, or a library in this context, is loaded next.
    void before_load(uint64_t object, uint64_t context);
    void give_back();  // everything is loaded

  private:
    struct Variable {
        uint64_t context, address, bytes;
    };
    struct Range {
        CUdeviceptr address;
        bool memory;  // allocated, not reserved
    };
    bool make_next(CUdeviceptr block);
    void release(const std::vector<Range>& ranges);

    Session& session_;
    std::multimap<uint64_t, Variable> variables_;  // by module or library
    std::set<CUdeviceptr> shown_;                  // blocks with variables that are loaded
    std::vector<Range> kept_;
};

}  // namespace cricket::server
