#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What kernels print arrives in the program's own output, in its place; what a failed assert leaves behind is as with the
driver itself; CUDA_LAUNCH_BLOCKING makes the launch say so."""
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
from harness import check, main  # noqa: E402


def expected():
    def kernel(number, threads=1):
        return [f"kernel {number} thread {thread}" for thread in range(threads)]

    lines = ["begin", *kernel(1, 2), "device", *kernel(2), "stream", *kernel(3), "event", *kernel(4), "copy"]
    for number in range(3000):
        lines += kernel(number)
    return lines + ["end"]


def test(world, arguments):
    world.start_server()

    def run(*options, **variables):
        environment = world.environment(LD_PRELOAD=str(world.shim), **variables)
        done = subprocess.run([arguments.program.resolve(), *options], env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)
        check(done.returncode == 0, f"status {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout.splitlines(), done.stderr.splitlines()

    for transport in ("ring", "unix"):
        out, err = run(CRICKET_TRANSPORT=transport)
        check(out == expected(), f"over {transport} the output differs:\n" + "\n".join(out[:40]))
        check(err == [], f"on stderr: {err}")

    for blocking in ("0", "1"):
        out, err = run("assert", CUDA_LAUNCH_BLOCKING=blocking)
        text = out + err
        said = [line for line in text if "Assertion `zero == 0' failed" in line or "Assertion `zero == 0` failed" in line]
        check(said, f"nothing of the assert: {text}")
        answers = [line for line in out if line.split(" ")[0] in ("launch", "wait", "malloc")]
        broken = "cudaErrorAssert"
        first = broken if blocking == "1" else "cudaSuccess"
        check(answers == [f"launch {first}", f"wait {broken}", f"launch {broken}", f"malloc {broken}"],
              f"with CUDA_LAUNCH_BLOCKING={blocking}: {answers}")
        if world.driver == "real":
            check(err.index(said[0]) < err.index("after the assert"), f"stderr is out of order: {err}")


main(__doc__, test, lambda parser: parser.add_argument("--program", type=Path, required=True, help="printing.cu's"))
