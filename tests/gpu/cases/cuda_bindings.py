# SPDX-License-Identifier: MIT
# cuda.bindings: NVRTC, the driver API and the runtime API by hand.
# needs: cuda.bindings.driver, cuda.bindings.nvrtc, cuda.bindings.runtime, numpy
import numpy as np
from cuda.bindings import driver, nvrtc, runtime

from support import show


def ok(answer):
    status, *values = answer
    if int(status):
        raise SystemExit(f"{status!r}")
    return values[0] if len(values) == 1 else values


SOURCE = rb'''
extern "C" __global__ void saxpy(float a, const float* x, float* y, size_t n) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}
__device__ int number = 5;
'''
ok(driver.cuInit(0))
device = ok(driver.cuDeviceGet(0))
show("version", ok(driver.cuDriverGetVersion()), ok(driver.cuDeviceGetName(64, device)).rstrip(b"\0").decode())
major, minor = (ok(driver.cuDeviceGetAttribute(getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{part}"),
                                               device)) for part in ("MAJOR", "MINOR"))
program = ok(nvrtc.nvrtcCreateProgram(SOURCE, b"saxpy.cu", 0, [], []))
options = [f"--gpu-architecture=sm_{major}{minor}".encode()]
ok(nvrtc.nvrtcCompileProgram(program, len(options), options))
image = b" " * ok(nvrtc.nvrtcGetCUBINSize(program))
ok(nvrtc.nvrtcGetCUBIN(program, image))
context = ok(driver.cuDevicePrimaryCtxRetain(device))
ok(driver.cuCtxSetCurrent(context))
module = ok(driver.cuModuleLoadData(np.char.array(image)))
kernel = ok(driver.cuModuleGetFunction(module, b"saxpy"))
address, size = ok(driver.cuModuleGetGlobal(module, b"number"))
number = np.zeros(1, np.int32)
ok(driver.cuMemcpyDtoH(number.ctypes.data, address, size))
show("global", number, size)
n = 100000
x, y = np.arange(n, dtype=np.float32), np.ones(n, dtype=np.float32)
stream = ok(driver.cuStreamCreate(0))
dx, dy = (ok(driver.cuMemAlloc(4 * n)) for _ in "xy")
ok(driver.cuMemcpyHtoDAsync(dx, x.ctypes.data, 4 * n, stream))
ok(driver.cuMemcpyHtoDAsync(dy, y.ctypes.data, 4 * n, stream))
values = [np.array([2.5], np.float32), np.array([int(dx)], np.uint64), np.array([int(dy)], np.uint64), np.array([n], np.uint64)]
arguments = np.array([value.ctypes.data for value in values], dtype=np.uint64)
ok(driver.cuLaunchKernel(kernel, (n + 255) // 256, 1, 1, 256, 1, 1, 0, stream, arguments.ctypes.data, 0))
ok(driver.cuMemcpyDtoHAsync(y.ctypes.data, dy, 4 * n, stream))
ok(driver.cuStreamSynchronize(stream))
show("saxpy", y)
show("bad", driver.cuMemFree(12345)[0], driver.cuModuleGetFunction(module, b"absent")[0], driver.cuStreamQuery(stream)[0])
show("error", ok(driver.cuGetErrorName(driver.CUresult.CUDA_ERROR_NOT_FOUND)).decode())
ok(driver.cuMemFree(dx)), ok(driver.cuMemFree(dy)), ok(driver.cuModuleUnload(module))

show("runtime", ok(runtime.cudaGetDeviceCount()), ok(runtime.cudaRuntimeGetVersion()), ok(runtime.cudaDriverGetVersion()))
pointer = ok(runtime.cudaMalloc(4096))
ok(runtime.cudaMemset(pointer, 7, 4096))
back = np.zeros(4096, np.uint8)
ok(runtime.cudaMemcpy(back.ctypes.data, pointer, 4096, runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost))
show("memset", back)
show("attributes", ok(runtime.cudaPointerGetAttributes(pointer)).type, ok(runtime.cudaMemGetInfo())[1])
ok(runtime.cudaFree(pointer))
ok(runtime.cudaDeviceSynchronize())
