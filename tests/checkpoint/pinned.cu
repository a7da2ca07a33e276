// SPDX-License-Identifier: MIT
// Pinned memory of which every second word is the program's and the others a kernel's. The program writes its words anew at
// each SIGUSR1, without any CUDA call; at the last one it waits for the kernel, and all words must be there. So pages are
// written by both sides, and between two calls it can be dumped and restored as often as one likes. With --phase-ms it needs no
// signals: again and again it launches a kernel, writes its words for so long, and waits.
#include <cuda.h>
#include <signal.h>
#include <time.h>

#include "../../examples/example.h"

using namespace example;

constexpr unsigned pages = 16, words = pages * 1024;
static long work_ms = 0, writes = 1, polls = 0, phase_ms = 0, green = 0;

// The first half of its words at once, the others when it has taken its time.
__global__ void write(volatile unsigned* all, unsigned with, long rounds, unsigned* scratch) {
    for (unsigned i = 0; i < words / 2; i += 2) all[i] = with;
    unsigned x = with;
    for (long i = 0; i < rounds; ++i) x = x * 1664525u + 1013904223u;
    *scratch = x;
    for (unsigned i = words / 2; i < words; i += 2) all[i] = with;
}

static double now_ms() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

static long rounds_for(double ms, volatile unsigned* all, unsigned* scratch) {
    for (long rounds = 1000;; rounds *= 4) {
        const double began = now_ms();
        write<<<1, 1>>>(all, 1, rounds, scratch);
        CUDA_CHECK(cudaDeviceSynchronize());
        const double took = now_ms() - began;
        if (took > 100) return static_cast<long>(static_cast<double>(rounds) * ms / took);
    }
}

static void say(const char* text) {
    std::printf("%s\n", text);
    std::fflush(stdout);
}

static void check(CUresult result) {
    if (result != CUDA_SUCCESS) fail("pinned: error %d of the driver", int(result));
}

static void make_green() {
    CUdevResource all;
    CUdevResourceDesc description;
    CUgreenCtx made;
    check(cuDeviceGetDevResource(0, &all, CU_DEV_RESOURCE_TYPE_SM));
    check(cuDevResourceGenerateDesc(&description, &all, 1));
    check(cuGreenCtxCreate(&made, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
}

static void write_mine(volatile unsigned* all, unsigned* mine) {
    for (unsigned k = 1; k < words; k += 2) {
        if (all[k] != *mine) fail("pinned: word %u of the program is %u, not %u", k, all[k], *mine);
        all[k] = *mine + 1;
    }
    ++*mine;
}

static void check_all(const volatile unsigned* all, unsigned mine, unsigned kernels) {
    for (unsigned i = 0; i < words; ++i)
        if (all[i] != (i % 2 ? mine : kernels))
            fail("pinned: word %u of the %s is %u, not %u", i, i % 2 ? "program" : "kernel", all[i], i % 2 ? mine : kernels);
}

static long phases(const Common& common, volatile unsigned* all, unsigned* mine, unsigned* kernels, unsigned* scratch) {
    const long rounds = rounds_for(static_cast<double>(phase_ms), all, scratch);
    *kernels = 1;
    long step = 0;
    for (; !done(common, step); ++step) {
        write<<<1, 1>>>(all, ++*kernels, rounds * (step % 4) / 2, scratch);  // over before the phase is, or not
        CUDA_CHECK(cudaGetLastError());
        const double began = now_ms();
        for (int i = 0; i < 8 || now_ms() - began < static_cast<double>(phase_ms); ++i) {
            write_mine(all, mine);
            usleep(500);
        }
        CUDA_CHECK(cudaDeviceSynchronize());
        check_all(all, *mine, *kernels);
        std::printf("step %ld\n", step);
        std::fflush(stdout);
    }
    return step;
}

int main(int argc, char** argv) {
    Common common = {.steps = 1};
    parse(argc, argv, common,
          {{"work-ms", "time that the kernel takes whose end is not awaited (0: no such kernel)", &work_ms},
           {"writes", "signals at which the program writes its words (1)", &writes},
           {"phase-ms", "without signals: how long the program writes in each step (0: with signals)", &phase_ms},
           {"green", "1: with a green context, unused (0)", &green},
           {"polls", "1: it waits for the kernel's last word, without a call, before the last signal (0)", &polls}});
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, nullptr);
    unsigned *pinned = nullptr, *scratch = nullptr;
    CUDA_CHECK(cudaHostAlloc(&pinned, words * sizeof(unsigned), cudaHostAllocMapped));
    CUDA_CHECK(cudaMalloc(&scratch, sizeof(unsigned)));
    auto* all = static_cast<volatile unsigned*>(pinned);
    const long rounds = work_ms ? rounds_for(static_cast<double>(work_ms), all, scratch) : 0;
    unsigned kernels = 1, mine = 1;
    if (green) make_green();
    write<<<1, 1>>>(all, kernels, 0, scratch);
    CUDA_CHECK(cudaDeviceSynchronize());
    for (unsigned i = 1; i < words; i += 2) all[i] = mine;
    if (phase_ms) {
        const long steps = phases(common, all, &mine, &kernels, scratch);
        CUDA_CHECK(cudaFreeHost(pinned));
        return pass("pinned: %ld steps, %u writes of the program", steps, mine);
    }
    if (work_ms) {
        write<<<1, 1>>>(all, ++kernels, rounds, scratch);
        CUDA_CHECK(cudaGetLastError());
        while (all[0] != kernels) usleep(100);  // it is under way, and no call is
    }
    say("ready");
    for (long i = 0; i < writes; ++i) {
        int signal;
        sigwait(&usr1, &signal);
        write_mine(all, &mine);
        say("written");
    }
    if (polls) {
        while (all[words - 2] != kernels) usleep(100);
        say("seen");
    }
    int signal;
    sigwait(&usr1, &signal);
    CUDA_CHECK(cudaDeviceSynchronize());
    check_all(all, mine, kernels);
    CUDA_CHECK(cudaFreeHost(pinned));
    CUDA_CHECK(cudaFree(scratch));
    return pass("pinned: %ld writes beside a kernel of %ld ms", writes, work_ms);
}
