// SPDX-License-Identifier: MIT
// CUDA C++ as nvcc translates it, optimized and for debugging, against the host. The PTX files' folder is the
// compile-time PTX_FOLDER.
#include <bit>
#include <cstdlib>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>

#include "cuda/functions.h"
#include "harness.h"

namespace softgpu::ptx::test {
namespace {

class Cuda : public testing::TestWithParam<const char*> {
  protected:
    Gpu gpu{[] {
        std::ifstream file(std::string(PTX_FOLDER "/") + GetParam());
        std::stringstream text;
        text << file.rdbuf();
        return text.str();
    }()};
};

TEST_P(Cuda, Integers) {
    constexpr int kN = 1000;
    auto* out = gpu.array<int64_t>(kN);
    gpu.run("all_integers", {8}, {128}, out, kN);
    for (int t = 0; t < kN; ++t)
        ASSERT_EQ(out[t],
                  divisions(uint64_t(t)) + branches(uint32_t(t)) + select_case(t, t * 3) + local_sort(t))
            << t;
}

TEST_P(Cuda, Recursion) {
    auto* out = gpu.array<int>(64);
    gpu.run("recursion", {1}, {64}, out);
    for (int t = 0; t < 64; ++t) ASSERT_EQ(out[t], ackermann(t % 3, t % 5));
}

TEST_P(Cuda, DoubleMath) {
    constexpr int kN = 500;
    auto* out = gpu.array<double>(kN);
    std::vector<double> in;
    for (int t = 0; t < kN; ++t) in.push_back((t / 10) * 0.37 - 9);
    gpu.run("doubles", {5}, {100}, gpu.array(in), out, kN);
    for (int t = 0; t < kN; ++t) {
        double want = double_functions(t % 10, in[size_t(t)]);
        ASSERT_NEAR(out[t], want, 8 * 0x1p-52 * std::max(1.0, std::fabs(want)))
            << "function " << t % 10 << ", row " << t / 10;
    }
}

TEST_P(Cuda, FloatMath) {
    constexpr int kN = 500;
    auto* out = gpu.array<float>(kN);
    std::vector<float> in;
    for (int t = 0; t < kN; ++t) in.push_back((t / 10) * 0.37f - 9);
    gpu.run("floats", {5}, {100}, gpu.array(in), out, kN);
    for (int t = 0; t < kN; ++t) {
        float want = float_functions(t % 10, in[size_t(t)]);
        ASSERT_NEAR(out[t], want, 8 * 0x1p-23 * std::max(1.0f, std::fabs(want)))
            << "function " << t % 10 << ", row " << t / 10;
    }
}

TEST_P(Cuda, Reduction) {
    constexpr int kN = 10000;
    std::vector<float> in(kN);
    constexpr double kWeights[] = {0.5, 0.25, 0.125, 2};
    double want = 0;
    for (int i = 0; i < kN; ++i) {
        in[size_t(i)] = float(i % 100);
        want += in[size_t(i)] * kWeights[i % 4];
    }
    auto* out = gpu.array<float>(1);
    gpu.run("reduce", {4}, {256}, gpu.array(in), out, kN);
    EXPECT_EQ(*out, float(want));
}

TEST_P(Cuda, Histogram) {
    std::vector<unsigned char> in(20000);
    std::vector<int> want(256);
    for (size_t i = 0; i < in.size(); ++i) ++want[in[i] = static_cast<unsigned char>(mix(i))];
    int* out = gpu.array<int>(256);
    gpu.run("histogram", {6}, {128}, gpu.array(in), out, int(in.size()));
    EXPECT_EQ(std::vector<int>(out, out + 256), want);
}

TEST_P(Cuda, Scan) {
    std::vector<int> in(500), want(500);
    std::iota(in.begin(), in.end(), -20);
    std::partial_sum(in.begin(), in.end(), want.begin());
    int* out = gpu.array<int>(500);
    gpu.launch.dynamic_shared_bytes = 2000;
    gpu.run("scan", {1}, {500}, gpu.array(in), out);
    EXPECT_EQ(std::vector<int>(out, out + 500), want);
}

TEST_P(Cuda, Transpose) {
    constexpr int kWidth = 50, kHeight = 37;
    std::vector<float> in(kWidth * kHeight);
    std::iota(in.begin(), in.end(), 0.0f);
    auto* out = gpu.array<float>(in.size());
    gpu.run("transpose", {4, 3}, {16, 16}, gpu.array(in), out, kWidth, kHeight);
    for (int y = 0; y < kHeight; ++y)
        for (int x = 0; x < kWidth; ++x) ASSERT_EQ(out[x * kHeight + y], in[size_t(y * kWidth + x)]);
}

TEST_P(Cuda, VirtualFunctionsPointersAndStructs) {
    Mixed m{-3, 7, 2.5, {1, 2, 3}, 1ull << 50};
    auto* out = gpu.array<float>(64);
    gpu.run("indirect", {1}, {64}, out, m, 1);
    for (int t = 0; t < 64; ++t) {
        float area = float(t & 1 ? t * t : t * 3);
        float want = area + float(t % 3 == 0 ? t * t : 2 * t);
        Mixed c = change(m, t + 1);
        want += float(c.word) + float(c.real) + c.pair[t % 3] + float(c.wide >> 40) + c.small;
        ASSERT_EQ(out[t], want) << t;
    }
}

TEST_P(Cuda, Printf) {
    gpu.run("print", {1}, {4}, 1, gpu.array(std::vector<char>{'t', 'e', 'x', 't', 0}));
    EXPECT_EQ(gpu.printed,
              "[1]     7|ff  |+1.50|text|b|-1099511627776|%|1.235e+04|deadbeefcafe\n"
              "[3]     7|ff  |+4.50|text|d|-1099511627776|%|1.235e+04|deadbeefcafe\n");
}

TEST_P(Cuda, Assertion) {
    gpu.run("check", {1}, {8}, 8);
    EXPECT_EQ(gpu.printed, "");
    try {
        gpu.run("check", {2}, {8}, 7);
        FAIL();
    } catch (const Fault& f) {
        EXPECT_EQ(f.kind(), Fault::Kind::Assert);
    }
    EXPECT_NE(gpu.printed.find("kernels.cu:"), std::string::npos) << gpu.printed;
    EXPECT_NE(
        gpu.printed.find("thread: [7,0,0] Assertion `threadIdx.x < limit && \"too many threads\"` failed.\n"),
        std::string::npos)
        << gpu.printed;
}

TEST_P(Cuda, Heap) {
    int* out = gpu.array<int>(40);
    gpu.run("heap", {1}, {40}, out);
    for (int t = 0; t < 40; ++t) ASSERT_EQ(out[t], t * (t + 1) / 2);
    EXPECT_EQ(gpu.freed, 40);
}

float to_half(float f) {
    return float(_Float16(f));
}
float to_bfloat(float f) {
    uint32_t u = std::bit_cast<uint32_t>(f);
    return std::bit_cast<float>((u + 0x7fff + (u >> 16 & 1)) & 0xffff0000);
}

TEST_P(Cuda, Halves) {
    constexpr int kN = 100;
    std::vector<float> in(kN);
    for (int i = 0; i < kN; ++i) in[size_t(i)] = float(i) * 0.173f - 8;
    auto* out = gpu.array<float>(4 * kN);
    gpu.run("halves", {1}, {128}, gpu.array(in), out, kN);
    for (int t = 0; t < kN; ++t) {
        float a = to_half(in[size_t(t)]), b = to_half(in[size_t(t + 1) % kN]), c = to_bfloat(in[size_t(t)]);
        ASSERT_EQ(out[4 * t], to_half(a + b));
        ASSERT_EQ(out[4 * t + 1], to_half(std::fmaf(a, a, 0.5f)) + (a > b ? 100.0f : 0.0f));
        ASSERT_EQ(out[4 * t + 2], to_bfloat(c * c));
        ASSERT_NEAR(out[4 * t + 3], to_half(std::exp2(a)) + std::nearbyintf(b) + std::max(a, b),
                    0.002f * std::exp2(a));
    }
}

TEST_P(Cuda, Globals) {
    int* out = gpu.array<int>(2);
    gpu.run("globals", {1}, {32}, out);
    EXPECT_EQ(out[0], 8);
    EXPECT_EQ(out[1], 11);
    EXPECT_EQ(*gpu.variable<int>("managed_word"), 99);
}

TEST_P(Cuda, Contention) {
    int *sum = gpu.array<int>(1), *out = gpu.array<int>(2);
    gpu.run("contention", {6}, {96}, sum, out);
    EXPECT_EQ(out[0], 6 * 95 * 96 / 2);
    EXPECT_EQ(out[1], 11);
}

TEST_P(Cuda, CooperativeGrid) {
    constexpr int kThreads = 50 * 64;
    int *values = gpu.array<int>(kThreads), *out = gpu.array<int>(kThreads);
    gpu.launch.cooperative = true;
    gpu.run("grid_rounds", {50}, {64}, values, out);
    for (int t = 0; t < kThreads; ++t) {
        uint32_t want = uint32_t(t / 8 * 8 + 3) * 1000000u;
        for (int round = 0; round < 5; ++round) want += uint32_t((t * 7 + round) % kThreads * round);
        ASSERT_EQ(out[t], int(want)) << t;
    }
}

TEST_P(Cuda, BitIntrinsics) {
    auto* out = gpu.array<uint64_t>(64);
    gpu.run("bits", {1}, {64}, out);
    auto sub = [](uint32_t a, uint32_t b, auto f) {
        uint32_t r = 0;
        for (int k = 0; k < 32; k += 8) r |= uint32_t(uint8_t(f(uint8_t(a >> k), uint8_t(b >> k)))) << k;
        return r;
    };
    for (uint32_t t = 0; t < 64; ++t) {
        auto v = uint32_t(mix(t));
        uint64_t w = mix(t + 1000), pair = uint64_t(t) << 32 | v;
        uint32_t reversed = 0, permuted = 0;
        for (int i = 0; i < 32; ++i) reversed |= (v >> i & 1) << (31 - i);
        for (int i = 0; i < 4; ++i) permuted |= uint32_t(pair >> (8 * (0x2143 >> 4 * i & 7)) & 0xff) << 8 * i;
        __extension__ using Wide = __int128;
        int32_t dot = 3;
        for (int k = 0; k < 32; k += 8) dot += int8_t(v >> k) * int8_t(t >> k);
        uint32_t small = reversed ^ uint32_t(std::popcount(w));
        small += uint32_t(std::countl_zero(w >> t)) + uint32_t(v ? std::countr_zero(v) + 1 : 0) + permuted +
                 uint32_t(uint64_t(v) * 12345 >> 32);
        uint64_t want = small;
        want += uint64_t(Wide(int64_t(w)) * int64_t(w) >> 64);
        want += uint32_t(pair << 5 >> 32);
        int32_t a = int32_t(t), b = int32_t(v);
        want += uint32_t((a > b ? uint32_t(a) - uint32_t(b) : uint32_t(b) - uint32_t(a)) + 3);
        want += uint32_t((uint64_t(v) + t) >> 1);
        want += sub(v, t, [](uint8_t x, uint8_t y) { return x + y; });
        want += uint64_t(int64_t(dot));
        ASSERT_EQ(out[t], want) << t;
    }
}

INSTANTIATE_TEST_SUITE_P(Nvcc, Cuda, testing::Values("kernels.ptx", "kernels-debug.ptx"),
                         [](const auto& info) { return std::string(info.index ? "Debug" : "Optimized"); });

}  // namespace
}  // namespace softgpu::ptx::test
