#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Three processes as a launcher's ranks are: forked, spawned, and the one that started them, each with a session of its own. In each step
each adds to memory of its device and sends what it holds; all go on with the sum. ranks.py STEPS (0: until SIGTERM)."""
import ctypes
import multiprocessing
import signal
import sys

WORDS = 1 << 16
MASK = 0x7FFFFFFF


class Device:
    def __init__(self):
        self.cuda = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.call("cuCtxSetCurrent", context)
        self.memory, self.copy = ctypes.c_uint64(), ctypes.c_uint64()
        for one in (self.memory, self.copy):
            self.call("cuMemAlloc_v2", ctypes.byref(one), ctypes.c_size_t(4 * WORDS))

    def call(self, name, *arguments):
        status = getattr(self.cuda, name)(*arguments)
        if status != 0:
            raise SystemExit(f"{name} answers {status}")

    def step(self, value):
        """What the device holds after it was filled with `value` and copied to itself, all of it the same."""
        self.call("cuMemsetD32_v2", self.memory, ctypes.c_uint32(value), ctypes.c_size_t(WORDS))
        self.call("cuMemcpyDtoD_v2", self.copy, self.memory, ctypes.c_size_t(4 * WORDS))
        words = (ctypes.c_uint32 * WORDS)()
        self.call("cuMemcpyDtoH_v2", words, self.copy, ctypes.c_size_t(4 * WORDS))
        if any(word != value for word in words[::997]):
            raise SystemExit(f"{value} was written, {words[:4]} ... is there")
        return words[0]


def rank(number, pipe):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first says when it is over
    device = Device()
    value = number
    while True:
        pipe.send(device.step(value))
        total = pipe.recv()
        if total is None:
            return
        value = (total * 31 + number) & MASK


def main():
    steps, stop = int(sys.argv[1]), []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    pipes, processes = [], []
    for number, method in enumerate(("fork", "spawn"), 1):
        way = multiprocessing.get_context(method)
        ours, theirs = way.Pipe()
        process = way.Process(target=rank, args=(number, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    device = Device()
    value = step = 0
    while not stop and (steps == 0 or step < steps):
        total = (device.step(value) + sum(pipe.recv() for pipe in pipes)) & MASK
        for pipe in pipes:
            pipe.send(total)
        value = total * 31 & MASK
        step += 1
        if steps and step % 50 == 0:
            print(f"step {step} sum {total}", flush=True)
    for pipe, process in zip(pipes, processes):
        pipe.recv()
        pipe.send(None)
        process.join()
        if process.exitcode:
            raise SystemExit(f"{process.name} ended with status {process.exitcode}")
    print(f"PASS ranks: {step} steps, the sum is {total}", flush=True)


if __name__ == "__main__":
    main()
