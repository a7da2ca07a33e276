#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Calls NVML as pynvml does, each way a parameter can travel, and prints PASS. Runs under the shim, with the software
GPU's NVML (two devices) behind the server. An argument is the pid of a program that uses the GPU at the time."""
import ctypes
import os
import sys
import threading
from ctypes import POINTER, Structure, byref, c_char, c_int, c_int64, c_uint, c_uint64, c_void_p, sizeof

nvml = ctypes.CDLL(sys.argv[1])
other = int(sys.argv[2])
nvml.nvmlErrorString.restype = ctypes.c_char_p
UNINITIALIZED, INVALID, UNSUPPORTED, PERMISSION, NOT_FOUND, SMALL, MISMATCH = 1, 2, 3, 4, 6, 7, 25


def expect(what, got, wanted):
    if got != wanted:
        print(f"{what}: {got!r}, expected {wanted!r}")
        sys.exit(1)


def call(name, *arguments, result=0):
    expect(name, getattr(nvml, name)(*arguments), result)


class Memory(Structure):
    _fields_ = [("version", c_uint), ("total", c_uint64), ("reserved", c_uint64), ("free", c_uint64), ("used", c_uint64)]


class Process(Structure):
    _fields_ = [("pid", c_uint), ("memory", c_uint64), ("gpu", c_uint), ("compute", c_uint)]


class Field(Structure):
    _fields_ = [("field", c_uint), ("scope", c_uint), ("timestamp", c_int64), ("latency", c_int64), ("type", c_uint),
                ("result", c_int), ("value", c_uint64)]


class Detail(Structure):
    _fields_ = [("pid", c_uint), ("memory", c_uint64), ("gpu", c_uint), ("compute", c_uint), ("protected", c_uint64)]


class Details(Structure):
    _fields_ = [("version", c_uint), ("mode", c_uint), ("count", c_uint), ("details", POINTER(Detail))]


count = c_uint()
call("nvmlDeviceGetCount_v2", byref(count), result=UNINITIALIZED)
call("nvmlShutdown", result=UNINITIALIZED)
version = c_int()
call("nvmlSystemGetCudaDriverVersion_v2", byref(version))  # needs no nvmlInit
expect("the CUDA version", version.value, 13000)

# Counted: the second nvmlShutdown is the last.
call("nvmlInit_v2")
call("nvmlInitWithFlags", 0)
call("nvmlShutdown")
call("nvmlDeviceGetCount_v2", byref(count))
expect("devices", count.value, 2)
descriptors = os.listdir("/proc/self/fd")

# Handles mean nothing but themselves, and the same every time.
devices = [c_void_p() for _ in range(2)]
for index, device in enumerate(devices):
    call("nvmlDeviceGetHandleByIndex_v2", index, byref(device))
again = c_void_p()
uuid = ctypes.create_string_buffer(96)
call("nvmlDeviceGetUUID", devices[1], uuid, 96)
call("nvmlDeviceGetHandleByUUID", uuid, byref(again))
expect("a handle found by uuid", again.value, devices[1].value)
call("nvmlDeviceGetHandleByUUID", b"GPU-none", byref(again), result=NOT_FOUND)
call("nvmlDeviceGetHandleByUUID", None, byref(again), result=INVALID)
call("nvmlDeviceGetHandleByIndex_v2", 7, byref(again), result=INVALID)
expect("a handle that was not given", again.value, devices[1].value)
for wrong in (0, 3, 0x10000, 0x7f0000000000):
    call("nvmlDeviceGetIndex", c_void_p(wrong), byref(count), result=INVALID)
call("nvmlDeviceGetIndex", devices[1], byref(count))
expect("the index", count.value, 1)

# Texts, and what lies behind them.
name = ctypes.create_string_buffer(b"x" * 63, 64)
call("nvmlDeviceGetName", devices[0], name, 64)
expect("the name", name.value, b"Cricket Software GPU")
expect("what lies behind the name", name.raw[21:63], b"x" * 42)
call("nvmlDeviceGetName", devices[0], name, 5, result=SMALL)
expect("the name that did not fit", name.value, b"Cricket Software GPU")
call("nvmlDeviceGetName", devices[0], None, 64, result=INVALID)
expect("a result's text", nvml.nvmlErrorString(INVALID), b"software NVML: invalid argument")

# Structs whose first word is their version.
memory = Memory(version=2 << 24 | sizeof(Memory))
call("nvmlDeviceGetMemoryInfo_v2", devices[0], byref(memory))
expect("memory", (memory.version, memory.total, memory.free), (2 << 24 | sizeof(Memory), 2 << 30, 2 << 30))
for wrong in (0, 9 << 24 | sizeof(Memory), 2 << 24 | 0xffffff):
    memory.version = wrong
    call("nvmlDeviceGetMemoryInfo_v2", devices[0], byref(memory), result=MISMATCH)
    expect("the version that was refused", memory.version, wrong)

# Arrays: how many, then which; and no further than there is room.
count.value = 0
call("nvmlDeviceGetSupportedMemoryClocks", devices[0], byref(count), None, result=SMALL)
expect("clocks", count.value, 3)
clocks = (c_uint * 5)(*[9] * 5)
count.value = 4
call("nvmlDeviceGetSupportedMemoryClocks", devices[0], byref(count), clocks)
expect("the clocks", (count.value, list(clocks)), (3, [3000, 2000, 1000, 9, 9]))
count.value = 2
call("nvmlDeviceGetSupportedMemoryClocks", devices[0], byref(count), clocks, result=SMALL)
expect("clocks that did not fit", list(clocks), [3000, 2000, 1000, 9, 9])

near = (c_void_p * 4)()
count.value = 0
call("nvmlDeviceGetTopologyNearestGpus", devices[0], 50, byref(count), None)
expect("neighbours", count.value, 1)
call("nvmlDeviceGetTopologyNearestGpus", devices[0], 50, byref(count), near)
expect("the neighbour", list(near), [devices[1].value, None, None, None])

fields = (Field * 3)(*[Field(field=number, value=5) for number in (1, 200, 3)])
call("nvmlDeviceGetFieldValues", devices[0], 3, fields)
expect("fields", [(one.result, one.value) for one in fields], [(0, 10), (UNSUPPORTED, 5), (0, 30)])
call("nvmlDeviceGetFieldValues", devices[0], -1, fields, result=INVALID)

# A struct with a pointer in it, which stays the caller's.
details = (Detail * 3)()
details_list = Details(1 << 24 | sizeof(Details), 0, 3, details)
call("nvmlDeviceGetRunningProcessDetailList", devices[0], byref(details_list))
expect("details", (details_list.count, [one.pid for one in details]), (2, [11, 12, 0]))
expect("the pointer", ctypes.addressof(details_list.details.contents), ctypes.addressof(details))
call("nvmlDeviceGetRunningProcessDetailList", devices[0], byref(Details(1 << 24 | sizeof(Details), 0, 2, None)),
     result=INVALID)

# Who uses the GPU is the application, not the worker that acts for it.
processes = (Process * 256)()
count.value = 256
call("nvmlDeviceGetComputeRunningProcesses_v3", devices[0], byref(count), processes)
expect("the application among the processes", other in [one.pid for one in processes[:count.value]], True)
call("nvmlSystemGetProcessName", other, name, 64)
expect("its name", name.value[:63], open(f"/proc/{other}/cmdline", "rb").read().split(b"\0")[0][:63])

# What is not there, or not for us.
call("nvmlDeviceSetPowerManagementLimit", devices[0], 100, result=PERMISSION)
call("nvmlDeviceSetPowerManagementLimit", devices[0], 100, result=PERMISSION)
call("nvmlGpmSampleAlloc", byref(again), result=UNSUPPORTED)
call("nvmlDeviceGetFanSpeed", devices[0], byref(count), result=UNSUPPORTED)
expect("a function that nobody has", hasattr(nvml, "nvmlDeviceGetSomethingNew"), False)

events = c_void_p()
call("nvmlEventSetCreate", byref(events))
call("nvmlDeviceRegisterEvents", devices[0], c_uint64(8), events, result=UNSUPPORTED)
call("nvmlEventSetFree", events)

# The table of nvidia-smi: its size first, then places.
table = POINTER(c_void_p)()
smi = bytes.fromhex("c4fe3e6cc98f6c4ea327ee696e12f7c4")
call("nvmlInternalGetExportTable", byref(table), bytes(16), result=NOT_FOUND)
call("nvmlInternalGetExportTable", byref(table), smi)
expect("the table's size", table[0] >= 250 * 8, True)
part_number = ctypes.CFUNCTYPE(c_int, c_void_p, ctypes.c_char_p, c_uint)(table[231])
expect("the part number's result", part_number(devices[0], name, 64), 0)
expect("the part number", name.value, b"SOFT-PART")
between = ctypes.CFUNCTYPE(c_int, ctypes.c_char_p, ctypes.c_char_p, c_void_p)(table[23])
buses = [b"00000000:10:00.0", b"00000000:11:00.0"]
expect("two bus ids' result", between(*buses, ctypes.addressof(count)), 0)
expect("what is between two bus ids", count.value, 2)
expect("a bus id that is nobody's", between(buses[0], b"00000000:77:00.0", ctypes.addressof(count)), NOT_FOUND)
expect("no bus id", between(buses[0], None, ctypes.addressof(count)), NOT_FOUND)
nodes = (c_uint64 * 4)(*[7] * 4)
nearest = ctypes.CFUNCTYPE(c_int, c_void_p, c_uint, c_void_p, c_uint)(table[223])
expect("the nearest nodes' result", nearest(devices[1], 4, ctypes.addressof(nodes), 0), 0)
expect("the nearest nodes", list(nodes), [1, 0, 0, 0])
sparse = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)(table[249])
expect("a place that the server's table has not", sparse(devices[0], ctypes.addressof(count)), 13)

# More threads than the socket's queue has room.
wrong = []


def many(index):
    mine, text = c_uint(), ctypes.create_string_buffer(96)
    for _ in range(60):
        if nvml.nvmlDeviceGetIndex(devices[index % 2], byref(mine)) or mine.value != index % 2:
            wrong.append(mine.value)
        if nvml.nvmlDeviceGetUUID(devices[index % 2], text, 96) or not text.value.endswith(b"0%d" % (index % 2)):
            wrong.append(text.value)


threads = [threading.Thread(target=many, args=(index,)) for index in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
expect("answers that threads got", wrong, [])

pid = os.fork()
if pid == 0:  # a forked child has NVML as its parent had it
    child = nvml.nvmlDeviceGetCount_v2(byref(count))
    os._exit(child)
expect("nvmlDeviceGetCount in a forked child", os.waitpid(pid, 0)[1], 0)

expect("descriptors between two calls", os.listdir("/proc/self/fd"), descriptors)
maps = open("/proc/self/maps").read()
expect("a device in the process", "/dev/nvidia" in maps, False)
expect("the software GPU in the process", "softgpu" in maps, False)
expect("memory of a call left behind", "cricket-nvml (deleted)" in maps, False)
call("nvmlShutdown")
call("nvmlShutdown", result=UNINITIALIZED)
call("nvmlDeviceGetIndex", devices[0], byref(count), result=UNINITIALIZED)
print("PASS")
