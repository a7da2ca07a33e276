// SPDX-License-Identifier: MIT
// A capture that stays open until it is told to end it, with calls all the while: a checkpoint has to give up in its time.
//   capturing           SIGUSR1: ends the capture and goes on without; SIGTERM: PASS, when all came out right
#include <cuda_runtime.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace {

volatile sig_atomic_t let_go = 0, over = 0;

void must(cudaError_t result, const char* what) {
    if (result == cudaSuccess) return;
    std::printf("FAILED %s: %s\n", what, cudaGetErrorString(result));
    std::exit(1);
}
#define MUST(call) must(call, #call)

}  // namespace

int main() {
    ::signal(SIGUSR1, [](int) { let_go = 1; });
    ::signal(SIGTERM, [](int) { over = 1; });
    constexpr size_t bytes = 1 << 20;
    unsigned char *memory = nullptr, first = 0;
    cudaStream_t stream = nullptr, other = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    MUST(cudaMalloc(&memory, 2 * bytes));
    MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    MUST(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    MUST(cudaMemsetAsync(memory, 7, bytes, stream));
    std::puts("capturing");
    std::fflush(stdout);
    while (!let_go && !over) {
        MUST(cudaMemsetAsync(memory + bytes, 3, bytes, other));
        MUST(cudaStreamSynchronize(other));
        ::usleep(500);
    }
    MUST(cudaStreamEndCapture(stream, &graph));
    MUST(cudaGraphInstantiate(&exec, graph, 0));
    std::puts("captured");
    std::fflush(stdout);
    do {
        MUST(cudaMemsetAsync(memory, 1, bytes, stream));
        MUST(cudaGraphLaunch(exec, stream));
        MUST(cudaMemcpyAsync(&first, memory + bytes - 1, 1, cudaMemcpyDeviceToHost, stream));
        MUST(cudaStreamSynchronize(stream));
        if (first != 7) return std::printf("FAILED: %u\n", first), 1;
        ::usleep(500);
    } while (!over);
    std::puts("PASS capturing");
    return 0;
}
