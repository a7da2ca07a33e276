# SPDX-License-Identifier: MIT
# The driver API through ctypes, with PTX of its own: needs nothing but Python, so it runs on the software GPU as well.
import ctypes
import hashlib
import os
import threading

from support import show

PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry twist(.param .u64 data, .param .u32 factor, .param .u32 n) {
    .reg .pred %p;
    .reg .b32 %r<8>;
    .reg .b64 %d<4>;
    ld.param.u64 %d0, [data];
    ld.param.u32 %r0, [factor];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p, %r5, %r1;
    @%p bra done;
    mul.wide.u32 %d1, %r5, 4;
    add.u64 %d2, %d0, %d1;
    ld.global.u32 %r6, [%d2];
    mad.lo.u32 %r7, %r6, %r0, %r5;
    st.global.u32 [%d2], %r7;
done:
    ret;
}
"""
cuda = ctypes.CDLL("libcuda.so.1")
pointer, word = ctypes.c_void_p, ctypes.c_uint


def ok(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status:
        raise SystemExit(f"{name}: {status}")


def answer(name, *arguments):
    show(name, getattr(cuda, name)(*arguments))


answer("cuCtxGetDevice", ctypes.byref(ctypes.c_int()))
ok("cuInit", 0)
device, context = ctypes.c_int(), pointer()
ok("cuDeviceGet", ctypes.byref(device), 0)
answer("cuDeviceGet", ctypes.byref(device), 77)
ok("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
ok("cuCtxSetCurrent", context)
module, kernel = pointer(), pointer()
ok("cuModuleLoadData", ctypes.byref(module), PTX)
ok("cuModuleGetFunction", ctypes.byref(kernel), module, b"twist")
answer("cuModuleGetFunction", ctypes.byref(pointer()), module, b"absent")


def twist(n, rounds):
    """Digest of what n words are after some launches on a stream of the calling thread."""
    ok("cuCtxSetCurrent", context)
    stream, data = pointer(), ctypes.c_uint64()
    ok("cuStreamCreate", ctypes.byref(stream), 1)
    ok("cuMemAlloc_v2", ctypes.byref(data), ctypes.c_size_t(4 * n))
    host = (word * n)(*range(n))
    ok("cuMemcpyHtoDAsync_v2", data, host, ctypes.c_size_t(4 * n), stream)
    for turn in range(rounds):
        values = data, word(turn * 2 + 3), word(n)
        arguments = (pointer * 3)(*(ctypes.addressof(value) for value in values))
        ok("cuLaunchKernel", kernel, (n + 127) // 128, 1, 1, 128, 1, 1, 0, stream, arguments, None)
    ok("cuMemcpyDtoHAsync_v2", host, data, ctypes.c_size_t(4 * n), stream)
    ok("cuStreamSynchronize", stream)
    ok("cuMemFree_v2", data)
    ok("cuStreamDestroy_v2", stream)
    expected = list(range(n))
    for turn in range(rounds):
        expected = [(value * (turn * 2 + 3) + i) & 0xffffffff for i, value in enumerate(expected)]
    return hashlib.sha256(bytes(host)).hexdigest()[:16], list(host) == expected


for n in (1, 129, 5000):
    show("twist", n, *twist(n, 5))
results = {}
threads = [threading.Thread(target=lambda n=n: results.update({n: twist(n, 9)})) for n in (100, 200, 300)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
show("threads", *sorted(results.items()))
child = os.fork()
if child == 0:
    os._exit(0)
show("fork", os.waitpid(child, 0)[1])
show("after the fork", *twist(77, 3))
answer("cuMemFree_v2", ctypes.c_uint64(0))
answer("cuModuleUnload", module)
answer("cuDevicePrimaryCtxRelease_v2", device)
