#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What kernels print comes once and in its place, although the program is dumped at random moments, and half the time the
server with what it had not handed over is replaced by a new one."""
import time
from pathlib import Path

from harness import check, main

WINDOW = 0.03  # seconds in which the moment of a dump is drawn


def test(world, arguments):
    world.criu
    server = world.start_server()
    app = world.start_program([arguments.program.resolve(), "steps"])
    app.progress()
    images, gpu = world.folder / "img", world.folder / "gpu"
    replaced = 0
    for cycle in range(arguments.cycles):
        time.sleep(world.random.random() * WINDOW)  # the moment is the test's input
        place = images.with_name(f"img{cycle}")
        app.dump(place)
        if world.random.random() < 0.5:
            replaced += 1
            saved = gpu.with_name(f"gpu{cycle}")
            world.control("snapshot", app.pid, saved)
            server.kill()
            server = world.start_server()
            world.control("load", saved)
        app.restore(place)
        app.progress()
    lines = app.finish().splitlines()
    steps = len(lines) // 2
    expected = [line for step in range(steps) for line in (f"kernel {step} thread 0", f"step {step}")] + [f"PASS {steps} steps"]
    wrong = next((i for i, (seen, wanted) in enumerate(zip(lines, expected)) if seen != wanted), None)
    check(lines == expected, f"{len(lines)} lines; from line {wrong}: {lines[wrong:wrong + 4] if wrong is not None else ''}")
    server.stop()
    print(f"{arguments.cycles} dumps and restores, {replaced} of them with a new server; {steps} steps")


def add_arguments(parser):
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--program", type=Path, required=True, help="tests/shim/printing.cu's")


main(__doc__, test, add_arguments)
