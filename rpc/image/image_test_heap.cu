// SPDX-License-Identifier: MIT
// A kernel that takes memory from the device heap.
__global__ void allocate(int** out) { *out = static_cast<int*>(malloc(sizeof(int))); }
