// SPDX-License-Identifier: MIT
// What a launch costs the worker beside the driver's own work: real messages through a real ring, executed for a driver
// that does nothing. Prints nanoseconds as one line of JSON, with all messages in the ring before the first is executed
// (alone) and with a second thread that writes them meanwhile (beside); under callgrind, instructions.py counts `alone`.
#include <valgrind/callgrind.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "executor.h"
#include "messages.h"
#include "procedures.h"
#include "rpc/ring/ring_client.h"
#include "tests/unit/server/loopback.h"

namespace {

using namespace cricket;

constexpr unsigned batch = 1000;

server::DriverTable nothing() {
    server::DriverTable table{};
    table.cuInit = [](unsigned) { return CUDA_SUCCESS; };
    table.cuMemAddressReserve = [](CUdeviceptr* out, size_t, size_t, CUdeviceptr wanted, unsigned long long) {
        *out = wanted;
        return CUDA_SUCCESS;
    };
    table.cuCtxSetCurrent = [](CUcontext) { return CUDA_SUCCESS; };
    table.cuLaunchKernel = [](CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void**,
                              void**) { return CUDA_SUCCESS; };
    return table;
}

double ns_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int main() {
    const server::DriverTable driver = nothing();
    server::Session session(driver);
    if (const std::string why = session.open(); !why.empty()) {
        std::fprintf(stderr, "executor_bench: %s\n", why.c_str());
        return EXIT_FAILURE;
    }
    int objects[2];
    const uint64_t context = session.objects.add(HandleKind::Context, &objects[0]);
    const uint64_t function = session.objects.add(HandleKind::Function, &objects[1]);
    session.context_devices[context] = 0;
    server::Executor executor(session);
    tests::Loopback loopback;
    ring::RingClient client(loopback);
    if (!client.open()) return EXIT_FAILURE;

    uint64_t parameters[4] = {};
    const auto post = [&] {
        cuLaunchKernel_args args{};
        args.f = function;
        args.gridDimX = args.gridDimY = args.gridDimZ = args.blockDimX = args.blockDimY = args.blockDimZ = 1;
        args.params = {parameters, sizeof parameters, true, false};
        const ring::Request request{static_cast<uint32_t>(Proc::cuLaunchKernel), {0, context, 1, 0},
                                    reinterpret_cast<xdrproc_t>(xdr_cuLaunchKernel_args), &args, 0};
        if (client.post(request) != ring::Status::Ok) std::abort();
    };
    const auto execute = [&](unsigned count) {
        for (unsigned done = 0; done < count;) done += executor.step(loopback.server);
    };
    std::vector<double> alone;
    for (int run = 0; run < 200; ++run) {
        for (unsigned i = 0; i < batch; ++i) post();
        const bool counted = run == 10 || run == 199;  // nothing grows in between
        if (counted) {
            CALLGRIND_START_INSTRUMENTATION;
            CALLGRIND_ZERO_STATS;
        }
        const auto begin = std::chrono::steady_clock::now();
        execute(batch);
        alone.push_back(ns_since(begin) / batch);
        if (counted) {
            CALLGRIND_STOP_INSTRUMENTATION;
            if (run == 10)
                CALLGRIND_DUMP_STATS_AT("worker: launch");
            else
                CALLGRIND_DUMP_STATS_AT("worker: launch, 190,000 later");
        }
    }
    std::nth_element(alone.begin(), alone.begin() + 100, alone.end());
    double beside = 0;
    if (!RUNNING_ON_VALGRIND) {
        constexpr unsigned many = 2'000'000;
        std::thread writer([&] {
            for (unsigned i = 0; i < many; ++i) post();
        });
        execute(many / 10);
        const auto begin = std::chrono::steady_clock::now();
        execute(many / 10 * 9);
        beside = ns_since(begin) / (many / 10 * 9);
        writer.join();
    }
    if (session.posted().result) {
        std::fprintf(stderr, "executor_bench: a launch failed: %d\n", session.posted().result);
        return EXIT_FAILURE;
    }
    std::printf("{\"worker_launch_alone_ns\": %.0f, \"worker_launch_beside_ns\": %.0f}\n", alone[100], beside);
    return EXIT_SUCCESS;
}
