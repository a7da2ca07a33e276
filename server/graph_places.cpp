// SPDX-License-Identifier: MIT
#include "graph_places.h"

#include <algorithm>

#include "checkpoint_parts.h"
#include "cricket/round_up.h"

namespace cricket::server {
namespace {

constexpr uint64_t block_bytes = 32u << 20;
constexpr uint64_t filler_bytes = 1u << 30;  // at most: the driver may look at how much memory there is
constexpr uint64_t most_bytes = uint64_t(1) << 42;

[[noreturn]] void displaced(CUdeviceptr was, CUdeviceptr is) {
    fail_checkpoint(at_address("memory of a graph was", was) + (is ? at_address(" and would now be", is) : ", which the driver does not come to") +
                    ": pointers to it would be wrong");
}

}  // namespace

GraphPlaces::~GraphPlaces() {
    for (const auto& [address, graph] : fillers_) driver_.cuGraphDestroy(graph);
}

void GraphPlaces::expect(const GraphDescription* graph, const std::vector<Allocation>& allocations) {
    std::vector<Extent> extents;
    Heap& heap = heaps_[graph];
    for (const Allocation& one : allocations) {
        Node node{one, {}};
        const auto around = std::ranges::find_if(extents, [&](const Extent& extent) {
            return one.address >= extent.begin && one.address <= extent.begin + extent.bytes;
        });
        if (around == extents.end()) {
            node.extent = {one.address, round_up(one.bytes, block_bytes)};
            extents.push_back(*node.extent);
        } else if (one.address + one.bytes > around->begin + around->bytes) {
            node.extent = {around->begin + around->bytes, round_up(one.bytes, block_bytes)};
            around->bytes += node.extent->bytes;
        }
        if (node.extent) wanted_[node.extent->begin] = node.extent->bytes;
        heap.nodes.push_back(std::move(node));
    }
}

void GraphPlaces::fill(CUdeviceptr to, const CUmemPoolProps& properties) {
    if (to - end_ > most_bytes) displaced(to, 0);
    while (end_ < to) {
        uint64_t bytes = std::min<uint64_t>(to - end_, filler_bytes);
        if (const auto next = wanted_.lower_bound(end_); next != wanted_.end())
            bytes = next->first == end_ ? next->second : std::min<uint64_t>(bytes, next->first - end_);
        CUgraph graph = nullptr;
        CUgraphNode node = nullptr;
        CUDA_MEM_ALLOC_NODE_PARAMS params{};
        params.poolProps = properties;
        params.bytesize = bytes;
        if (driver_.cuGraphCreate(&graph, 0) != CUDA_SUCCESS) displaced(to, 0);
        const CUresult status = driver_.cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params);
        if (status != CUDA_SUCCESS || params.dptr != end_) {
            driver_.cuGraphDestroy(graph);
            displaced(end_, status == CUDA_SUCCESS ? params.dptr : 0);
        }
        fillers_[end_] = graph;
        end_ += bytes;
    }
}

CUdeviceptr GraphPlaces::extent_of_next(const GraphDescription* graph) const {
    const Heap& heap = heaps_.at(graph);
    const Node& node = heap.nodes.at(heap.next);
    return node.extent ? node.extent->begin : 0;
}

void GraphPlaces::before_node(const GraphDescription* graph) {
    Heap& heap = heaps_.at(graph);
    const Node& node = heap.nodes.at(heap.next++);
    if (!node.extent) return;
    const auto [begin, bytes] = *node.extent;
    if (begin < end_) {
        const auto filler = fillers_.find(begin);
        if (filler == fillers_.end()) displaced(begin, 0);
        driver_.cuGraphDestroy(filler->second);
        fillers_.erase(filler);
    } else {
        fill(begin, node.allocation.properties);
        end_ += bytes;
    }
    wanted_.erase(begin);
}

void GraphPlaces::after_node(CUdeviceptr was, CUdeviceptr is) {
    if (was != is) displaced(was, is);
}

}  // namespace cricket::server
