// SPDX-License-Identifier: MIT
// Loading of code on first use (CUDA_MODULE_LOADING=LAZY). Where the driver puts modules and their variables depends on
// the order in which code is loaded, so a restore repeats that order: before a call that may make the driver load
// something, the server has it loaded explicitly, and journals that once. What is loaded already costs one comparison.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace cricket::server {

struct Call;

class Loading {
  public:
    // The driver's function behind a CUfunction or CUkernel number, loaded in the current context. False when there is no
    // such number. A load that fails is left to the call that wants it, whose error says more.
    bool function(Call& call, uint64_t number, CUfunction* out);
    // A library's module in the current context: its variables get their places.
    void library(Call& call, uint64_t number);
    // Questions about a kernel on a device, which may not be the current context's.
    void kernel_on(Call& call, uint64_t number, CUdevice device);

    // A library's managed variables got their places without a context: an event of its own, once.
    bool managed_placed(uint64_t library) { return loaded_.insert({library, 0}).second; }
    bool library_in(uint64_t library, uint64_t context) const { return loaded_.count({library, context}) != 0; }
    // A journalled load, repeated.
    CUresult repeat(Call& call, uint64_t number, CUdevice device);
    // The CUkernel (its number) and the context that a CUfunction of the driver's is of; {0, 0}: of none that was loaded here.
    struct KernelOf {
        uint64_t kernel = 0, context = 0;
    };
    KernelOf kernel_of(CUfunction function) const;
    void context_gone(uint64_t context);
    void object_gone(uint64_t number);

  private:
    bool load_function(Call& call, uint64_t number, CUfunction function);
    bool load_kernel(Call& call, uint64_t number, CUkernel kernel);
    void note(Call& call, uint64_t number, CUdevice device);

    std::set<std::pair<uint64_t, uint64_t>> loaded_;    // (library or kernel, context)
    std::set<std::pair<uint64_t, CUdevice>> asked_;     // (kernel, device)
    std::map<CUfunction, KernelOf> functions_;
};

}  // namespace cricket::server
