#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Large images of code: the worker maps what the program has mapped from a file, and what it handed over as one, at places of its own;
restored, they lie there too. The program is this file's second half: it launches from both until SIGTERM."""
import ctypes
import mmap
import os
import signal
import sys
from pathlib import Path

from harness import at_work, check, children_of, main, there_and_back

LARGE = 3 << 20


def images_of(worker):
    """What the worker maps in the room of server/places.h for images: names of files, empty for other memory."""
    begin, end = 0x3D0000000000, 0x400000000000
    found = []
    for line in Path(f"/proc/{worker}/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if begin <= int(words[0].split("-")[0], 16) < end:
            found.append(words[5] if len(words) > 5 else "")
    return sorted(found)


def worker_of(server):
    worker, = children_of(server.pid)
    return worker


def test(world, arguments):
    world.criu
    server = world.start_server()
    text = (world.build / "examples/drv_kernel.ptx").read_text().rstrip("\0")
    image = world.folder / "large.ptx"
    image.write_text(text + "\n" * (LARGE - len(text)) + "\0")
    app = world.start_program([sys.executable, __file__, "launch", image])
    at_work(world, app)
    mapped = images_of(worker_of(server))
    check(mapped == ["/memfd:cricket-image (deleted)", str(image)], f"mapped in the worker: {mapped}")
    server = there_and_back(world, app, server, world.folder / "checkpoint")
    mapped = images_of(worker_of(server))
    check(mapped == ["", ""], f"mapped in the restored worker: {mapped}")
    app.finish()
    server.stop()
    for one in world.servers:
        said = [line for line in one.log.read_text().splitlines() if " warn: offer" in line]
        check(not said, f"the server says: {said}")


class Driver:
    def __init__(self):
        self.cuda = ctypes.CDLL("libcuda.so.1")

    def __getattr__(self, name):
        function = getattr(self.cuda, name)

        def call(*arguments):
            status = function(*arguments)
            if status:
                raise SystemExit(f"{name} answers {status}")
        return call


def launch(path):
    """Both modules add to words of the device; each launch is awaited by a copy of them."""
    driver, stop = Driver(), []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    context, stream = ctypes.c_void_p(), ctypes.c_void_p()
    driver.cuInit(0)
    driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    driver.cuCtxSetCurrent(context)
    words, memory = (ctypes.c_uint32 * 64)(), ctypes.c_uint64()
    driver.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(256))
    driver.cuMemsetD32_v2(memory, 0, ctypes.c_size_t(64))
    driver.cuMemcpyDtoH_v2(words, memory, ctypes.c_size_t(256))  # waits for the device before there is an image

    file = os.open(path, os.O_RDONLY)
    mapped = mmap.mmap(file, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    copied = mapped[:-1] + b"\n\0"
    kernels = []
    for image in (ctypes.addressof(ctypes.c_char.from_buffer(mapped)), copied):
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        driver.cuModuleLoadData(ctypes.byref(module), ctypes.c_void_p(image) if isinstance(image, int) else image)
        driver.cuModuleGetFunction(ctypes.byref(kernel), module, b"advance")
        kernels.append(kernel)

    class Line(ctypes.Structure):
        _fields_ = [("shift", ctypes.c_uint8), ("slope", ctypes.c_uint32)]

    step = 0
    while not stop:
        step += 1
        values = [memory, ctypes.c_uint16(64), Line(0, 1), ctypes.c_uint64(step)]
        parameters = (ctypes.c_void_p * 4)(*(ctypes.addressof(value) for value in values))
        driver.cuLaunchKernel(kernels[step % 2], 1, 1, 1, 64, 1, 1, 0, stream, parameters, None)
        driver.cuMemcpyDtoH_v2(words, memory, ctypes.c_size_t(256))
        if set(words) != {step * (step + 1) // 2 & 0xFFFFFFFF}:
            raise SystemExit(f"step {step}: {list(words)}")
    print(f"PASS images: {step} steps")


if sys.argv[1:2] == ["launch"]:
    launch(sys.argv[2])
else:
    main(__doc__, test)
