// SPDX-License-Identifier: MIT
// Host functions in stream order: a word goes through a kernel, a copy to pinned memory, a host function that changes it
// there, and back; several rounds are in flight. Each change is x -> a*x + b (mod p), whose order matters, and each host
// function knows its number: one that is lost, repeated, overtaken, or run before the copy in front of it, shows.
#include <atomic>
#include <vector>

#include "example.h"

using namespace example;

using Word = unsigned long long;
constexpr Word kPrime = 2147483647;

__host__ __device__ static Word on_device(Word x, Word step) { return (x * (2 * step + 3) + 7) % kPrime; }
static Word on_host(Word x, Word step) { return (x * (step + 5) + step) % kPrime; }

__global__ void walk(Word* word, Word step) { *word = on_device(*word, step); }

static Word* pinned = nullptr;
static std::atomic<long> functions_run{0}, callbacks_run{0};
static long work_us = 300;

struct Round {
    long step;
};

static void CUDART_CB host_function(void* data) {
    auto* round = static_cast<Round*>(data);
    const long before = functions_run.fetch_add(1);
    if (before != round->step) fail("hostfn: host function %ld ran as number %ld", round->step, before);
    void* refused = nullptr;
    if (cudaMalloc(&refused, 4) == cudaSuccess) fail("hostfn: a host function was allowed to call CUDA");
    timespec start{}, now{};
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000000 + (now.tv_nsec - start.tv_nsec) / 1000 < work_us);
    *pinned = on_host(*pinned, Word(round->step));
}

static void CUDART_CB stream_callback(cudaStream_t, cudaError_t status, void* data) {
    auto* round = static_cast<Round*>(data);
    if (status != cudaSuccess) fail("hostfn: callback %ld is told error %d", round->step, int(status));
    const long before = callbacks_run.fetch_add(1);
    if (before != round->step || functions_run.load() != round->step + 1)
        fail("hostfn: callback %ld ran as number %ld behind %ld host functions", round->step, before, functions_run.load());
    delete round;
}

int main(int argc, char** argv) {
    Common common = {.steps = 200};
    long in_flight = 6;
    parse(argc, argv, common,
          {{"in-flight", "rounds sent before one is waited for (6)", &in_flight},
           {"work-us", "time that a host function takes (300)", &work_us}});
    if (in_flight < 1) fail("hostfn: --in-flight must be at least 1");
    cudaStream_t stream = nullptr;
    Word* word = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA_CHECK(cudaMalloc(&word, sizeof *word));
    CUDA_CHECK(cudaMallocHost(&pinned, sizeof *pinned));
    *pinned = 1;
    CUDA_CHECK(cudaMemcpy(word, pinned, sizeof *word, cudaMemcpyHostToDevice));
    Word expected = 1;
    long step = 0;
    while (!done(common, step)) {
        for (long i = 0; i < in_flight; ++i, ++step) {
            auto* round = new Round{step};
            walk<<<1, 1, 0, stream>>>(word, Word(step));
            CUDA_CHECK(cudaGetLastError());
            CUDA_CHECK(cudaMemcpyAsync(pinned, word, sizeof *word, cudaMemcpyDeviceToHost, stream));
            CUDA_CHECK(cudaLaunchHostFunc(stream, host_function, round));
            CUDA_CHECK(cudaMemcpyAsync(word, pinned, sizeof *word, cudaMemcpyHostToDevice, stream));
            CUDA_CHECK(cudaStreamAddCallback(stream, stream_callback, round, 0));
            expected = on_host(on_device(expected, Word(step)), Word(step));
        }
        CUDA_CHECK(cudaStreamSynchronize(stream));
        if (*pinned != expected) fail("hostfn: after step %ld the word is %llu, should be %llu", step, *pinned, expected);
        if (callbacks_run.load() != step) fail("hostfn: %ld of %ld callbacks ran", callbacks_run.load(), step);
        if (time_to_report(common)) {
            std::printf("step %ld word %llu\n", step, expected);
            std::fflush(stdout);
        }
        example::pause(common);
    }
    CUDA_CHECK(cudaFreeHost(pinned));
    CUDA_CHECK(cudaFree(word));
    CUDA_CHECK(cudaStreamDestroy(stream));
    return pass("hostfn: %ld rounds", step);
}
