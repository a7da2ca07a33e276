// SPDX-License-Identifier: MIT
// The longest calls a program can be caught in: large copies from and to pageable and pinned memory, and a
// kernel that runs for as long as wanted. Every step sends a block whose words depend on the step on a way
// through all kinds of copies, and at the end of it each word is compared; the kernel's result has a closed
// form.
#include <vector>

#include "example.h"

using namespace example;

using Word = unsigned;

// x -> a*x + b, `rounds` times, by one thread: every round waits for the one before, so the time is in the
// rounds.
__global__ void turn(Word* x, Word a, Word b, long rounds) {
    Word value = *x;
    for (long i = 0; i < rounds; ++i) value = a * value + b;
    *x = value;
}

// The same by repeated squaring of the map.
static Word turned(Word x, Word a, Word b, long rounds) {
    for (; rounds > 0; rounds >>= 1) {
        if (rounds & 1) x = a * x + b;
        b = a * b + b;
        a = a * a;
    }
    return x;
}

static Word word(long step, size_t i) {
    return Word(i) * 2654435761u + Word(step) * 40503u;
}

int main(int argc, char** argv) {
    Common common = {.steps = 50};
    long mib = 4, rounds = 50000;
    parse(argc, argv, common,
          {{"mib", "size of the block in MiB (4)", &mib},
           {"rounds", "rounds of the kernel, about 10 ns each on a GPU; 0: no kernel (50000)", &rounds}});
    if (mib < 1 || mib > 16384) fail("copies: --mib must be 1 to 16384");
    const size_t count = size_t(mib) << 18, bytes = count * sizeof(Word);

    std::vector<Word> pageable(count);
    Word *pinned = nullptr, *first = nullptr, *second = nullptr, *x = nullptr;
    cudaStream_t stream = nullptr;
    CUDA_CHECK(cudaMallocHost(&pinned, bytes));
    CUDA_CHECK(cudaMalloc(&first, bytes));
    CUDA_CHECK(cudaMalloc(&second, bytes));
    CUDA_CHECK(cudaMalloc(&x, sizeof *x));
    CUDA_CHECK(cudaMemset(x, 0, sizeof *x));
    CUDA_CHECK(cudaStreamCreate(&stream));

    Word expected_x = 0;
    long step = 0;
    for (; !done(common, step); ++step) {
        const Word a = 4 * Word(step) + 5, b = 2 * Word(step) + 1;
        turn<<<1, 1, 0, stream>>>(x, a, b, rounds);
        CUDA_CHECK(cudaGetLastError());
        expected_x = turned(expected_x, a, b, rounds);

        // Odd steps the other way round: pinned in, pageable out.
        Word *in = pageable.data(), *out = pinned;
        if (step % 2) std::swap(in, out);
        for (size_t i = 0; i < count; ++i) in[i] = word(step, i);
        CUDA_CHECK(cudaMemsetAsync(second, int(step & 0xff), bytes, stream));
        CUDA_CHECK(cudaMemcpyAsync(first, in, bytes, cudaMemcpyHostToDevice, stream));
        CUDA_CHECK(cudaMemcpyAsync(second, first, bytes / 2, cudaMemcpyDeviceToDevice, stream));
        CUDA_CHECK(cudaMemcpyAsync(out, second, bytes, cudaMemcpyDeviceToHost, stream));
        Word seen_x = 0;
        CUDA_CHECK(cudaMemcpyAsync(&seen_x, x, sizeof seen_x, cudaMemcpyDeviceToHost, stream));
        CUDA_CHECK(cudaStreamSynchronize(stream));

        const Word filler = Word(step & 0xff) * 0x01010101u;  // what memset left in the upper half
        for (size_t i = 0; i < count; ++i)
            if (const Word expected = i < count / 2 ? word(step, i) : filler; out[i] != expected)
                fail("copies: step %ld: word %zu is %#x, should be %#x", step, i, out[i], expected);
        if (seen_x != expected_x)
            fail("copies: step %ld: the kernel made %#x of it, not %#x", step, seen_x, expected_x);
        if (time_to_report(common)) {
            std::printf("step %ld x %#x\n", step, seen_x);
            std::fflush(stdout);
        }
        pause(common);
    }
    CUDA_CHECK(cudaStreamDestroy(stream));
    CUDA_CHECK(cudaFree(x));
    CUDA_CHECK(cudaFree(second));
    CUDA_CHECK(cudaFree(first));
    CUDA_CHECK(cudaFreeHost(pinned));
    return pass("copies: %ld steps of %ld MiB", step, mib);
}
