# SPDX-License-Identifier: MIT
# A graph that a kernel launches: it is given the handle of the executable, which the host uses as well.
# needs: cuda.bindings.driver, numpy
import os

import numpy as np
from cuda.bindings import driver

from support import show

DEVRT = os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "lib64", "libcudadevrt.a")
FIRE_AND_FORGET = 0x200000000000000  # cudaStreamGraphFireAndForget
PTX = b"""
.version 8.0
.target sm_80
.address_size 64
.extern .func (.param .b32 status) cudaGraphLaunch(.param .b64 exec, .param .b64 stream);
.visible .entry add(.param .u64 counter) {
    .reg .b32 %before;
    .reg .b64 %counter;
    ld.param.u64 %counter, [counter];
    cvta.to.global.u64 %counter, %counter;
    atom.global.add.u32 %before, [%counter], 5;
    ret;
}
.visible .entry launcher(.param .u64 exec, .param .u64 out) {
    .reg .b32 %status;
    .reg .b64 %exec, %out;
    ld.param.u64 %exec, [exec];
    ld.param.u64 %out, [out];
    cvta.to.global.u64 %out, %out;
    {
        .param .b64 which;
        .param .b64 stream;
        .param .b32 status;
        st.param.b64 [which], %exec;
        st.param.b64 [stream], 144115188075855872;
        call.uni (status), cudaGraphLaunch, (which, stream);
        ld.param.b32 %status, [status];
    }
    st.global.u32 [%out], %status;
    ret;
}
"""
assert b"%d" % FIRE_AND_FORGET in PTX
if not os.path.exists(DEVRT):
    print(f"SKIP: no {DEVRT}")
    raise SystemExit(77)


def ok(answer):
    status, *values = answer
    if int(status):
        raise SystemExit(f"{status!r}")
    return values[0] if len(values) == 1 else values


def captured(kernel, *numbers):
    """A graph of one launch with these 64-bit arguments."""
    values = [np.array([int(number)], np.uint64) for number in numbers]
    arguments = np.array([value.ctypes.data for value in values], dtype=np.uint64)
    ok(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
    ok(driver.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, arguments.ctypes.data, 0))
    return ok(driver.cuStreamEndCapture(stream))


def words(pointer, count):
    found = np.zeros(count, np.uint32)
    ok(driver.cuMemcpyDtoH(found.ctypes.data, pointer, 4 * count))
    return found.tolist()


ok(driver.cuInit(0))
ok(driver.cuCtxSetCurrent(ok(driver.cuDevicePrimaryCtxRetain(ok(driver.cuDeviceGet(0))))))
link = ok(driver.cuLinkCreate(0, [], []))
ok(driver.cuLinkAddData(link, driver.CUjitInputType.CU_JIT_INPUT_PTX, PTX, len(PTX) + 1, b"launch", 0, [], []))
ok(driver.cuLinkAddFile(link, driver.CUjitInputType.CU_JIT_INPUT_LIBRARY, DEVRT.encode(), 0, [], []))
image, _ = ok(driver.cuLinkComplete(link))
module = ok(driver.cuModuleLoadData(image))
ok(driver.cuLinkDestroy(link))
add, launcher = (ok(driver.cuModuleGetFunction(module, name)) for name in (b"add", b"launcher"))
stream = ok(driver.cuStreamCreate(1))
counter = ok(driver.cuMemAlloc(8))
ok(driver.cuMemsetD32(counter, 0, 2))

flag = driver.CUgraphInstantiate_flags.CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH
parameters = driver.CUDA_GRAPH_INSTANTIATE_PARAMS()
parameters.flags = int(flag)
launched = [ok(driver.cuGraphInstantiate(captured(add, counter), int(flag))),
            ok(driver.cuGraphInstantiateWithParams(captured(add, counter), parameters))]
for exec_ in launched:
    ok(driver.cuGraphUpload(exec_, stream))
    show("flags", int(ok(driver.cuGraphExecGetFlags(exec_))))
    outer = ok(driver.cuGraphInstantiate(captured(launcher, exec_, int(counter) + 4), 0))
    for _ in range(3):
        ok(driver.cuGraphLaunch(outer, stream))
        ok(driver.cuStreamSynchronize(stream))
    show("from the device", words(counter, 2))
    ok(driver.cuGraphLaunch(exec_, stream))
    ok(driver.cuStreamSynchronize(stream))
    show("from the host", words(counter, 2))
    ok(driver.cuGraphExecDestroy(exec_))
