#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Processes and threads that begin and end around CUDA: each case of processes.c under the shim, and what becomes of its
session on the server."""
import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
from harness import check, main, wait_for  # noqa: E402

# case: whether its session ends with it; one that leaves without a word is parked.
CASES = {"simple": True, "child-idle": True, "child-raw": True, "child-own": True, "child-of-user": True, "child-of-threads": True, "spawn": True,
         "exec-simple": True, "threads-end": True, "exit-in-call": True, "exit-while-posting": True, "leave": False, "open-and-close": True}


def test(world, arguments):
    server = world.start_server()
    program = arguments.program.resolve()
    environment = world.environment(LD_PRELOAD=str(world.shim))

    for case, ends in CASES.items():
        result = world.run([program, case], env=environment)
        check(result.returncode == 0, f"case {case} ended with status {result.returncode}:\n{result.stdout}")
        check(result.stdout == "", f"case {case} said:\n{result.stdout}")
        if ends:
            wait_for(lambda: not world.sessions(), lambda: f"the sessions of case {case} to end: {world.sessions()}")
            continue
        session = wait_for(lambda: next((one for one in world.sessions() if one["state"] == "parked"), None),
                           f"the session of case {case} to be parked")
        world.control("drop", session["id"])

    # A limit of files' sizes counts for shared memory too: it is raised, or said to be in the way, and no signal ends the program.
    for may_raise in True, False:
        def limited():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY if may_raise else 1 << 20))
            if not may_raise:
                prctl_drop, cap_sys_resource = 24, 24
                ctypes.CDLL(None).prctl(prctl_drop, cap_sys_resource, 0, 0, 0)
        result = subprocess.run([program, "simple"], env=environment, preexec_fn=limited, capture_output=True, text=True, timeout=60)
        if may_raise:
            check(result.returncode == 0, f"under a limit it ended with status {result.returncode}:\n{result.stderr}")
        else:
            check(result.returncode > 0 and "RLIMIT_FSIZE" in result.stderr, f"status {result.returncode}:\n{result.stderr}")
    wait_for(lambda: not world.sessions(), lambda: f"the sessions under a limit to end: {world.sessions()}")

    # A program that turns into one without CUDA: its process lives on, its session does not.
    process = subprocess.Popen([program, "exec-other"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: os.readlink(f"/proc/{process.pid}/exe").endswith("cat"), "the program to become cat")
        wait_for(lambda: not world.sessions(), lambda: f"the session of what is cat now to end: {world.sessions()}")
        check(process.poll() is None, "cat ended")
    finally:
        process.stdin.close()
        process.wait()
    server.stop()


main(__doc__, test, lambda parser: parser.add_argument("--program", type=Path, required=True, help="processes.c's"))
