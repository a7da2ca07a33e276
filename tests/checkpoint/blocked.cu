// SPDX-License-Identifier: MIT
// A call that waits in the driver for a host function, which returns when the program is sent SIGUSR1: until then its worker executes
// nothing else.
#include <cuda.h>
#include <signal.h>

#include <cstdio>

#include "../../examples/example.h"

using namespace example;

static const char module_text[] = R"(
.version 6.4
.target sm_50
.address_size 64
.visible .entry nothing() { ret; }
)";

static void CUDART_CB until_told(void* set) {
    int signal = 0;
    sigwait(static_cast<sigset_t*>(set), &signal);
}

int main() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    CUDA_CHECK(cudaFree(nullptr));
    CUmodule module = nullptr;
    if (cuModuleLoadData(&module, module_text) != CUDA_SUCCESS) fail("blocked: the module is not loaded");
    CUDA_CHECK(cudaLaunchHostFunc(nullptr, until_told, &set));
    std::puts("blocked");
    std::fflush(stdout);
    if (cuModuleUnload(module) != CUDA_SUCCESS) fail("blocked: the module is not unloaded");
    CUDA_CHECK(cudaDeviceSynchronize());
    return pass("blocked: all has come back");
}
