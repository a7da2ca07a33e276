// SPDX-License-Identifier: MIT
// A session that grows: what a call takes at its beginning and at its end. compare.py reads memory and CPU time of this process
// and of its worker whenever a line says "mark", and answers with one; the last line is JSON.
//
//     growth CALLS ALLOCATIONS FUNCTIONS
#include <cuda.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

void check(CUresult result, const char* what) {
    if (result == CUDA_SUCCESS) return;
    std::fprintf(stderr, "growth: %s: error %d\n", what, static_cast<int>(result));
    std::exit(EXIT_FAILURE);
}
#define CHECK(call) check(call, #call)

double now_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

void mark(const char* what) {
    std::printf("mark %s\n", what);
    std::fflush(stdout);
    if (std::getchar() == EOF) std::exit(EXIT_FAILURE);
}

std::string name(long module, long function) {
    char text[64];
    std::snprintf(text, sizeof text, "f%ld_%ld", module, function);
    return text;
}

std::string results;
void report(const char* name, double first, double last) {
    char text[200];
    std::snprintf(text, sizeof text, "%s\"%s\": [%.1f, %.1f]", results.empty() ? "" : ", ", name, first, last);
    results += text;
}

// Nanoseconds each of `count` calls took, in the first and in the last tenth.
template <class Call>
void tenths(const char* name, long count, Call call) {
    const long part = std::max(1L, count / 10);
    double first = 0, last = 0;
    mark((std::string(name) + " begin").c_str());
    for (int tenth = 0; tenth < 10; ++tenth) {
        if (tenth == 9) mark((std::string(name) + " late").c_str());
        const double begin = now_ns();
        for (long i = tenth * part; i < (tenth + 1) * part; ++i) call(i);
        CHECK(cuCtxSynchronize());
        const double each = (now_ns() - begin) / static_cast<double>(part);
        if (tenth == 0) {
            first = each;
            mark((std::string(name) + " first").c_str());
        }
        last = each;
    }
    mark((std::string(name) + " last").c_str());
    report(name, first, last);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) return EXIT_FAILURE;
    const long calls = std::atol(argv[1]), allocations = std::atol(argv[2]), functions = std::atol(argv[3]);
    constexpr long in_module = 100;
    CHECK(cuInit(0));
    CUcontext context;
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
    CUstream stream;
    CUevent event;
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    CUdeviceptr word;
    CHECK(cuMemAlloc(&word, 4));
    if (calls) {
        tenths("call", calls, [&](long i) {
            if (i % 1000 == 999) {
                CHECK(cuStreamSynchronize(stream));
            } else if (i % 8 == 0) {
                CHECK(cuMemsetD32Async(word, 1, 1, stream));
            } else {
                CHECK(cuEventRecord(event, stream));
            }
        });
    }
    if (allocations) {
        std::vector<CUdeviceptr> all(static_cast<size_t>(allocations));
        tenths("allocation", allocations, [&](long i) { CHECK(cuMemAlloc(&all[static_cast<size_t>(i)], 4096)); });
        tenths("call_with_allocations", 200000, [&](long) { CHECK(cuMemsetD32Async(all[0], 1, 1, stream)); });
        tenths("free", allocations, [&](long i) { CHECK(cuMemFree(all[static_cast<size_t>(i)])); });
    }
    if (functions) {
        std::vector<CUfunction> all;
        tenths("module_with_100_functions", functions / in_module, [&](long number) {
            std::string text = ".version 7.5\n.target sm_75\n.address_size 64\n";
            for (long i = 0; i < in_module; ++i)
                text.append(".visible .entry ").append(name(number, i)).append("() { ret; }\n");
            CUmodule module;
            CHECK(cuModuleLoadData(&module, text.c_str()));
            for (long i = 0; i < in_module; ++i) {
                CUfunction function;
                CHECK(cuModuleGetFunction(&function, module, name(number, i).c_str()));
                all.push_back(function);
            }
        });
        tenths("launch_of_functions", static_cast<long>(all.size()), [&](long i) {
            CHECK(cuLaunchKernel(all[static_cast<size_t>(i)], 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr));
        });
        tenths("launch_again", static_cast<long>(all.size()), [&](long i) {
            CHECK(cuLaunchKernel(all[static_cast<size_t>(i)], 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr));
        });
    }
    std::printf("{%s}\n", results.c_str());
    return EXIT_SUCCESS;
}
