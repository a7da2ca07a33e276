// SPDX-License-Identifier: MIT
// What NVIDIA's driver itself takes for the calls that a worker makes, and how fast one core fills its staging memory: the
// floor under each line of the table, and what where-time-goes.md is computed from. Runs natively, without the shim;
// prints one line of JSON, times in microseconds (medians), copies in GB/s.
#include <cuda.h>
#include <emmintrin.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "timing.h"

namespace {

void check(CUresult result, const char* what) {
    if (result == CUDA_SUCCESS) return;
    std::fprintf(stderr, "driver_costs: %s: error %d\n", what, static_cast<int>(result));
    std::exit(EXIT_FAILURE);
}
#define CHECK(call) check(call, #call)

const char* const module_text = R"(
.version 8.0
.target sm_70
.address_size 64
.visible .entry empty() { ret; }
.visible .entry eight(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d, .param .u64 e, .param .u64 f,
                      .param .u64 g, .param .u64 h) { ret; }
.visible .entry wait(.param .u64 flag) {
    .reg .u64 %a; .reg .u32 %v; .reg .pred %p;
    ld.param.u64 %a, [flag];
again:
    ld.volatile.global.u32 %v, [%a];
    setp.eq.u32 %p, %v, 0;
    @%p bra again;
    ret;
}
)";

CUstream stream;
CUevent event;

void await_query() {
    while (cuStreamQuery(stream) == CUDA_ERROR_NOT_READY) {
    }
}
void await_event() {
    CHECK(cuEventRecord(event, stream));
    while (cuEventQuery(event) == CUDA_ERROR_NOT_READY) {
    }
}

uint32_t last_word = 0;
void await_word(volatile uint32_t* word) {
    CHECK(cuStreamWriteValue32(stream, reinterpret_cast<CUdeviceptr>(word), ++last_word, CU_STREAM_WRITE_VALUE_DEFAULT));
    while (*word != last_word) {
    }
}

void launches(CUmodule module, uint32_t* mapped) {
    CUfunction empty, eight, wait;
    CHECK(cuModuleGetFunction(&empty, module, "empty"));
    CHECK(cuModuleGetFunction(&eight, module, "eight"));
    CHECK(cuModuleGetFunction(&wait, module, "wait"));
    uint64_t values[8] = {};
    void* parameters[8];
    for (int i = 0; i < 8; ++i) parameters[i] = &values[i];
    size_t bytes = sizeof values;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, values, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    const auto one = [&](CUfunction f, void** p, void** x) { CHECK(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, stream, p, x)); };
    const auto many = [&](const char* name, auto launch) {
        constexpr int count = 30000;
        std::vector<double> times;
        for (int run = 0; run < 5; ++run) {
            CHECK(cuCtxSynchronize());
            const double begin = now_us();
            for (int i = 0; i < count; ++i) launch();
            CHECK(cuCtxSynchronize());
            times.push_back((now_us() - begin) / count);
        }
        std::sort(times.begin(), times.end());
        report(name, times[2]);
    };
    many("launch_throughput", [&] { one(empty, nullptr, nullptr); });
    many("launch_throughput_8_params", [&] { one(eight, parameters, nullptr); });
    many("launch_throughput_8_extra", [&] { one(eight, nullptr, extra); });
    many("launch_throughput_ex", [&] {
        CUlaunchConfig config{1, 1, 1, 1, 1, 1, 0, stream, nullptr, 0};
        CHECK(cuLaunchKernelEx(&config, empty, nullptr, nullptr));
    });
    // As a worker launches for an application whose thread writes the ring meanwhile: a second thread that dirties lines.
    std::atomic<bool> stop{false};
    std::vector<std::atomic<uint64_t>> lines(1 << 18);
    std::thread writer([&] {
        for (uint64_t i = 0; !stop; ++i) lines[i * 8 % lines.size()].store(i, std::memory_order_release);
    });
    many("launch_throughput_busy_neighbour", [&] { one(empty, nullptr, nullptr); });
    stop = true;
    writer.join();

    report("launch_sync", median_us(1000, [&] { one(empty, nullptr, nullptr); CHECK(cuStreamSynchronize(stream)); }));
    report("launch_stream_query", median_us(1000, [&] { one(empty, nullptr, nullptr); await_query(); }));
    report("launch_event_query", median_us(1000, [&] { one(empty, nullptr, nullptr); await_event(); }));
    report("launch_word", median_us(1000, [&] { one(empty, nullptr, nullptr); await_word(mapped); }));
    report("launch_event_sync", median_us(1000, [&] {
               one(empty, nullptr, nullptr);
               CHECK(cuEventRecord(event, stream));
               CHECK(cuEventSynchronize(event));
           }));
    report("stream_query_idle", median_us(1000, [&] { cuStreamQuery(stream); }));
    report("legacy_query_idle", median_us(1000, [&] { cuStreamQuery(CU_STREAM_LEGACY); }));
    report("stream_sync_idle", median_us(1000, [&] { cuStreamSynchronize(stream); }));
    report("event_record", median_us(1000, [&] { CHECK(cuEventRecord(event, stream)); }));
    CHECK(cuCtxSynchronize());
    report("event_query_done", median_us(1000, [&] { cuEventQuery(event); }));
    // While the device is busy.
    *reinterpret_cast<volatile uint32_t*>(mapped) = 0;
    CUdeviceptr flag;
    CHECK(cuMemHostGetDevicePointer(&flag, mapped, 0));
    void* wait_parameters[] = {&flag};
    one(wait, wait_parameters, nullptr);
    CHECK(cuEventRecord(event, stream));
    report("stream_query_busy", median_us(1000, [&] { cuStreamQuery(stream); }));
    report("event_query_busy", median_us(1000, [&] { cuEventQuery(event); }));
    *reinterpret_cast<volatile uint32_t*>(mapped) = 1;
    CHECK(cuCtxSynchronize());
    report("ctx_api_version", median_us(1000, [&] {
               unsigned version;
               cuCtxGetApiVersion(nullptr, &version);
           }));
    CUcontext context;
    CHECK(cuCtxGetCurrent(&context));
    report("ctx_set_current", median_us(1000, [&] { cuCtxSetCurrent(context); }));
}

void small_copies(CUdeviceptr device, std::byte* pinned) {
    static uint32_t word[16];
    report("d2h_4B_pageable_sync", median_us(1000, [&] { CHECK(cuMemcpyDtoH(word, device, 4)); }));
    report("d2h_4B_pinned_sync", median_us(1000, [&] { CHECK(cuMemcpyDtoH(pinned, device, 4)); }));
    report("d2h_4B_pinned_stream_query", median_us(1000, [&] { CHECK(cuMemcpyDtoHAsync(pinned, device, 4, stream)); await_query(); }));
    report("d2h_4B_pinned_event_query", median_us(1000, [&] { CHECK(cuMemcpyDtoHAsync(pinned, device, 4, stream)); await_event(); }));
    report("d2h_4B_pinned_stream_sync",
           median_us(1000, [&] { CHECK(cuMemcpyDtoHAsync(pinned, device, 4, stream)); CHECK(cuStreamSynchronize(stream)); }));
    auto* flag = reinterpret_cast<uint32_t*>(pinned + (1 << 20));
    for (const size_t bytes : {size_t{4}, size_t{65536}}) {
        const std::string size = bytes == 4 ? "4B" : "64KiB";
        report(("d2h_" + size + "_pinned_word").c_str(),
               median_us(1000, [&] { CHECK(cuMemcpyDtoHAsync(pinned, device, bytes, stream)); await_word(flag); }));
        report(("h2d_" + size + "_pinned_word").c_str(),
               median_us(1000, [&] { CHECK(cuMemcpyHtoDAsync(device, pinned, bytes, stream)); await_word(flag); }));
        report(("h2d_" + size + "_pinned_sync").c_str(), median_us(1000, [&] { CHECK(cuMemcpyHtoD(device, pinned, bytes)); }));
    }
    report("d2h_64KiB_pinned_sync", median_us(1000, [&] { CHECK(cuMemcpyDtoH(pinned, device, 65536)); }));
    report("d2h_4B_pageable_async", median_us(1000, [&] { CHECK(cuMemcpyDtoHAsync(word, device, 4, stream)); }));
    CHECK(cuCtxSynchronize());
    const auto burst = [](const char* name, auto body) {
        int n = 0;
        report(name, median_us(1000, [&] {
                   body();
                   if (++n % 64 == 0) cuCtxSynchronize();
               }));
        CHECK(cuCtxSynchronize());
    };
    burst("h2d_4B_pageable_async", [&] { CHECK(cuMemcpyHtoDAsync(device, word, 4, stream)); });
    burst("h2d_4B_pinned_async", [&] { CHECK(cuMemcpyHtoDAsync(device, pinned, 4, stream)); });
    burst("h2d_64KiB_pinned_async", [&] { CHECK(cuMemcpyHtoDAsync(device, pinned, 65536, stream)); });
    static std::byte big[65536];
    burst("h2d_64KiB_pageable_async", [&] { CHECK(cuMemcpyHtoDAsync(device, big, 65536, stream)); });
    burst("write_value", [&] { CHECK(cuStreamWriteValue32(stream, reinterpret_cast<CUdeviceptr>(flag), ++last_word, 0)); });
    burst("memset_4B_async", [&] { CHECK(cuMemsetD32Async(device, 1, 1, stream)); });
    burst("memset_async", [&] { CHECK(cuMemsetD8Async(device, 1, 4096, stream)); });
}

void memory_calls() {
    report("alloc_free_1MiB", median_us(100, [] {
               CUdeviceptr p;
               CHECK(cuMemAlloc(&p, 1 << 20));
               CHECK(cuMemFree(p));
           }));
    CUdeviceptr base;
    CHECK(cuMemAddressReserve(&base, 1ull << 30, 0, 0, 0));
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CUmemAccessDesc access{};
    access.location = properties.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    for (size_t mib : {2, 64}) {
        double steps[5] = {};
        constexpr int runs = 20;
        for (int i = 0; i < runs; ++i) {
            CUmemGenericAllocationHandle handle;
            const size_t bytes = mib << 20;
            const double t0 = now_us();
            CHECK(cuMemCreate(&handle, bytes, &properties, 0));
            const double t1 = now_us();
            CHECK(cuMemMap(base, bytes, 0, handle, 0));
            const double t2 = now_us();
            CHECK(cuMemSetAccess(base, bytes, &access, 1));
            const double t3 = now_us();
            CHECK(cuMemUnmap(base, bytes));
            const double t4 = now_us();
            CHECK(cuMemRelease(handle));
            const double t5 = now_us();
            const double all[] = {t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4};
            for (int k = 0; k < 5; ++k) steps[k] += all[k] / runs;
        }
        const char* names[] = {"create", "map", "set_access", "unmap", "release"};
        for (int k = 0; k < 5; ++k) report((std::string("vmm_") + names[k] + "_" + std::to_string(mib) + "MiB").c_str(), steps[k]);
    }
}

// Ways of filling staging memory from the application's.
using Copy = void (*)(std::byte*, const std::byte*, size_t);
void plain(std::byte* to, const std::byte* from, size_t bytes) { std::memcpy(to, from, bytes); }
void around_cache(std::byte* to, const std::byte* from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) {
        const auto* in = reinterpret_cast<const __m128i*>(from + i);
        auto* out = reinterpret_cast<__m128i*>(to + i);
        const __m128i a = _mm_loadu_si128(in), b = _mm_loadu_si128(in + 1), c = _mm_loadu_si128(in + 2), d = _mm_loadu_si128(in + 3);
        _mm_stream_si128(out, a), _mm_stream_si128(out + 1, b), _mm_stream_si128(out + 2, c), _mm_stream_si128(out + 3, d);
    }
    _mm_sfence();
}
// Several pages at a time, a line of each in turn: as many streams for the core to fetch ahead.
template <size_t pages, bool stream>
void interleaved(std::byte* to, const std::byte* from, size_t bytes) {
    constexpr size_t page = 4096;
    for (size_t at = 0; at + pages * page <= bytes; at += pages * page)
        for (size_t line = 0; line < page; line += 64)
            for (size_t k = 0; k < pages; ++k) {
                const auto* in = reinterpret_cast<const __m128i*>(from + at + k * page + line);
                auto* out = reinterpret_cast<__m128i*>(to + at + k * page + line);
                const __m128i a = _mm_loadu_si128(in), b = _mm_loadu_si128(in + 1), c = _mm_loadu_si128(in + 2),
                              d = _mm_loadu_si128(in + 3);
                if constexpr (stream) {
                    _mm_stream_si128(out, a), _mm_stream_si128(out + 1, b), _mm_stream_si128(out + 2, c), _mm_stream_si128(out + 3, d);
                } else {
                    _mm_store_si128(out, a), _mm_store_si128(out + 1, b), _mm_store_si128(out + 2, c), _mm_store_si128(out + 3, d);
                }
            }
    if constexpr (stream) _mm_sfence();
}
void move_string(std::byte* to, const std::byte* from, size_t bytes) { asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory"); }

double upload(CUdeviceptr device, std::byte* staging, const std::byte* source, size_t total, size_t piece, size_t window, Copy copy) {
    std::vector<CUevent> free(window / piece);
    for (CUevent& one : free) CHECK(cuEventCreate(&one, CU_EVENT_DISABLE_TIMING));
    std::vector<double> times;
    for (int run = 0; run < 4; ++run) {
        const double begin = now_us();
        for (size_t at = 0; at < total; at += piece) {
            const size_t slot = at / piece % free.size();
            while (cuEventQuery(free[slot]) == CUDA_ERROR_NOT_READY) {
            }
            copy(staging + slot * piece, source + at, piece);
            CHECK(cuMemcpyHtoDAsync(device + at, staging + slot * piece, piece, stream));
            CHECK(cuEventRecord(free[slot], stream));
        }
        CHECK(cuStreamSynchronize(stream));
        times.push_back(now_us() - begin);
    }
    for (CUevent one : free) cuEventDestroy(one);
    std::sort(times.begin(), times.end());
    return static_cast<double>(total) / times[1] / 1e3;
}

void uploads(CUdeviceptr device, std::byte* staging, size_t total) {
    auto* source = static_cast<std::byte*>(std::malloc(total));
    std::memset(source, 1, total);
    std::vector<double> native;
    for (int i = 0; i < 4; ++i) {
        const double begin = now_us();
        CHECK(cuMemcpyHtoD(device, source, total));
        native.push_back(static_cast<double>(total) / (now_us() - begin) / 1e3);
    }
    std::sort(native.begin(), native.end());
    report("up_native", native[2]);
    const struct {
        const char* name;
        Copy copy;
    } ways[] = {{"memcpy", plain}, {"nt", around_cache}, {"4pages", interleaved<4, false>}, {"8pages", interleaved<8, false>},
                {"4pages_nt", interleaved<4, true>}, {"movsb", move_string}};
    for (const auto& way : ways)
        for (const auto& [piece, window] : {std::pair<size_t, size_t>{128 << 10, 512 << 10}, {256 << 10, 1 << 20}, {1 << 20, 64 << 20}}) {
            const std::string name = std::string("up_") + way.name + "_" + std::to_string(piece >> 10) + "K_of_" + std::to_string(window >> 10) + "K";
            report(name.c_str(), upload(device, staging, source, total, piece, window, way.copy));
        }
    // The kernel's copy out of another process, by as many threads.
    int ready[2], done[2];
    if (::pipe(ready) || ::pipe(done)) std::exit(1);
    const pid_t parent = ::getpid();
    (void)parent;
    const pid_t child = ::fork();
    if (child == 0) {
        char c = 0;
        std::memset(source, 2, total);
        if (::write(ready[1], &c, 1) != 1 || ::read(done[0], &c, 1) != 1) _exit(1);
        _exit(0);
    }
    char c;
    if (::read(ready[0], &c, 1) != 1) std::exit(1);
    for (unsigned threads : {1u, 2u, 4u}) {
        const double begin = now_us();
        std::atomic<size_t> next{0};
        std::atomic<bool> refused{false};
        std::vector<std::thread> all;
        for (unsigned t = 0; t < threads; ++t)
            all.emplace_back([&, t] {
                constexpr size_t piece = 256 << 10;
                for (size_t at; (at = next.fetch_add(piece)) < total;) {
                    iovec to{staging + t * piece, piece}, from{source + at, piece};
                    if (::process_vm_readv(child, &to, 1, &from, 1, 0) != static_cast<ssize_t>(piece)) refused = true;
                }
            });
        for (auto& one : all) one.join();
        report(("vm_readv_" + std::to_string(threads)).c_str(), refused ? 0 : static_cast<double>(total) / (now_us() - begin) / 1e3);
    }
    if (::write(done[1], &c, 1) != 1) std::exit(1);
    ::waitpid(child, nullptr, 0);
}

}  // namespace

int main() {
    constexpr size_t total = 256u << 20, staging_bytes = 64u << 20;
    CHECK(cuInit(0));
    CUcontext context;
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    const int fd = ::memfd_create("staging", 0);
    if (fd < 0 || ::ftruncate(fd, staging_bytes) != 0) return 1;
    auto* staging = static_cast<std::byte*>(::mmap(nullptr, staging_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    std::memset(staging, 0, staging_bytes);
    CHECK(cuMemHostRegister(staging, staging_bytes, CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP));
    CUdeviceptr device;
    CHECK(cuMemAlloc(&device, total));
    CUmodule module;
    CHECK(cuModuleLoadData(&module, module_text));
    launches(module, reinterpret_cast<uint32_t*>(staging));
    small_copies(device, staging);
    memory_calls();
    uploads(device, staging, total);
    std::printf("{%s}\n", results.c_str());
    return 0;
}
