#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The soak: many cycles at random moments over the examples, several programs at a time, and what became of them.

Each cycle is one of: a plain dump with the same server (parked) or another (replaced), a coordinated checkpoint that ends
the program, brought back by the same server (ended) or another (moved), one that leaves it running (left). The programs
check every step themselves, so a call that is lost, repeated or wrong shows in their output; train's losses, and those of
a PyTorch training where an interpreter is given, are compared with an undisturbed run.

    soak.py --build build --driver real --cycles 1000 --jobs 8 --training python3 --json soak.json
"""
import argparse
import json
import os
import random
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import HERE, Failure, check, losses, main, wait_for

PROGRAMS = ["counter", "matmul", "train", "streams --pairs 3", "copies --mib 2 --rounds 10000", "state", "textures", "drv",
            "hostfn", "graphs", "graphs --late-ms 50"]
WAYS = ("parked", "replaced", "ended", "moved", "left")
WINDOW = 0.06  # seconds: the longest pause between a sign of life and the next cycle
# What may be said instead of a snapshot, with the program going on.
REFUSALS = ("host function", "being captured")
SERVER_SAYS = {"repeated": re.compile(r"would (?:repeat|be repeated)|older than the session"),
               "lost": re.compile(r"are lost|would be lost|session is older")}


class Cycles:
    def __init__(self, world, app, server):
        self.world, self.app, self.server = world, app, server
        self.done = dict.fromkeys(WAYS, 0)
        self.number, self.refused, self.times = 0, 0, {}

    def timed(self, what, function, *words):
        began = time.monotonic()
        result = function(*words)
        self.times.setdefault(what, []).append(time.monotonic() - began)
        return result

    def new_server(self):
        self.server.kill()
        self.server = self.world.start_server()

    def allowed(self, result, what):
        """Whether it was done; if not, it must have been refused by name."""
        if result.returncode == 0:
            return True
        check(result.returncode > 0 and any(word in result.stdout for word in REFUSALS), f"{what} failed:\n{result.stdout}")
        self.refused += 1
        return False

    def plain(self, replace):
        images, gpu = self.world.folder / "img", self.world.folder / "gpu"
        self.timed("dump", self.app.dump, images)
        if replace:
            saved = self.timed("snapshot", lambda: self.world.control("snapshot", self.app.pid, gpu, accept_failure=True))
            replace = self.allowed(saved, "the snapshot")
        if replace:
            self.new_server()
            self.timed("load", self.world.control, "load", gpu)
        self.timed("restore", self.app.restore, images)
        self.done["replaced" if replace else "parked"] += 1

    def coordinated(self, way):
        folder = self.world.folder / "checkpoint"
        more = ["--leave-running"] if way == "left" else []
        taken = self.timed("left running" if more else "checkpoint", lambda: self.world.control(
            "checkpoint", self.app.pid, folder, *more, accept_failure=True))
        if not self.allowed(taken, "the checkpoint"):
            return
        if way != "left":
            wait_for(lambda: not self.app.alive(), "the checkpointed program to end")
            if way == "moved":
                self.new_server()
            self.world.children.status.pop(self.app.pid, None)
            self.timed("back", self.world.control, "restore", folder)
        self.done[way] += 1

    def one(self, number):
        way = self.world.random.choice(WAYS)
        time.sleep(self.world.random.random() * WINDOW)  # not a wait for anything: the moment is the test's input
        try:
            self.plain(way == "replaced") if way in ("parked", "replaced") else self.coordinated(way)
            self.app.progress()
        except Failure as failure:
            raise Failure(f"cycle {number}, {way}: {failure}") from None
        self.number += 1
        for name in ("img", "gpu", "checkpoint"):
            shutil.rmtree(self.world.folder / name, ignore_errors=True)


def soak_one(world, arguments):
    world.criu  # a machine without one is told before anything starts
    name, *options = shlex.split(arguments.one)
    server = world.start_server()
    app = world.start(name, "--steps", "0", *options)
    app.progress()
    cycles = Cycles(world, app, server)
    began = time.monotonic()
    figures = {"program": arguments.one, "verdict": "failed"}
    try:
        for number in range(arguments.cycles):
            cycles.one(number)
        calls = world.session_of(app.pid)["calls"]
        output = app.finish()
        if name == "train":
            sequence = losses(output)
            undisturbed = world.start(name, "--steps", len(sequence), *options, shim=world.driver == "soft")
            expected = losses(undisturbed.finish(stop=False, patience=600))
            check(sequence == expected, "the losses differ from those of an undisturbed run")
        figures |= {"verdict": "pass", "calls": calls, "last line": output.splitlines()[-1]}
    finally:
        said = "".join(log.log.read_text(errors="replace") for log in world.servers)
        figures |= {"cycles": cycles.number, "refused": cycles.refused, **cycles.done,
                    "seconds": round(time.monotonic() - began, 1),
                    "wrong": len([line for line in app.output().splitlines() if line.startswith("FAIL")]),
                    **{what: len(pattern.findall(said)) for what, pattern in SERVER_SAYS.items()},
                    "median ms": {what: round(1000 * statistics.median(all_)) for what, all_ in sorted(cycles.times.items())}}
        if arguments.json:
            arguments.json.write_text(json.dumps(figures))
    cycles.server.stop()


def run_child(command, result, env=None):
    began = time.monotonic()
    run = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors="replace", env=env)
    figures = json.loads(result.read_text()) if result and result.exists() else {}
    figures.setdefault("seconds", round(time.monotonic() - began, 1))
    figures["status"] = run.returncode
    if run.returncode == 77:
        figures["verdict"] = "skipped: " + run.stdout.strip().splitlines()[-1]
    elif run.returncode:
        figures["verdict"] = "failed"
        figures["output"] = run.stdout[-6000:]
    return figures, run.stdout


def training(arguments, seed):
    command = [sys.executable, HERE.parent / "gpu/cases/criu_training.py", "--build", arguments.build, "--driver", arguments.driver,
               "--seed", seed, "--python", arguments.training, "--steps", arguments.training_steps or 50 * arguments.training_cycles,
               "--cycles", arguments.training_cycles, "mixed"]
    figures, output = run_child(command, None, dict(os.environ, CRICKET_TEST_PATIENCE="240"))
    if figures["status"] == 0:
        ways = re.findall(r"^cycle \d+ \((\w+)\)", output, re.M)
        figures |= {"verdict": "pass", "cycles": len(ways), "parked": ways.count("parked"), "replaced": ways.count("replaced"),
                    "wrong": 0, "lost": 0, "repeated": 0, "last line": output.strip().splitlines()[-1]}
    return figures | {"program": "PyTorch training", "command": shlex.join(map(str, command))}


def table(rows):
    columns = ("program", "cycles", *WAYS, "refused", "calls", "wrong", "lost", "repeated", "seconds", "verdict")
    lines = [[str(row.get(column, "-")) for column in columns] for row in rows]
    total = [str(sum(row.get(column) or 0 for row in rows)) if column not in ("program", "verdict", "seconds") else
             "all" if column == "program" else "" for column in columns]
    widths = [max(map(len, cells)) for cells in zip(columns, *lines, total)]
    for cells in (columns, ["-" * width for width in widths], *lines, total):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |")


def soak_all(arguments):
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    share, more = divmod(arguments.cycles, len(arguments.programs))
    print(f"seed {seed}: {arguments.cycles} cycles, {arguments.jobs} programs at a time, driver {arguments.driver}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cricket-soak-") as folder:
        def one(number):
            program = arguments.programs[number]
            cycles = share + (number < more)
            if not cycles:
                return None
            result = Path(folder) / f"{number}.json"
            command = [sys.executable, Path(__file__).resolve(), "--build", arguments.build, "--driver", arguments.driver,
                       "--seed", seed + number, "--cycles", cycles, "--one", program]
            figures, _ = run_child([*command, "--json", result], result)
            print(f"{figures['verdict']}: {program}", flush=True)
            return {"program": program, "command": shlex.join(map(str, command))} | figures

        with ThreadPoolExecutor(arguments.jobs) as pool:
            rows = [row for row in pool.map(one, range(len(arguments.programs))) if row]
    if arguments.training:
        rows.append(training(arguments, seed))
    seconds = round(time.monotonic() - began, 1)
    table(rows)
    for row in rows:
        if row.get("median ms"):
            print(f"median ms, {row['program']}: " + ", ".join(f"{what} {ms}" for what, ms in row["median ms"].items()))
    print(f"{seconds} s in all")
    for row in rows:
        if row["verdict"] == "failed":
            print(f"--- {row['program']}; run it again: {row['command']}\n{row.get('output', '')}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"seed": seed, "driver": arguments.driver, "jobs": arguments.jobs, "seconds": seconds,
                                              "programs": rows}, indent=1) + "\n")
    if rows and all(row["verdict"].startswith("skipped") for row in rows):
        print(f"SKIP: {rows[0]['verdict']}")
        return 77
    return 0 if all(row["verdict"] == "pass" for row in rows) else 1


def add_common(parser):
    parser.add_argument("--cycles", type=int, default=110, help="in all")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--one", help="one program with its options; the parent starts itself like this")


if __name__ == "__main__":
    if any(word.split("=")[0] == "--one" for word in sys.argv[1:]):
        main(__doc__, soak_one, add_common)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=HERE.parents[1] / "build", help="the build folder")
    parser.add_argument("--driver", default=os.environ.get("CRICKET_TEST_DRIVER", "soft"))
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="programs at a time")
    parser.add_argument("--training", metavar="PYTHON", help="an interpreter with PyTorch: its training is soaked too")
    parser.add_argument("--training-cycles", type=int, default=20)
    parser.add_argument("--training-steps", type=int, help="50 a cycle by default, so that it does not end before its last one")
    add_common(parser)
    parser.add_argument("programs", nargs="*", default=PROGRAMS, help="examples, each with its options as one word")
    sys.exit(soak_all(parser.parse_args()))
