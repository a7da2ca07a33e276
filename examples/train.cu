// SPDX-License-Identifier: MIT
// Gradient descent that is the same to the last bit wherever it runs: a two-layer network learns a made-up
// function, every sum is taken in a fixed order with explicit roundings and without atomics, and the host
// computes the same network beside the device's. The loss of each step is printed exactly (hexadecimal), so
// that the sequence of a run that was dumped and restored can be compared with one that was left in peace.
#include <cmath>
#include <vector>

#include "example.h"

using namespace example;

constexpr int kInputs = 8, kHidden = 32, kBatch = 64;
constexpr int kWeights = kInputs * kHidden + kHidden + kHidden + 1;
constexpr float kRate = 0.03125f / kBatch;  // a power of two: scaling by it is exact

// The compiler may fuse a*b+c on the device; these say what is meant, on both sides.
__host__ __device__ static float mul(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}
__host__ __device__ static float sub(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fsub_rn(a, b);
#else
    return a - b;
#endif
}

struct Network {
    float hidden_weight[kInputs][kHidden];
    float hidden_bias[kHidden];
    float output_weight[kHidden];
    float output_bias;
};
static_assert(sizeof(Network) == kWeights * sizeof(float));

struct Batch {
    float input[kBatch][kInputs];
    float target[kBatch];
};

struct Work {
    float activation[kBatch][kHidden];
    float error[kBatch];
    float loss;
};

// Each function below is one thread's share, indexed as the kernel of the same name is launched; the host
// runs them in a loop. What a sum adds up, and in which order, is thus written once.
__host__ __device__ static void hidden_layer(const Network& net, const Batch& batch, Work& work, int sample,
                                             int h) {
    float sum = net.hidden_bias[h];
    for (int i = 0; i < kInputs; ++i) sum = fmaf(batch.input[sample][i], net.hidden_weight[i][h], sum);
    work.activation[sample][h] = sum > 0 ? sum : 0;
}
__host__ __device__ static void output_layer(const Network& net, const Batch& batch, Work& work, int sample) {
    float sum = net.output_bias;
    for (int h = 0; h < kHidden; ++h) sum = fmaf(work.activation[sample][h], net.output_weight[h], sum);
    work.error[sample] = sub(sum, batch.target[sample]);
}
__host__ __device__ static void learn_hidden(Network& net, const Batch& batch, const Work& work, int i,
                                             int h) {
    float gradient = 0;  // i == kInputs stands for the bias
    for (int sample = 0; sample < kBatch; ++sample) {
        if (!(work.activation[sample][h] > 0)) continue;
        const float blame = mul(work.error[sample], net.output_weight[h]);
        gradient = fmaf(blame, i == kInputs ? 1.0f : batch.input[sample][i], gradient);
    }
    float& weight = i == kInputs ? net.hidden_bias[h] : net.hidden_weight[i][h];
    weight = sub(weight, mul(kRate, gradient));
}
__host__ __device__ static void learn_output(Network& net, const Work& work, int h) {
    float gradient = 0;  // h == kHidden stands for the bias
    for (int sample = 0; sample < kBatch; ++sample)
        gradient = fmaf(work.error[sample], h == kHidden ? 1.0f : work.activation[sample][h], gradient);
    float& weight = h == kHidden ? net.output_bias : net.output_weight[h];
    weight = sub(weight, mul(kRate, gradient));
}

__global__ void hidden_layer_kernel(const Network* net, const Batch* batch, Work* work) {
    hidden_layer(*net, *batch, *work, blockIdx.x, threadIdx.x);
}
__global__ void output_layer_kernel(const Network* net, const Batch* batch, Work* work) {
    output_layer(*net, *batch, *work, threadIdx.x);
}
__global__ void loss_kernel(Work* work) {
    __shared__ float partial[kBatch];
    const int me = threadIdx.x;
    partial[me] = mul(work->error[me], work->error[me]);
    for (int half = kBatch / 2; half > 0; half /= 2) {
        __syncthreads();
        if (me < half) partial[me] += partial[me + half];
    }
    if (me == 0) work->loss = partial[0] / kBatch;
}
__global__ void learn_hidden_kernel(Network* net, const Batch* batch, const Work* work) {
    learn_hidden(*net, *batch, *work, blockIdx.x, threadIdx.x);
}
__global__ void learn_output_kernel(Network* net, const Work* work) {
    if (threadIdx.x <= kHidden) learn_output(*net, *work, threadIdx.x);
}

static void train_on_host(Network& net, const Batch& batch, Work& work) {
    for (int sample = 0; sample < kBatch; ++sample)
        for (int h = 0; h < kHidden; ++h) hidden_layer(net, batch, work, sample, h);
    for (int sample = 0; sample < kBatch; ++sample) output_layer(net, batch, work, sample);
    float partial[kBatch];
    for (int me = 0; me < kBatch; ++me) partial[me] = mul(work.error[me], work.error[me]);
    for (int half = kBatch / 2; half > 0; half /= 2)
        for (int me = 0; me < half; ++me) partial[me] += partial[me + half];
    work.loss = partial[0] / kBatch;
    for (int i = 0; i <= kInputs; ++i)
        for (int h = 0; h < kHidden; ++h) learn_hidden(net, batch, work, i, h);
    for (int h = 0; h <= kHidden; ++h) learn_output(net, work, h);
}

static float uniform(Random& random) {
    return float(random.below(1 << 16)) / (1 << 15) - 1;
}

// A fresh batch for every step, with noise on the target: training never stands still, so no step is without
// effect.
static void make_batch(long step, Batch& batch) {
    Random random(step + 1);
    for (int sample = 0; sample < kBatch; ++sample) {
        float target = 0;
        for (int i = 0; i < kInputs; ++i) {
            const float x = batch.input[sample][i] = uniform(random);
            target += (i % 2 ? x : -x) * (x > 0 ? 1.0f : 0.25f);
        }
        batch.target[sample] = target + 0.125f * uniform(random);
    }
}

int main(int argc, char** argv) {
    Common common = {.steps = 500};
    parse(argc, argv, common);

    Network host_net = {}, seen_net = {};
    Random random(0);
    for (auto& row : host_net.hidden_weight)
        for (float& weight : row) weight = 0.5f * uniform(random);
    for (float& weight : host_net.output_weight) weight = 0.5f * uniform(random);
    Work host_work = {};

    Network* net = nullptr;
    Batch *batch = nullptr, *host_batch = nullptr;
    Work* work = nullptr;
    float* loss = nullptr;
    cudaStream_t stream = nullptr;
    CUDA_CHECK(cudaMalloc(&net, sizeof *net));
    CUDA_CHECK(cudaMalloc(&batch, sizeof *batch));
    CUDA_CHECK(cudaMalloc(&work, sizeof *work));
    CUDA_CHECK(cudaMallocHost(&host_batch, sizeof *host_batch));
    CUDA_CHECK(cudaMallocHost(&loss, sizeof *loss));
    CUDA_CHECK(cudaStreamCreate(&stream));
    CUDA_CHECK(cudaMemcpy(net, &host_net, sizeof host_net, cudaMemcpyHostToDevice));

    float first_losses = 0,
          last_losses = 0;  // running means, so that learning can be told from standing still
    long step = 0;
    for (; !done(common, step); ++step) {
        make_batch(step, *host_batch);
        CUDA_CHECK(cudaMemcpyAsync(batch, host_batch, sizeof *batch, cudaMemcpyHostToDevice, stream));
        hidden_layer_kernel<<<kBatch, kHidden, 0, stream>>>(net, batch, work);
        output_layer_kernel<<<1, kBatch, 0, stream>>>(net, batch, work);
        loss_kernel<<<1, kBatch, 0, stream>>>(work);
        learn_hidden_kernel<<<kInputs + 1, kHidden, 0, stream>>>(net, batch, work);
        learn_output_kernel<<<1, 64, 0, stream>>>(net, work);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaMemcpyAsync(loss, &work->loss, sizeof *loss, cudaMemcpyDeviceToHost, stream));
        CUDA_CHECK(cudaStreamSynchronize(stream));

        train_on_host(host_net, *host_batch, host_work);
        if (std::memcmp(loss, &host_work.loss, sizeof *loss) != 0)
            fail("train: step %ld: the device's loss is %a, the host's %a", step, *loss, host_work.loss);
        if (step < 20) first_losses += *loss / 20;
        last_losses += (*loss - last_losses) / 20;
        if (!common.quiet) {
            std::printf("step %ld loss %a %.6f\n", step, *loss, *loss);
            std::fflush(stdout);
        }
        pause(common);
    }
    CUDA_CHECK(cudaMemcpy(&seen_net, net, sizeof seen_net, cudaMemcpyDeviceToHost));
    if (std::memcmp(&seen_net, &host_net, sizeof seen_net) != 0) fail("train: the trained networks differ");
    if (step >= 200 && !(last_losses < first_losses / 2))
        fail("train: nothing learned: the loss went from %g to %g", first_losses, last_losses);
    CUDA_CHECK(cudaStreamDestroy(stream));
    return pass("train: %ld steps, the loss is %a", step, host_work.loss);
}
