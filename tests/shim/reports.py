#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a session tells of its application: functions that it used in vain, by whom; its CUDA_* variables in the worker."""
import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
from harness import check, children_of, main, wait_for  # noqa: E402

PROGRAM = """
import ctypes, os, sys
driver = ctypes.CDLL("libcuda.so.1")
assert driver.cuGraphicsMapResources(0, 0, 0) == 3   # before there is a session
assert driver.cuGraphAddExternalSemaphoresWaitNode(0, 0, 0, 0, 0) == 1   # NULL comes first, and is no use of it
assert driver.cuInit(0) == 0
for i in range(3):
    assert driver.cuDeviceGetLuid(0, 0, 0) == 801
if not os.fork():
    os._exit(0 if driver.cuDeviceGetLuid(0, 0, 0) == 3 else 1)
assert os.wait()[1] == 0
print("ready", flush=True)
sys.stdin.read()
"""


def test(world, arguments):
    os.environ["CUDA_OF_THE_SERVER"] = "1"
    server = world.start_server()
    del os.environ["CUDA_OF_THE_SERVER"]
    environment = world.environment(LD_PRELOAD=str(world.shim), CUDA_CACHE_MAXSIZE="4321", CUDA_MODULE_LOADING="LAZY",
                                    CUDA_INJECTION64_PATH="/nowhere.so")
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(program.stdout.readline() == "ready\n", "the program did not get ready")

    def listed():
        session = world.session_of(program.pid)
        return session["unsupported"] if session and len(session["unsupported"]) == 2 else None

    uses = wait_for(listed, lambda: f"two unsupported functions in {world.sessions()}")
    check([(use["function"], use["times"]) for use in uses] == [("cuDeviceGetLuid", 3), ("cuGraphicsMapResources", 1)],
          f"the list is {uses}")
    check(all(use["library"] for use in uses), f"a caller is not named: {uses}")
    text = world.control("status").stdout
    check("cuDeviceGetLuid, used 3 times by" in text, f"status says:\n{text}")

    (worker,) = [pid for pid in children_of(server.pid) if b"--worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    variables = dict(entry.split("=", 1) for entry in Path(f"/proc/{worker}/environ").read_text().split("\0") if "=" in entry)
    check(variables.get("CUDA_CACHE_MAXSIZE") == "4321" and variables.get("CUDA_MODULE_LOADING") == "LAZY",
          f"the worker has {variables}")
    check("CUDA_OF_THE_SERVER" not in variables and "CUDA_INJECTION64_PATH" not in variables, f"the worker has {variables}")

    out, err = program.communicate("")
    check(program.returncode == 0, f"the program ended with status {program.returncode}:\n{err}")
    for name in ("cuDeviceGetLuid", "cuGraphicsMapResources"):
        check(err.count(name) == 1, f"{name} is not named once:\n{err}")
    os.kill(server.pid, signal.SIGTERM)


main(__doc__, test)
