// SPDX-License-Identifier: MIT
// Kernels that call malloc(): in a file, and so a module, of their own, since it is the module that is refused.
#include "kind.h"

namespace kinds {
namespace {

__global__ void allocate_inside(unsigned** to) {
    *to = static_cast<unsigned*>(malloc(64));
    if (*to) **to = 41;
}
__global__ void read_inside(unsigned** from, unsigned* to) { *to = *from ? **from : 0; }

struct {
    unsigned **pointer, *out;
} heap;

void heap_set_up() {
    RT(cudaMalloc(&heap.pointer, sizeof(void*)));
    RT(cudaMalloc(&heap.out, 4));
    allocate_inside<<<1, 1>>>(heap.pointer);
    RT(cudaDeviceSynchronize());
}

void heap_look() {
    read_inside<<<1, 1>>>(heap.pointer, heap.out);
    RT(cudaDeviceSynchronize());
    SAME(words_of(heap.out, 1)[0], 41u);
}

const Kinds kinds{{"device-heap", heap_set_up, heap_look, true}};

}  // namespace
}  // namespace kinds
