// SPDX-License-Identifier: MIT
// C = A * B + C / 2 over and over, tiled through shared memory and compared with the CPU after every step.
// All products are small whole numbers and each rounding happens in the same place on both sides, so the
// comparison is exact; and since C depends on every step so far, no step can be left out or done twice. Even
// steps travel through pageable memory, odd ones through pinned memory.
#include <cmath>
#include <vector>

#include "example.h"

using namespace example;

constexpr int kTile = 16;

__global__ void multiply(const float* a, const float* b, float* c, int n) {
    __shared__ float tile_a[kTile][kTile];
    __shared__ float tile_b[kTile][kTile];
    const int x = threadIdx.x, y = threadIdx.y;
    const int row = blockIdx.y * kTile + y, column = blockIdx.x * kTile + x;
    float sum = 0;
    for (int first = 0; first < n; first += kTile) {
        tile_a[y][x] = row < n && first + x < n ? a[row * n + first + x] : 0;
        tile_b[y][x] = first + y < n && column < n ? b[(first + y) * n + column] : 0;
        __syncthreads();
        for (int k = 0; k < kTile; ++k) sum += tile_a[y][k] * tile_b[k][x];
        __syncthreads();
    }
    if (row < n && column < n) c[row * n + column] = fmaf(0.5f, c[row * n + column], sum);
}

static void multiply_on_host(const std::vector<float>& a, const std::vector<float>& b, std::vector<float>& c,
                             int n) {
    std::vector<float> sum(n);
    for (int row = 0; row < n; ++row) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (int k = 0; k < n; ++k)
            for (int column = 0; column < n; ++column) sum[column] += a[row * n + k] * b[k * n + column];
        for (int column = 0; column < n; ++column)
            c[row * n + column] = std::fma(0.5f, c[row * n + column], sum[column]);
    }
}

int main(int argc, char** argv) {
    Common common = {.steps = 200};
    long n_option = 60;  // no multiple of the tile: the edges are part of it
    parse(argc, argv, common, {{"size", "rows and columns of the matrices (60)", &n_option}});
    if (n_option < 1 || n_option > 2048) fail("matmul: --size must be 1 to 2048");
    const int n = int(n_option);
    const size_t count = size_t(n) * n, bytes = count * sizeof(float);

    std::vector<float> a(count), b(count), expected(count, 0.0f), pageable(count);
    float *pinned = nullptr, *device_a = nullptr, *device_b = nullptr, *device_c = nullptr;
    CUDA_CHECK(cudaMallocHost(&pinned, bytes));
    CUDA_CHECK(cudaMalloc(&device_a, bytes));
    CUDA_CHECK(cudaMalloc(&device_b, bytes));
    CUDA_CHECK(cudaMalloc(&device_c, bytes));
    CUDA_CHECK(cudaMemset(device_c, 0, bytes));

    const dim3 threads(kTile, kTile), blocks((n + kTile - 1) / kTile, (n + kTile - 1) / kTile);
    long step = 0;
    for (; !done(common, step); ++step) {
        Random random(step);
        for (float& value : a) value = float(random.below(17)) - 8;
        for (float& value : b) value = float(random.below(17)) - 8;

        float* through = step % 2 ? pinned : pageable.data();
        for (auto [host, device] : {std::pair{&a, device_a}, std::pair{&b, device_b}}) {
            std::memcpy(through, host->data(), bytes);
            CUDA_CHECK(cudaMemcpy(device, through, bytes, cudaMemcpyHostToDevice));
        }
        multiply<<<blocks, threads>>>(device_a, device_b, device_c, n);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaMemcpy(through, device_c, bytes, cudaMemcpyDeviceToHost));

        multiply_on_host(a, b, expected, n);
        for (size_t i = 0; i < count; ++i)
            if (std::memcmp(&through[i], &expected[i], sizeof(float)) != 0)
                fail("matmul: step %ld: element %zu,%zu is %a, should be %a", step, i / n, i % n, through[i],
                     expected[i]);
        if (time_to_report(common)) {
            std::printf("step %ld c[0] %g\n", step, expected[0]);
            std::fflush(stdout);
        }
        pause(common);
    }
    CUDA_CHECK(cudaFree(device_a));
    CUDA_CHECK(cudaFree(device_b));
    CUDA_CHECK(cudaFree(device_c));
    CUDA_CHECK(cudaFreeHost(pinned));
    return pass("matmul: %ld products of %dx%d matrices", step, n, n);
}
