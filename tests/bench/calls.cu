// SPDX-License-Identifier: MIT
// What the commonest calls cost the application's thread, as one line of JSON: microseconds (medians) and GB/s. Run
// natively and under the shim by compare.py, so that only ratios of one run on one machine are compared.
//
//     calls [--scale N] PART...      PART: host throughput posted launch_sync d2h h2d awaited local memory bulk curve idle share
// share SECONDS START: one of several programs that use the GPU from CLOCK_MONOTONIC second START on.
#include <cuda.h>
#include <cuda_runtime.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "timing.h"

namespace {

__global__ void empty() {}
__global__ void work(float* data, int rounds) {
    float x = data[blockIdx.x * blockDim.x + threadIdx.x];
    for (int i = 0; i < rounds; ++i) x = x * 0.999f + 0.5f;
    data[blockIdx.x * blockDim.x + threadIdx.x] = x;
}

void check(cudaError_t result, const char* what) {
    if (result == cudaSuccess) return;
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(result));
    std::exit(1);
}
#define CHECK(call) check(call, #call)

int scale = 1;  // divides the amount of work, for the software GPU
cudaEvent_t event;
void *device, *pinned, *pageable;
size_t bulk;

// Driver functions without linking the driver's library, which the software GPU's users do not have.
template <class Function>
Function entry(const char* name) {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status;
    CHECK(cudaGetDriverEntryPointByVersion(name, &found, 13000, cudaEnableDefault, &status));
    return reinterpret_cast<Function>(found);
}

void host() {
    // Bursts short of what queues hold, so that the host's own cost shows and not the device's.
    report("launch_host_us", median_us(2000 / scale + 50, [n = 0]() mutable {
               empty<<<1, 1>>>();
               if (++n % 100 == 0) cudaDeviceSynchronize();
           }));
}

void throughput() {
    for (int i = 0; i < 1000 / scale; ++i) empty<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    const int many = 100000 / scale;
    std::vector<double> rounds;
    for (int round = 0; round < 3; ++round) {
        const double begin = now_us();
        for (int i = 0; i < many; ++i) empty<<<1, 1>>>();
        CHECK(cudaDeviceSynchronize());
        rounds.push_back((now_us() - begin) / many);
    }
    report("launch_throughput_us", median(rounds));
}

void posted() {
    cudaStream_t other;
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    report("event_record_us", median_us(500, [] { cudaEventRecord(event); }));
    report("stream_wait_event_us", median_us(500, [=] { cudaStreamWaitEvent(other, event, 0); }));
    report("memset_async_us", median_us(500, [] { cudaMemsetAsync(device, 0, 4096); }));
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaStreamDestroy(other));
}

int word = 0;

void launch_sync() {
    report("launch_sync_us", median_us(2000 / scale + 50, [] {
               empty<<<1, 1>>>();
               cudaStreamSynchronize(nullptr);
           }));
}

void down() {
    report("copy_4B_d2h_us", median_us(1000 / scale + 50, [] { cudaMemcpy(&word, device, 4, cudaMemcpyDeviceToHost); }));
}

void up() {
    report("copy_4B_h2d_us", median_us(1000 / scale + 50, [] { cudaMemcpy(device, &word, 4, cudaMemcpyHostToDevice); }));
}

// What one round trip is most of.
void awaited() {
    constexpr size_t bytes = 64 << 10;
    const int times = 3000 / scale + 50;
    const auto both = [&](const char* name, auto call) {
        median_us(times / 6, call);  // warms up
        report(name, median_us(times, call));
    };
    both("launch_sync_us", [] { empty<<<1, 1>>>(); cudaStreamSynchronize(nullptr); });
    both("launch_device_sync_us", [] { empty<<<1, 1>>>(); cudaDeviceSynchronize(); });
    both("copy_4B_d2h_us", [] { cudaMemcpy(&word, device, 4, cudaMemcpyDeviceToHost); });
    both("pinned_64K_d2h_us", [=] { cudaMemcpy(pinned, device, bytes, cudaMemcpyDeviceToHost); });
    both("pinned_64K_h2d_us", [=] { cudaMemcpy(device, pinned, bytes, cudaMemcpyHostToDevice); });
}

// Questions that need nobody else: a hundred at a time, since the clock takes as long as one.
void local() {
    const auto each = [](const char* name, auto call) {
        report(name, median_us(1000, [&] {
                   for (int i = 0; i < 100; ++i) call();
               }) / 100);
    };
    int value;
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    const auto current = entry<CUresult (*)(CUcontext*)>("cuCtxGetCurrent");
    const auto attribute = entry<CUresult (*)(void*, CUpointer_attribute, CUdeviceptr)>("cuPointerGetAttribute");
    each("get_device_us", [&] { cudaGetDevice(&value); });
    each("device_attribute_us", [&] { cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0); });
    each("current_context_us", [&] { CUcontext context; current(&context); });
    each("pointer_attribute_us", [&] {
        CUmemorytype type;
        attribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(device));
    });
    each("pointer_attributes_us", [&] { cudaPointerAttributes all; cudaPointerGetAttributes(&all, device); });
    each("stream_is_capturing_us", [&] { cudaStreamCaptureStatus status; cudaStreamIsCapturing(stream, &status); });
    CHECK(cudaStreamDestroy(stream));
}

void memory() {
    report("malloc_free_1MiB_us", median_us(100, [] {
               void* mine;
               CHECK(cudaMalloc(&mine, 1 << 20));
               CHECK(cudaFree(mine));
           }));
}

double copy_us(int count, void* host, size_t bytes, bool up) {
    return median_us(count, [=] {
        CHECK(cudaMemcpy(up ? device : host, up ? host : device, bytes, up ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost));
    });
}

void bulk_copies() {
    for (bool pageable_memory : {false, true})
        for (bool up : {true, false}) {
            const double us = copy_us(5, pageable_memory ? pageable : pinned, bulk, up);
            report(std::string(pageable_memory ? "pageable_" : "pinned_") + (up ? "h2d" : "d2h") + "_GBps", bulk / us / 1e3);
        }
}

void curve() {
    for (size_t kib = 4; kib <= 16384 && kib << 10 <= bulk; kib *= 2)
        for (bool pageable_memory : {false, true})
            for (bool up : {true, false}) {
                const int count = std::max(10, static_cast<int>(1000 / scale / (1 + kib / 512)));
                const double us = copy_us(count, pageable_memory ? pageable : pinned, kib << 10, up);
                report("curve_" + std::string(pageable_memory ? "pageable_" : "pinned_") + (up ? "h2d_" : "d2h_") +
                           std::to_string(kib) + "K_GBps",
                       (kib << 10) / us / 1e3);
            }
}

// Works for a moment, then has nothing to do; compare.py looks at what that costs.
void idle() {
    for (int i = 0; i < 1000 / scale; ++i) empty<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    std::printf("idle\n");
    std::fflush(stdout);
    char end;
    if (::read(0, &end, 1) < 0) std::exit(1);
}

// A mix of what programs do: bursts of short kernels, a small copy each way, a synchronization.
void share(double seconds, double start) {
    auto* data = static_cast<float*>(device);
    const auto round = [=] {
        for (int i = 0; i < 20; ++i) work<<<64, 256>>>(data, 200);
        CHECK(cudaMemcpyAsync(device, pinned, 65536, cudaMemcpyHostToDevice));
        CHECK(cudaMemcpyAsync(pinned, device, 4096, cudaMemcpyDeviceToHost));
        CHECK(cudaStreamSynchronize(nullptr));
    };
    for (int i = 0; i < 20; ++i) round();
    const double begin = std::max(start * 1e6, now_us());
    if (start * 1e6 > now_us()) ::usleep(static_cast<useconds_t>(start * 1e6 - now_us()));
    int rounds = 0;
    for (; now_us() < begin + seconds * 1e6; ++rounds) round();
    report("rounds_per_s", rounds / ((now_us() - begin) / 1e6));
}

}  // namespace

int main(int argc, char** argv) {
    int at = 1;
    if (argc > 2 && !std::strcmp(argv[1], "--scale")) scale = std::atoi(argv[2]), at = 3;
    const bool large = std::find_if(argv + at, argv + argc, [](const char* part) {
                           return !std::strcmp(part, "bulk") || !std::strcmp(part, "curve");
                       }) != argv + argc;
    bulk = large ? (256u << 20) / static_cast<size_t>(scale) : 2u << 20;  // a chunk of the driver's own, or several
    CHECK(cudaMalloc(&device, bulk));
    CHECK(cudaMallocHost(&pinned, bulk));
    pageable = std::malloc(bulk);
    std::memset(pageable, 1, bulk);
    std::memset(pinned, 1, bulk);
    CHECK(cudaEventCreate(&event));
    for (; at < argc; ++at) {
        const std::string part = argv[at];
        if (part == "host") host();
        else if (part == "throughput") throughput();
        else if (part == "posted") posted();
        else if (part == "launch_sync") launch_sync();
        else if (part == "d2h") down();
        else if (part == "h2d") up();
        else if (part == "awaited") awaited();
        else if (part == "local") local();
        else if (part == "memory") memory();
        else if (part == "bulk") bulk_copies();
        else if (part == "curve") curve();
        else if (part == "idle") idle();
        else if (part == "share" && at + 2 < argc) share(std::atof(argv[at + 1]), std::atof(argv[at + 2])), at += 2;
        else return std::fprintf(stderr, "calls: there is no part %s\n", argv[at]), 1;
        CHECK(cudaGetLastError());
    }
    std::printf("{%s}\n", results.c_str());
    return 0;
}
