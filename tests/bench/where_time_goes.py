#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Where the microseconds of a launch, a synchronization and a copy go, in the worker: runs parts of calls.cu under the shim
with timed_driver.cpp between worker and driver, and prints for each part what the application waited, which calls of the
driver that came to, how long each took there, and what passed between them (ours: ring, decoding, looking up, answering).
The watch itself takes about 50 ns a call, which is in both."""
import argparse
import json
import os
import pathlib
import struct
import subprocess
import tempfile
import time

PARTS = ["throughput", "launch_sync", "d2h", "h2d", "posted", "memory", "bulk"]
SUM = struct.Struct("32sQQQQ")


def read(path):
    data = path.read_bytes() if path.exists() else b""
    found = {}
    for at in range(0, len(data), SUM.size):
        name, *numbers = SUM.unpack_from(data, at)
        if name := name.rstrip(b"\0").decode():
            found[name] = numbers
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--scale", type=int, default=1, help="as calls': divides the work")
    parser.add_argument("--json", type=pathlib.Path, help="write all numbers there")
    options = parser.parse_args()
    build = options.build.resolve()
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        sums = pathlib.Path(folder) / "sums"
        environment = dict(os.environ, CRICKET_SOCKET=f"{folder}/server.sock", CRICKET_LOG="warn", CRICKET_TIMED_DRIVER=str(sums))
        server = subprocess.Popen([build / "server/cricket-server", "--driver", build / "tests/bench/libtimed_driver.so"], env=environment)
        try:
            deadline = time.monotonic() + 60
            while subprocess.run([build / "server/cricketctl", "status"], env=environment, capture_output=True).returncode:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("cricket-server did not start")
                time.sleep(0.05)
            for part in PARTS:
                before = read(sums)
                out = subprocess.run([build / "tests/bench/calls", "--scale", str(options.scale), part], check=True, text=True,
                                     capture_output=True, env=dict(environment, LD_PRELOAD=str(build / "client/libcudashim.so"))).stdout
                calls = {}
                for name, numbers in read(sums).items():
                    count, ns, gaps, gap_ns = (now - then for now, then in zip(numbers, before.get(name, [0] * 4)))
                    if count:
                        calls[name] = {"calls": count, "driver_us": ns / count / 1000, "between_us": gap_ns / gaps / 1000 if gaps else None}
                report[part] = {"application": json.loads(out), "driver": calls}
        finally:
            server.terminate()
            server.wait()
    for part, found in report.items():
        print(f"\n{part}: " + ", ".join(f"{name} {value:.2f}" for name, value in found["application"].items()))
        for name, call in sorted(found["driver"].items(), key=lambda item: -item[1]["calls"] * item[1]["driver_us"]):
            between = "" if call["between_us"] is None else f"{call['between_us']:8.2f} us since the call before"
            print(f"  {name:24}{call['calls']:9} calls{call['driver_us']:9.2f} us each in the driver{between}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


main()
