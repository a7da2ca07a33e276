// SPDX-License-Identifier: MIT
// What the commonest calls cost the application's thread, as one line of JSON in microseconds (medians) and GB/s. Run
// natively and under the shim by compare.py, so that only ratios of one run on one machine are compared.
#include <cuda_runtime.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

__global__ void empty() {}

void check(cudaError_t result, const char* what) {
    if (result == cudaSuccess) return;
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(result));
    std::exit(1);
}
#define CHECK(call) check(call, #call)

double now_us() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

// Median time of one of `count` calls of `body`, after a few that do not count.
template <class Body>
double median_us(int count, Body body) {
    std::vector<double> times;
    for (int i = 0; i < count + 20; ++i) {
        const double begin = now_us();
        body();
        if (i >= 20) times.push_back(now_us() - begin);
    }
    std::nth_element(times.begin(), times.begin() + count / 2, times.end());
    return times[count / 2];
}

std::string results;
void report(const char* name, double value) {
    char text[128];
    std::snprintf(text, sizeof text, "%s\"%s\": %.4f", results.empty() ? "" : ", ", name, value);
    results += text;
}

void copies(const char* name, void* host, void* device, size_t bytes, cudaMemcpyKind kind) {
    const bool up = kind == cudaMemcpyHostToDevice;
    const double us = median_us(5, [&] { CHECK(cudaMemcpy(up ? device : host, up ? host : device, bytes, kind)); });
    report(name, static_cast<double>(bytes) / us / 1e3);
}

}  // namespace

int main(int argc, char** argv) {
    const int scale = argc > 1 ? std::atoi(argv[1]) : 1;  // divides the amount of work, for the software GPU
    const size_t bulk = (256u << 20) / static_cast<size_t>(scale);
    void *device, *pinned;
    CHECK(cudaMalloc(&device, bulk));
    CHECK(cudaMallocHost(&pinned, bulk));
    void* pageable = std::malloc(bulk);
    std::memset(pageable, 1, bulk);
    std::memset(pinned, 1, bulk);
    cudaEvent_t event;
    CHECK(cudaEventCreate(&event));
    int word = 0;

    // Bursts short of what queues hold, so that the host's own cost shows and not the device's.
    report("launch_host_us", median_us(2000 / scale + 50, [n = 0]() mutable {
               empty<<<1, 1>>>();
               if (++n % 100 == 0) cudaDeviceSynchronize();
           }));
    const int many = 100000 / scale;
    CHECK(cudaDeviceSynchronize());
    const double begin = now_us();
    for (int i = 0; i < many; ++i) empty<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    report("launch_throughput_us", (now_us() - begin) / many);
    report("launch_sync_us", median_us(2000 / scale + 50, [] {
               empty<<<1, 1>>>();
               cudaStreamSynchronize(nullptr);
           }));
    report("copy_4B_d2h_us", median_us(1000 / scale + 50, [&] { cudaMemcpy(&word, device, 4, cudaMemcpyDeviceToHost); }));
    report("copy_4B_h2d_us", median_us(1000 / scale + 50, [&] { cudaMemcpy(device, &word, 4, cudaMemcpyHostToDevice); }));
    report("event_record_us", median_us(500, [&] { cudaEventRecord(event); }));
    report("memset_async_us", median_us(500, [&] { cudaMemsetAsync(device, 0, 4096); }));
    report("get_device_us", median_us(2000, [] {
               int current;
               for (int i = 0; i < 100; ++i) cudaGetDevice(&current);
           }) / 100);
    report("malloc_free_1MiB_us", median_us(100, [] {
               void* memory;
               CHECK(cudaMalloc(&memory, 1 << 20));
               CHECK(cudaFree(memory));
           }));
    copies("pinned_h2d_GBps", pinned, device, bulk, cudaMemcpyHostToDevice);
    copies("pinned_d2h_GBps", pinned, device, bulk, cudaMemcpyDeviceToHost);
    copies("pageable_h2d_GBps", pageable, device, bulk, cudaMemcpyHostToDevice);
    copies("pageable_d2h_GBps", pageable, device, bulk, cudaMemcpyDeviceToHost);
    CHECK(cudaGetLastError());
    std::printf("{%s}\n", results.c_str());
    return 0;
}
