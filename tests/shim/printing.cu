// SPDX-License-Identifier: MIT
// Text from kernels between the program's own, after each way of waiting for the device; then a failed assert.
// Argument "assert": only that, and what calls answer afterwards. Argument "steps": a kernel's line and one of our own in
// turns until SIGTERM, for a test that interrupts.
#include <cassert>
#include <csignal>
#include <cstdio>
#include <cstring>

__global__ void say(int number) { printf("kernel %d thread %d\n", number, threadIdx.x); }
__global__ void claim(int zero) { assert(zero == 0); }

static void failing() {
    claim<<<1, 1>>>(1);
    std::printf("launch %s\n", cudaGetErrorName(cudaGetLastError()));
    std::printf("wait %s\n", cudaGetErrorName(cudaDeviceSynchronize()));
    std::fprintf(stderr, "after the assert\n");
    claim<<<1, 1>>>(0);
    std::printf("launch %s\n", cudaGetErrorName(cudaGetLastError()));
    void* memory = nullptr;
    std::printf("malloc %s\n", cudaGetErrorName(cudaMalloc(&memory, 4)));
    cudaDeviceReset();
}

static volatile std::sig_atomic_t stop = 0;

static void stepping() {
    std::signal(SIGTERM, [](int) { stop = 1; });
    int step = 0;
    for (; !stop; ++step) {
        say<<<1, 1>>>(step);
        if (cudaStreamSynchronize(nullptr) != cudaSuccess) return;
        std::printf("step %d\n", step);
        std::fflush(stdout);
    }
    std::printf("PASS %d steps\n", step);
}

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "steps") == 0) {
        stepping();
        return 0;
    }
    if (argc > 1 && std::strcmp(argv[1], "assert") == 0) {
        failing();
        return 0;
    }
    cudaStream_t stream;
    cudaEvent_t event;
    int *device, host = 0;
    cudaStreamCreate(&stream);
    cudaEventCreate(&event);
    cudaMalloc(&device, sizeof host);
    std::printf("begin\n");
    say<<<1, 2>>>(1);
    cudaDeviceSynchronize();
    std::printf("device\n");
    say<<<1, 1, 0, stream>>>(2);
    cudaStreamSynchronize(stream);
    std::printf("stream\n");
    say<<<1, 1, 0, stream>>>(3);
    cudaEventRecord(event, stream);
    cudaEventSynchronize(event);
    std::printf("event\n");
    say<<<1, 1>>>(4);
    cudaMemcpy(&host, device, sizeof host, cudaMemcpyDeviceToHost);
    std::printf("copy\n");
    for (int i = 0; i < 3000; ++i) say<<<1, 1, 0, stream>>>(i);
    cudaStreamSynchronize(stream);
    std::printf("end\n");
    return cudaGetLastError() == cudaSuccess ? 0 : 1;
}
