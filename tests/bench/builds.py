#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Several builds side by side: runs parts of calls.cu in turn, natively and under the shim of each build, for some seconds, and
prints for each figure the best and the median, and the median as a speed of native's. Short turns, many of them, because
on a virtual machine it is luck which cores a program and its worker get, and that is worth more than most changes are."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("builds", type=pathlib.Path, nargs="+", help="build folders; the first one's calls is run for all")
    parser.add_argument("--driver", default="real", help="as cricket-server's; native is left out where it is not 'real'")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--parts", default="awaited", help="of calls, with commas")
    options = parser.parse_args()
    builds = {str(build): build.resolve() for build in options.builds}
    command = [next(iter(builds.values())) / "tests/bench/calls", *options.parts.split(",")]
    values, servers = {}, []
    with tempfile.TemporaryDirectory() as folder:
        sides = {"native": dict(os.environ)} if options.driver == "real" else {}
        try:
            for name, build in builds.items():
                environment = dict(os.environ, CRICKET_SOCKET=f"{folder}/{len(servers)}.sock", CRICKET_LOG="warn")
                servers.append(subprocess.Popen([build / "server/cricket-server", "--driver", options.driver], env=environment))
                while subprocess.run([build / "server/cricketctl", "status"], env=environment, capture_output=True).returncode:
                    if servers[-1].poll() is not None:
                        raise SystemExit(f"the server of {name} ended with status {servers[-1].returncode}")
                    time.sleep(0.05)
                sides[name] = environment | {"LD_PRELOAD": str(build / "client/libcudashim.so")}
            end = time.monotonic() + options.seconds
            while time.monotonic() < end:
                for side, environment in sides.items():
                    out = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE, timeout=120).stdout
                    for figure, value in json.loads(out).items():
                        values.setdefault(figure, {}).setdefault(side, []).append(value)
        finally:
            for server in servers:
                server.terminate()
                server.wait()
    for figure, of in values.items():
        print(figure)
        rate = figure.endswith("GBps")
        for side, all_ in of.items():
            median = statistics.median(all_)
            line = f"    {side:30} best {(max if rate else min)(all_):9.3f}  median {median:9.3f}  of {len(all_)}"
            if side != "native" and "native" in of:
                native = statistics.median(of["native"])
                line += f"  speed {median / native if rate else native / median:.2f}"
            print(line)


if __name__ == "__main__":
    main()
