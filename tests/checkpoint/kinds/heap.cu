// SPDX-License-Identifier: MIT
// What malloc() and new in kernels gave: lists whose nodes point to each other, of which half were freed; and the heap goes on
// giving what nobody has.
#include <algorithm>

#include "kind.h"

namespace kinds {
namespace {

constexpr unsigned lists = 128, nodes = 24, most = 2 * nodes;

struct Node {
    Node* next;
    unsigned long long words;  // of the whole node
    unsigned long long tag;
};

__device__ unsigned mix(unsigned x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

__global__ void build(Node** heads, unsigned seed, unsigned* failed) {
    const unsigned list = blockIdx.x * blockDim.x + threadIdx.x;
    for (unsigned i = 0; i < nodes; ++i) {
        const unsigned long long words = 4 + mix(seed + list * nodes + i) % 60;
        auto* node = static_cast<Node*>(malloc(words * 8));
        if (!node) {
            atomicAdd(failed, 1);
            continue;
        }
        node->next = heads[list];
        node->words = words;
        node->tag = static_cast<unsigned long long>(seed) << 32 | (list * nodes + i);
        for (unsigned k = 3; k < words; ++k) reinterpret_cast<unsigned long long*>(node)[k] = node->tag + k;
        heads[list] = node;
    }
}

__global__ void free_every_second(Node** heads) {
    for (Node* node = heads[blockIdx.x * blockDim.x + threadIdx.x]; node && node->next; node = node->next) {
        Node* gone = node->next;
        node->next = gone->next;
        free(gone);
    }
}

__global__ void free_all(Node** heads) {
    const unsigned list = blockIdx.x * blockDim.x + threadIdx.x;
    for (Node* node = heads[list]; node;) {
        Node* gone = node;
        node = node->next;
        free(gone);
    }
    heads[list] = nullptr;
}

// Where every node is and how long; counts those whose content is wrong.
__global__ void walk(Node* const* heads, unsigned long long* found, unsigned* bad) {
    const unsigned list = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned i = 0;
    for (const Node* node = heads[list]; node && i < most; node = node->next, ++i) {
        found[2 * (list * most + i)] = reinterpret_cast<unsigned long long>(node);
        found[2 * (list * most + i) + 1] = node->words * 8;
        for (unsigned k = 3; k < node->words; ++k)
            if (reinterpret_cast<const unsigned long long*>(node)[k] != node->tag + k) atomicAdd(bad, 1);
    }
}

__global__ void make_object(int** to) { *to = new int(41); }
__global__ void read_object(int* const* from, unsigned* to) { *to = static_cast<unsigned>(**from); }

struct {
    Node **heads, **more;
    unsigned long long* found;
    unsigned* counts;
    int** object;
    std::vector<std::pair<unsigned long long, unsigned long long>> all;  // address and bytes, as set up
} heap;

std::vector<std::pair<unsigned long long, unsigned long long>> nodes_of(Node** heads) {
    std::vector<unsigned long long> found(2 * lists * most);
    RT(cudaMemset(heap.found, 0, found.size() * 8));
    RT(cudaMemset(heap.counts, 0, 4));
    walk<<<lists / 32, 32>>>(heads, heap.found, heap.counts);
    RT(cudaDeviceSynchronize());
    SAME(words_of(heap.counts, 1)[0], 0u);
    CU(cuMemcpyDtoH(found.data(), device(heap.found), found.size() * 8));
    std::vector<std::pair<unsigned long long, unsigned long long>> all;
    for (size_t i = 0; i < found.size(); i += 2)
        if (found[i]) all.push_back({found[i], found[i + 1]});
    return all;
}

void grow(Node** heads, unsigned seed) {
    RT(cudaMemset(heap.counts, 0, 4));
    build<<<lists / 32, 32>>>(heads, seed, heap.counts);
    RT(cudaDeviceSynchronize());
    SAME(words_of(heap.counts, 1)[0], 0u);
}

void heap_set_up() {
    // The heap goes with its context; that of the next one is another.
    RT(cudaMalloc(&heap.object, sizeof(int*)));
    make_object<<<1, 1>>>(heap.object);
    RT(cudaDeviceSynchronize());
    RT(cudaDeviceReset());
    RT(cudaDeviceSetLimit(cudaLimitMallocHeapSize, 12 << 20));
    RT(cudaMalloc(&heap.heads, lists * sizeof(Node*)));
    RT(cudaMalloc(&heap.more, lists * sizeof(Node*)));
    RT(cudaMalloc(&heap.found, 2 * lists * most * 8));
    RT(cudaMalloc(&heap.counts, 4));
    RT(cudaMalloc(&heap.object, sizeof(int*)));
    RT(cudaMemset(heap.heads, 0, lists * sizeof(Node*)));
    RT(cudaMemset(heap.more, 0, lists * sizeof(Node*)));
    grow(heap.heads, 1);
    free_every_second<<<lists / 32, 32>>>(heap.heads);
    grow(heap.heads, 2);
    make_object<<<1, 1>>>(heap.object);
    RT(cudaDeviceSynchronize());
    heap.all = nodes_of(heap.heads);
    SAME(heap.all.size(), size_t(lists) * (nodes + nodes / 2));
}

void heap_look() {
    size_t limit = 0;
    RT(cudaDeviceGetLimit(&limit, cudaLimitMallocHeapSize));
    CHECK(limit >= 12 << 20);
    CHECK(nodes_of(heap.heads) == heap.all);
    read_object<<<1, 1>>>(heap.object, heap.counts);
    RT(cudaDeviceSynchronize());
    SAME(words_of(heap.counts, 1)[0], 41u);
    for (unsigned round = 3; round < 6; ++round) {
        grow(heap.more, round);
        auto all = nodes_of(heap.more);
        SAME(all.size(), size_t(lists) * nodes);
        all.insert(all.end(), heap.all.begin(), heap.all.end());
        std::sort(all.begin(), all.end());
        for (size_t i = 1; i < all.size(); ++i) CHECK(all[i - 1].first + all[i - 1].second <= all[i].first);
        free_all<<<lists / 32, 32>>>(heap.more);
        RT(cudaDeviceSynchronize());
    }
    CHECK(nodes_of(heap.heads) == heap.all);
}

const Kinds kinds{{"device-heap", heap_set_up, heap_look, true}};

}  // namespace
}  // namespace kinds
