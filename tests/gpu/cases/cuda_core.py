# SPDX-License-Identifier: MIT
# cuda.core: programs, launches, buffers, streams and events in Python's own terms.
# needs: cuda.core, numpy
import numpy as np

from support import show

try:
    from cuda.core import Device, LaunchConfig, Program, ProgramOptions, launch
except ImportError:
    from cuda.core.experimental import Device, LaunchConfig, Program, ProgramOptions, launch

SOURCE = r'''
template <typename T> __global__ void add(const T* a, const T* b, T* c, size_t n) {
    for (size_t i = threadIdx.x + blockIdx.x * blockDim.x; i < n; i += gridDim.x * blockDim.x) c[i] = a[i] + b[i];
}
'''
device = Device()
device.set_current()
stream = device.create_stream()
arch = "".join(str(part) for part in device.compute_capability)
show("device", device.name, device.uuid, arch)
program = Program(SOURCE, code_type="c++", options=ProgramOptions(std="c++17", arch=f"sm_{arch}"))
module = program.compile("cubin", name_expressions=("add<float>", "add<int>"))
n = 50000
for kind, name in ((np.float32, "add<float>"), (np.int32, "add<int>")):
    size = n * 4
    host = [np.arange(n, dtype=kind), np.arange(n, dtype=kind) * 3, np.zeros(n, dtype=kind)]
    from cuda.bindings import driver
    buffers = [device.memory_resource.allocate(size, stream=stream) for _ in host]
    for array, buffer in zip(host, buffers):
        status, = driver.cuMemcpyHtoDAsync(int(buffer.handle), array.ctypes.data, size, int(stream.handle))
        assert int(status) == 0, status
    begin = stream.record()
    launch(stream, LaunchConfig(grid=64, block=256), module.get_kernel(name), *(buffer for buffer in buffers), np.uint64(n))
    end = stream.record()
    status, = driver.cuMemcpyDtoHAsync(host[2].ctypes.data, int(buffers[2].handle), size, int(stream.handle))
    assert int(status) == 0, status
    stream.sync()
    show(name, host[2], end.is_done)
    for buffer in buffers:
        buffer.close(stream)
stream.sync()
show("properties", device.properties.max_threads_per_block, device.properties.multiprocessor_count)
stream.close()
