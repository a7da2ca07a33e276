# SPDX-License-Identifier: MIT
# numba-cuda: kernels, shared and constant memory, atomics, streams, pinned, mapped and managed arrays, printing, errors.
# needs: numba.cuda
# limit: 240
import warnings

import numpy as np

if not hasattr(np, "row_stack"):  # numba-cuda of 2026 asks for it, numpy 2.5 has it no more
    np.row_stack = np.vstack
from numba import cuda, float32, int32

from support import show

warnings.simplefilter("ignore")
if not cuda.is_available():
    raise SystemExit("numba finds no CUDA")


@cuda.jit
def saxpy(a, x, y):
    i = cuda.grid(1)
    if i < x.size:
        y[i] += a * x[i]


@cuda.jit
def block_sums(x, sums):
    part = cuda.shared.array(256, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    part[t] = x[i] if i < x.size else 0
    cuda.syncthreads()
    step = 128
    while step > 0:
        if t < step:
            part[t] += part[t + step]
        cuda.syncthreads()
        step //= 2
    if t == 0:
        sums[cuda.blockIdx.x] = part[0]


@cuda.jit
def histogram(x, bins, greatest):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(bins, x[i] % bins.size, 1)
        cuda.atomic.max(greatest, 0, x[i])


@cuda.jit
def matmul(a, b, c):
    i, j = cuda.grid(2)
    if i < c.shape[0] and j < c.shape[1]:
        total = float32(0)
        for k in range(a.shape[1]):
            total += a[i, k] * b[k, j]
        c[i, j] = total


LOOKUP = np.arange(32, dtype=np.int32) ** 2


@cuda.jit
def constant(out):
    table = cuda.const.array_like(LOOKUP)
    out[cuda.threadIdx.x] = table[cuda.threadIdx.x]


@cuda.jit
def dynamic(x):
    part = cuda.shared.array(0, int32)
    part[cuda.threadIdx.x] = x[cuda.threadIdx.x]
    cuda.syncthreads()
    x[cuda.threadIdx.x] = part[cuda.blockDim.x - 1 - cuda.threadIdx.x]


@cuda.jit
def speak(number):
    if cuda.grid(1) < 3:
        print("thread", cuda.grid(1), "says", number)


x = np.arange(10000, dtype=np.float32)
y = np.ones_like(x)
saxpy[40, 256](np.float32(2), x, y)
show("saxpy", y)
sums = cuda.device_array(40, np.float32)
block_sums[40, 256](cuda.to_device(x), sums)
show("shared", sums.copy_to_host())
bins, greatest = np.zeros(16, dtype=np.int32), np.zeros(1, dtype=np.int32)
histogram[40, 256](np.arange(10000, dtype=np.int32), bins, greatest)
show("atomics", bins, greatest)
a = np.arange(64 * 48, dtype=np.float32).reshape(64, 48) / 100
c = np.zeros((64, 64), dtype=np.float32)
matmul[(4, 4), (16, 16)](a, np.ascontiguousarray(a.T), c)
show("matmul", c)
out = np.zeros(32, dtype=np.int32)
constant[1, 32](out)
show("constant", out)
z = np.arange(128, dtype=np.int32)
dynamic[1, 128, 0, 512](z)
show("dynamic", z)
speak[1, 32](42)
cuda.synchronize()

stream = cuda.stream()
with cuda.pinned(x):
    on = cuda.to_device(x, stream=stream)
    saxpy[40, 256, stream](np.float32(3), on, on)
    back = on.copy_to_host(stream=stream)
    stream.synchronize()
show("stream", back)
pinned = cuda.pinned_array(1000, np.float64)
pinned[:] = np.arange(1000)
show("pinned", cuda.to_device(pinned).copy_to_host())
mapped = cuda.mapped_array(1000, np.float32)
mapped[:] = 1
saxpy[4, 256](np.float32(5), mapped, mapped)
cuda.synchronize()
show("mapped", np.array(mapped))
managed = cuda.managed_array(1000, np.float32)
managed[:] = 2
saxpy[4, 256](np.float32(5), managed, managed)
cuda.synchronize()
show("managed", np.array(managed))
with stream.auto_synchronize():
    saxpy[40, 256, stream](np.float32(1), on, on)
show("auto_synchronize", on.copy_to_host())
begin, end = cuda.event(), cuda.event()
begin.record()
saxpy[40, 256](np.float32(1), on, on)
end.record()
end.synchronize()
show("events", 0 <= begin.elapsed_time(end) < 60000)
said = []
try:
    stream.add_callback(lambda stream, status, argument: said.append((status, argument)), "called")
except AttributeError as error:  # numba-cuda of 2026 and cuda-bindings 13.3 disagree about what a stream is
    show("no callbacks", error)
stream.synchronize()
show("callback", said)
device = cuda.get_current_device()
show("device", device.name, device.compute_capability, device.MAX_THREADS_PER_BLOCK, device.MULTIPROCESSOR_COUNT)
show("memory", cuda.current_context().get_memory_info().total)
reduce = cuda.reduce(lambda a, b: a + b)
show("reduce", float(reduce(np.arange(1000, dtype=np.float64))))
try:
    saxpy[1, 4096](np.float32(1), on, on)
    cuda.synchronize()
    show("too many threads", "no error")
except Exception as error:
    # Which call says so (the launch or the next one) is not told.
    show("too many threads", type(error).__name__, "INVALID_VALUE" in str(error))
