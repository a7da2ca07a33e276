#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Counts the instructions of the commonest calls in the application's thread (callgrind, software GPU), and of a launch in
the worker (executor_bench), and fails when one exceeds its limit: a regression shows by number, whatever else the machine
does meanwhile."""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

# Instructions a call, of a release build with g++ 12: what was measured and a tenth more.
LIMITS = json.loads(pathlib.Path(__file__).with_name("instructions.json").read_text())
REPEATS = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--program", type=pathlib.Path, help="default: BUILD/tests/bench/instructions")
    parser.add_argument("--no-limits", action="store_true", help="only print (a build without optimization)")
    arguments = parser.parse_args()
    if not shutil.which("valgrind"):
        print("SKIP: there is no valgrind")
        return 77
    build = arguments.build.resolve()
    program = (arguments.program or build / "tests/bench/instructions").resolve()
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, CRICKET_SOCKET=f"{folder}/server.sock", CRICKET_LOG="warn")
        server = subprocess.Popen([build / "server/cricket-server", "--driver", "soft"], env=environment)
        try:
            deadline = time.monotonic() + 60
            while subprocess.run([build / "server/cricketctl", "status"], env=environment, capture_output=True).returncode:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("cricket-server did not start")
                time.sleep(0.05)
            # valgrind itself needs no shim: the preload is for the program it runs, which valgrind's own start inherits.
            callgrind = ["valgrind", "-q", "--tool=callgrind"]
            subprocess.run([*callgrind, "--collect-atstart=no", f"--callgrind-out-file={folder}/out", program, build / "examples/drv_kernel.ptx"],
                           env=dict(environment, LD_PRELOAD=str(build / "client/libcudashim.so")), check=True, timeout=300)
            subprocess.run([*callgrind, "--instr-atstart=no", f"--callgrind-out-file={folder}/worker_out", build / "tests/bench/executor_bench"],
                           stdout=subprocess.DEVNULL, check=True, timeout=300)
        finally:
            server.terminate()
            server.wait()
        counts = {}
        for dump in pathlib.Path(folder).glob("*out.*"):
            text = dump.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.M)
            total = re.search(r"^totals: (\d+)$", text, re.M)
            if name and total:
                counts[name[1]] = int(total[1]) // REPEATS
    missing = set(LIMITS) - set(counts)
    if missing:
        raise SystemExit("not counted: " + ", ".join(sorted(missing)))
    failed = False
    print(f"{'instructions a call':24}{'now':>8}{'limit':>8}")
    for name, count in counts.items():
        limit = LIMITS.get(name)
        over = not arguments.no_limits and (limit is None or count > limit)
        failed |= over
        print(f"{name:24}{count:8}{limit if limit is not None else '-':>8}{'  EXCEEDED' if over else ''}")
    return 1 if failed else 0


sys.exit(main())
