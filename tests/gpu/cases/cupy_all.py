# SPDX-License-Identifier: MIT
# CuPy: RawKernel and RawModule through NVRTC, element-wise kernels, cuBLAS, cuFFT, cuSOLVER, pools, streams, graphs, textures.
# needs: cupy
# limit: 240
import cupy as cp
import numpy as np

from support import show

scale = cp.RawKernel(r'''
extern "C" __global__ void scale(const float* x, float* y, float factor, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * factor + i;
}''', "scale")
x = cp.arange(100000, dtype=cp.float32)
y = cp.empty_like(x)
scale((391,), (256,), (x, y, np.float32(1.5), np.int32(x.size)))
show("RawKernel", y, scale.attributes["max_threads_per_block"])

module = cp.RawModule(code=r'''
__constant__ int table[16];
__device__ unsigned int counter;
template <typename T> __global__ void add(T* x, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        x[i] += table[i % 16];
        atomicAdd(&counter, 1u);
    }
}
extern "C" __global__ void reverse(int* x) {
    extern __shared__ int part[];
    part[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = part[blockDim.x - 1 - threadIdx.x];
}''', options=("--std=c++17",), name_expressions=["add<int>", "add<double>"])
table = cp.ndarray(16, cp.int32, module.get_global("table"))
table[...] = cp.arange(16)
for kind, name in ((cp.int32, "add<int>"), (cp.float64, "add<double>")):
    z = cp.ones(5000, dtype=kind)
    module.get_function(name)((32,), (128,), (z, z.size))
    show("RawModule", name, z)
show("counter", cp.ndarray(1, cp.uint32, module.get_global("counter")).get().tolist())
w = cp.arange(512, dtype=cp.int32)
module.get_function("reverse")((1,), (512,), (w,), shared_mem=2048)
show("shared", w)

fused = cp.ElementwiseKernel("T a, T b", "T c", "c = a * b + 1", "multiply_add")
square_sum = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = a", "0", "square_sum")
show("element", fused(x, x), square_sum(cp.arange(1000, dtype=cp.int64)))


@cp.fuse
def sine(a):
    return cp.sin(a) * 2 + a


show("fuse", sine(x))
rng = np.random.default_rng(3)
a = cp.asarray(rng.standard_normal((200, 200)))
show("cuBLAS", a @ a, a.astype(cp.float32) @ a.astype(cp.float32), (a + 1j * a) @ a, cp.dot(a[0], a[1]))
show("cuFFT", cp.fft.fft(a), cp.fft.rfft2(a), cp.fft.ifftn(a))
show("cuSOLVER", cp.linalg.solve(a, a[:, 0]), *cp.linalg.svd(a), *cp.linalg.eigh(a + a.T), cp.linalg.inv(a))
show("sorting", cp.sort(a, axis=None), cp.argsort(a[0]), cp.unique((a * 3).astype(cp.int32)))
show("reductions", a.sum(), a.max(axis=0), cp.cumsum(cp.arange(1000)), cp.histogram(a, 20)[0], cp.median(a))
generator = cp.random.RandomState(7)
show("cuRAND", generator.random_sample(1000), generator.randint(0, 99, 100), generator.normal(size=50))

pool = cp.get_default_memory_pool()
show("pool", pool.used_bytes() > 0, pool.total_bytes() >= pool.used_bytes())
kept = cp.cuda.MemoryPool(cp.cuda.malloc_managed)
with cp.cuda.using_allocator(kept.malloc):
    managed = cp.arange(5000)
    show("managed", managed.sum(), kept.used_bytes())
ordered = cp.cuda.MemoryAsyncPool()
with cp.cuda.using_allocator(ordered.malloc):
    stream_ordered = cp.arange(7000) * 2
    show("stream ordered", stream_ordered.sum())
    del stream_ordered
limited = cp.cuda.MemoryPool()
limited.set_limit(size=1 << 20)
try:
    with cp.cuda.using_allocator(limited.malloc):
        cp.zeros(1 << 20)
except cp.cuda.memory.OutOfMemoryError as error:
    show("limit", type(error).__name__)
pinned = cp.cuda.alloc_pinned_memory(40000)
host = np.frombuffer(pinned, np.float32, 10000)
host[...] = np.arange(10000)
stream = cp.cuda.Stream(non_blocking=True)
with stream:
    onto = cp.empty(10000, cp.float32)
    onto.set(host)
    onto *= 3
    back = onto.get(stream=stream)
stream.synchronize()
show("stream", back)
begin, end = cp.cuda.Event(), cp.cuda.Event()
begin.record(stream)
with stream:
    for _ in range(10):
        onto += 1
end.record(stream)
end.synchronize()
show("event", onto, 0 <= cp.cuda.get_elapsed_time(begin, end) < 60000)
said = []
stream.launch_host_func(lambda argument: said.append(argument), "from the stream")
stream.synchronize()
show("host function", said)
with stream:
    stream.begin_capture()
    onto *= 2
    onto += 1
    graph = stream.end_capture()
for _ in range(3):
    graph.launch(stream)
stream.synchronize()
show("graph", onto)

channel = cp.cuda.texture.ChannelFormatDescriptor(32, 0, 0, 0, cp.cuda.runtime.cudaChannelFormatKindFloat)
array = cp.cuda.texture.CUDAarray(channel, 64, 32)
array.copy_from(cp.arange(64 * 32, dtype=cp.float32).reshape(32, 64))
resource = cp.cuda.texture.ResourceDescriptor(cp.cuda.runtime.cudaResourceTypeArray, cuArr=array)
description = cp.cuda.texture.TextureDescriptor(
    (cp.cuda.runtime.cudaAddressModeClamp,) * 2, cp.cuda.runtime.cudaFilterModeLinear, cp.cuda.runtime.cudaReadModeElementType)
texture = cp.cuda.texture.TextureObject(resource, description)
sample = cp.RawKernel(r'''
extern "C" __global__ void sample(float* y, cudaTextureObject_t t) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < 2048) y[i] = tex2D<float>(t, (i % 64) + 0.25f, (i / 64) + 0.75f);
}''', "sample")
sampled = cp.empty(2048, cp.float32)
sample((16,), (128,), (sampled, texture))
show("texture", sampled)
properties = cp.cuda.runtime.getDeviceProperties(0)
show("device", cp.cuda.Device(0).compute_capability, properties["name"], properties["totalGlobalMem"], cp.cuda.runtime.driverGetVersion())
