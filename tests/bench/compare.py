#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the call benchmark natively and under the shim, alternating, and prints medians, ratio and spread.

Both sides run on the same machine in the same minutes, because only their ratio means anything: clocks and
neighbours change. With the software GPU there is no native side (it cannot serve the CUDA runtime by itself).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time


def run(program, scale, environment):
    result = subprocess.run([program, str(scale)], env=environment, capture_output=True, text=True, timeout=600)
    if result.returncode != 0:
        raise SystemExit(f"{program} ended with status {result.returncode}: {result.stderr}")
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--program", type=pathlib.Path, help="default: BUILD/tests/bench/calls")
    parser.add_argument("--driver", default="real", help="as cricket-server's: real, soft or a path")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="write all values there")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    program = (arguments.program or build / "tests/bench/calls").resolve()
    native_too = arguments.driver != "soft"
    scale = 1 if native_too else 16
    values = {"native": [], "shim": []}
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, CRICKET_SOCKET=f"{folder}/server.sock", CRICKET_LOG="warn")
        server = subprocess.Popen([build / "server/cricket-server", "--driver", arguments.driver], env=environment)
        deadline = time.monotonic() + 60
        while subprocess.run([build / "server/cricketctl", "status"], env=environment, capture_output=True).returncode:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("cricket-server did not start")
            time.sleep(0.05)
        try:
            for _ in range(arguments.runs):
                if native_too:
                    values["native"].append(run(program, scale, dict(os.environ)))
                shimmed = dict(environment, LD_PRELOAD=str(build / "client/libcudashim.so"))
                values["shim"].append(run(program, scale, shimmed))
        finally:
            server.terminate()
            server.wait()
    if arguments.json:
        arguments.json.write_text(json.dumps(values, indent=1))
    print(f"{'':24}{'native':>10}{'shim':>10}{'shim/native':>13}{'spread of shim':>18}")
    for name in values["shim"][0]:
        shim = [one[name] for one in values["shim"]]
        native = [one[name] for one in values["native"]]
        middle = statistics.median(shim)
        spread = f"{min(shim):.2f} ... {max(shim):.2f}"
        if native:
            base = statistics.median(native)
            print(f"{name:24}{base:10.2f}{middle:10.2f}{middle / base:13.2f}{spread:>18}")
        else:
            print(f"{name:24}{'-':>10}{middle:10.2f}{'-':>13}{spread:>18}")


main()
