// SPDX-License-Identifier: MIT
// The heap behind malloc() in kernels. All its bookkeeping lies in its own memory, as on a real device: who
// saves and restores the bytes restores the heap.
#pragma once

#include "core.h"

namespace softgpu {

class DeviceHeap {
  public:
    DeviceHeap(int device, CUcontext owner);
    ~DeviceHeap();

    size_t size() const { return size_; }
    // Fails with CUDA_ERROR_INVALID_VALUE once the heap has been used, as the real driver does after a
    // launch.
    void resize(size_t size);
    void* allocate(size_t size);  // null when full; zero bytes give null
    void release(void* address);  // what allocate() did not give is ignored

  private:
    struct Block;
    void create();
    Block* next(Block* block) const;

    std::mutex mutex_;
    const int device_;
    const CUcontext owner_;
    size_t size_ = 8 << 20;
    uint64_t base_ = 0;  // 0 until the first use
};

}  // namespace softgpu
