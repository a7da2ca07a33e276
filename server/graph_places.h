// SPDX-License-Identifier: MIT
// Where the driver puts the memory of graphs that are made again: no call chooses an address, but the driver can be led.
//
// Measured on an H200 (driver 580), the same in every process: the memory of graphs lies in a range of addresses of its own, in
// which nothing else lies. Each graph has a heap there, made of extents: what does not fit into the heap gets a new one, of as many
// times 32 MiB as the allocation alone needs, and one that lies behind the graph's last grows that. In a process that has had no
// such graph yet extents follow each other from the beginning of the range. One that was given back is used again for a request of
// its size, though not by a graph that grows, and which of several is used again varies.
// Within a heap the same nodes, in the same order and with the same edges, get the same places. A node needs no memory until a launch.
//
// So, before a node is added that had begun an extent, graphs of one allocation take the addresses below it. Extents are made in the
// order of their addresses (graph_building.h); where a graph had them in another order, one of those small graphs takes each extent
// that is to come, and goes when its time is there.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "driver_table.h"

namespace cricket::server {

struct GraphDescription;

class GraphPlaces {
  public:
    struct Allocation {
        CUdeviceptr address = 0;
        uint64_t bytes = 0;
        CUmemPoolProps properties{};
    };
    // `beginning`: of the driver's range, as the session has seen it.
    GraphPlaces(const DriverTable& driver, CUdeviceptr beginning) : driver_(driver), end_(beginning) {}
    ~GraphPlaces();
    GraphPlaces(const GraphPlaces&) = delete;

    // A graph that will be built, with its allocations in the order of their nodes. All of them before the first is built.
    void expect(const GraphDescription* graph, const std::vector<Allocation>& allocations);
    // The extent that the graph's next allocation node begins; 0: none.
    CUdeviceptr extent_of_next(const GraphDescription* graph) const;
    // That node is added, in the current context. Both throw std::runtime_error where it cannot lie where it lay, by address.
    void before_node(const GraphDescription* graph);
    static void after_node(CUdeviceptr was, CUdeviceptr is);

  private:
    struct Extent {
        CUdeviceptr begin = 0;
        uint64_t bytes = 0;
    };
    struct Node {
        Allocation allocation;
        std::optional<Extent> extent;  // that it begins
    };
    struct Heap {
        std::vector<Node> nodes;
        size_t next = 0;
    };
    void fill(CUdeviceptr to, const CUmemPoolProps& properties);

    const DriverTable& driver_;
    CUdeviceptr end_;                             // of the extents that there are
    std::map<const GraphDescription*, Heap> heaps_;
    std::map<CUdeviceptr, uint64_t> wanted_;      // extents to come, with their bytes
    std::map<CUdeviceptr, CUgraph> fillers_;
};

}  // namespace cricket::server
