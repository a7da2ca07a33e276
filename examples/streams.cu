// SPDX-License-Identifier: MIT
// Pairs of host threads that hand one buffer to and fro: thread A gives its stream work and records an event,
// wakes thread B, and B's stream waits for the event before it goes on with the same buffer. Each element
// walks a chain of x -> a*x + b (mod p) whose order matters, so a launch, copy or event that is lost,
// repeated or overtaken ends in another value. The host knows what the value must be, since such maps compose
// to one of the same kind.
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "example.h"

using namespace example;

using Word = unsigned long long;
constexpr Word kPrime = 2147483647;  // products of two residues fit in a Word
constexpr int kElements = 2048, kThreads = 128;

struct Map {
    Word a, b;
};
__host__ __device__ static Word apply(Map map, Word x) {
    return (map.a * x + map.b) % kPrime;
}
static Map then(Map first, Map second) {
    return {first.a * second.a % kPrime, apply(second, first.b)};
}

// The map itself comes through device memory, because its copy has to keep its place in the order too.
__global__ void walk(Word* elements, const Map* map) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < kElements) elements[i] = apply(*map, elements[i]);
}

// One buffer and the two threads that share it. A thread may touch what is here only while it is its turn.
struct Pair {
    int number = 0;
    long check_every = 0;
    std::mutex mutex;
    std::condition_variable turned;
    int turn = 0;
    bool over = false;
    long step = 0;
    Map so_far = {1, 0};
    Word* elements = nullptr;
    cudaEvent_t handed_over[2] = {};

    void start() {
        std::vector<Word> initial(kElements);
        for (int i = 0; i < kElements; ++i) initial[i] = i;
        CUDA_CHECK(cudaMalloc(&elements, kElements * sizeof(Word)));
        CUDA_CHECK(cudaMemcpy(elements, initial.data(), kElements * sizeof(Word), cudaMemcpyHostToDevice));
        CUDA_CHECK(cudaDeviceSynchronize());  // such a copy may return before it is over, and the streams do not wait for it
        for (cudaEvent_t& event : handed_over)
            CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    }
    void finish() {
        for (cudaEvent_t event : handed_over) CUDA_CHECK(cudaEventDestroy(event));
        CUDA_CHECK(cudaFree(elements));
    }
    void check(const Word* seen) const {
        for (int i = 0; i < kElements; ++i)
            if (const Word expected = apply(so_far, i); seen[i] != expected)
                fail("streams: pair %d, step %ld: element %d is %llu, should be %llu", number, step, i,
                     seen[i], expected);
    }
};

static void work(Pair& pair, int me, const Common& common) {
    cudaStream_t stream = nullptr;
    Map *host_map = nullptr, *device_map = nullptr;
    Word* seen = nullptr;
    cudaEvent_t map_copied = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA_CHECK(cudaMallocHost(&host_map, sizeof *host_map));
    CUDA_CHECK(cudaMalloc(&device_map, sizeof *device_map));
    CUDA_CHECK(cudaMallocHost(&seen, kElements * sizeof(Word)));
    CUDA_CHECK(cudaEventCreateWithFlags(&map_copied, cudaEventDisableTiming));

    for (;;) {
        std::unique_lock lock(pair.mutex);
        pair.turned.wait(lock, [&] { return pair.over || pair.turn == me; });
        if (pair.over) break;

        // The pinned map of my last turn may still be on its way, since nobody waits for the device between
        // checks.
        CUDA_CHECK(cudaEventSynchronize(map_copied));
        Random random(Word(pair.number) << 40 | Word(pair.step));
        *host_map = {2 + random.below(kPrime - 2), random.below(kPrime)};
        pair.so_far = then(pair.so_far, *host_map);
        CUDA_CHECK(cudaMemcpyAsync(device_map, host_map, sizeof *host_map, cudaMemcpyHostToDevice, stream));
        CUDA_CHECK(cudaEventRecord(map_copied, stream));
        if (pair.step > 0) CUDA_CHECK(cudaStreamWaitEvent(stream, pair.handed_over[1 - me], 0));
        walk<<<(kElements + kThreads - 1) / kThreads, kThreads, 0, stream>>>(pair.elements, device_map);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaEventRecord(pair.handed_over[me], stream));

        ++pair.step;
        const bool last = done(common, pair.step);
        if (last || pair.step % pair.check_every == 0) {
            CUDA_CHECK(cudaMemcpyAsync(seen, pair.elements, kElements * sizeof(Word), cudaMemcpyDeviceToHost,
                                       stream));
            CUDA_CHECK(cudaStreamSynchronize(stream));
            pair.check(seen);
            if (pair.number == 0 && time_to_report(common)) {
                std::printf("step %ld element[1] %llu\n", pair.step, seen[1]);
                std::fflush(stdout);
            }
        }
        example::pause(common);
        pair.over = last;
        pair.turn = 1 - me;
        pair.turned.notify_all();
    }
    CUDA_CHECK(cudaStreamSynchronize(stream));
    CUDA_CHECK(cudaEventDestroy(map_copied));
    CUDA_CHECK(cudaFreeHost(seen));
    CUDA_CHECK(cudaFreeHost(host_map));
    CUDA_CHECK(cudaFree(device_map));
    CUDA_CHECK(cudaStreamDestroy(stream));
}

int main(int argc, char** argv) {
    Common common = {.steps = 1000};
    long pairs = 1, check_every = 7;  // odd, so that both threads get to check
    parse(argc, argv, common,
          {{"pairs", "pairs of threads, each with its own buffer (1)", &pairs},
           {"check-every", "steps between two looks at the buffer (7)", &check_every}});
    if (pairs < 1 || pairs > 64) fail("streams: --pairs must be 1 to 64");
    if (check_every < 1) fail("streams: --check-every must be at least 1");

    std::vector<std::unique_ptr<Pair>> all;
    std::vector<std::thread> threads;
    for (int number = 0; number < pairs; ++number) {
        Pair& pair = *all.emplace_back(std::make_unique<Pair>());
        pair.number = number;
        pair.check_every = check_every;
        pair.start();
    }
    for (auto& pair : all)
        for (int me : {0, 1}) threads.emplace_back(work, std::ref(*pair), me, std::cref(common));
    for (std::thread& thread : threads) thread.join();
    long steps = 0;
    for (auto& pair : all) {
        pair->finish();
        steps += pair->step;
    }
    return pass("streams: %ld steps in %ld pairs of threads", steps, pairs);
}
