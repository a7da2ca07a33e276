// SPDX-License-Identifier: MIT
// __managed__ variables: the driver placed them in the worker, and the host's code uses the same addresses here. Memory of
// our own stands there; what the host changed is sent before work that may read it, what the device changed is fetched
// after the host has waited for it. A host that watches a variable while a kernel runs does not see it change.
// Costs one load where there are no such variables.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>

namespace cricket::client::managed {

extern std::atomic<bool> some;
inline bool any() { return some.load(std::memory_order_relaxed); }

// A variable's place became known. CUDA_ERROR_NOT_SUPPORTED, and a log line, when something of the process is there.
CUresult add(const char* name, CUdeviceptr address, size_t bytes);
// Before a call that may use it, and after one that waited for the device. Not while a lock of the ring is held.
void flush();
void fetch();

// Around a copy, which may take from or go to such a variable.
class Copying {
  public:
    Copying(bool wait, uint32_t flags) : wait_(wait && any()), flags_(flags) {
        if (any()) [[unlikely]]
            flush();
    }
    ~Copying() {
        if (wait_) [[unlikely]]
            settle();
    }
    Copying(const Copying&) = delete;

  private:
    void settle() const;  // waits for the copy, then fetches
    bool wait_;
    uint32_t flags_;
};

}  // namespace cricket::client::managed
