#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a session keeps is bounded by what lives in it, however much came and went (churn.cpp): neither a snapshot nor the memory
of worker and program grows with the number of objects that are gone. But code that was loaded stays in the journal for ever,
since where the driver puts variables depends on it: what each load costs is bounded here."""
import collections
import json
import os
import subprocess

from harness import check, children_of, main, wait_for

LOADS = ("modules", "libraries", "contexts")
FEW, MANY = 40, 250
MOST_KIB = 1024                   # by which memory may grow in MANY rounds: allocators keep some
MOST_ENTRIES, MOST_BYTES = 5, 600  # of the journal, for one round of LOADS


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


class Churn:
    def __init__(self, world):
        self.world = world
        pipe = world.folder / "churn.pipe"
        os.mkfifo(pipe)
        program = world.build / "tests/checkpoint/churn"
        self.kinds = subprocess.run([program], capture_output=True, text=True, check=True,
                                    env=world.environment(LD_PRELOAD=str(world.shim))).stdout.split()
        self.app = world.start_program([program, pipe])
        self.pipe = open(pipe, "w", buffering=1)
        self.lines = 0

    def run(self, kind, rounds):
        """Returns by how many KiB the worker and the program have grown meanwhile."""
        before = self.memory()
        self.pipe.write(f"{kind} {rounds}\n")
        self.lines += 1
        wait_for(lambda: len(self.app.output().splitlines()) >= self.lines or not self.app.alive(), f"{rounds} {kind}", 600)
        check(self.app.output().splitlines()[-1] == f"{kind} {rounds}", f"it has ended: {self.app.describe()}")
        return [after - was for after, was in zip(self.memory(), before)]

    def memory(self):
        workers = children_of(self.world.servers[-1].pid)
        return [sum(map(resident_kib, workers)), resident_kib(self.app.pid)]

    def snapshot(self, name):
        """What it holds: the length of each list of its description, the journal's entries by name."""
        folder = self.world.folder / name
        self.world.control("snapshot", self.app.pid, folder, "--running")
        manifest = json.loads((folder / "manifest.json").read_text())
        sizes = collections.Counter()
        for entry in manifest["meta"].pop("journal"):
            sizes["journal: " + entry["name"]] += 1
            sizes["journal's bytes"] += entry["bytes"]

        def measure(where, value):
            if isinstance(value, list):
                sizes[where] += len(value)
                for one in value:
                    measure(where + "[]", one)
            elif isinstance(value, dict):
                for key, one in value.items():
                    measure(f"{where}.{key}", one)

        measure("meta", manifest["meta"])
        for part in manifest["parts"]:
            sizes[f"bytes of part {part['name']}"] += part["bytes"]
        return sizes


def grown(before, after):
    return {what: after[what] - before[what] for what in after if after[what] > before[what]}


def said(kind, rounds, memory):
    worker, program = memory
    print(f"{rounds} {kind}: the worker grows by {worker} KiB, the program by {program} KiB", flush=True)
    check(max(memory) <= MOST_KIB, f"memory grows with {kind} that are gone")


def loads(churn, kind, arguments):
    """The calls stay, the images once each."""
    churn.run(kind, arguments.few)
    before = churn.snapshot(f"before-{kind}")
    churn.run(kind, arguments.many)
    more = grown(before, churn.snapshot(f"after-{kind}"))
    entries = sum(count for what, count in more.items() if what.startswith("journal: "))
    size = more.pop("journal's bytes")
    print(f"{arguments.many} {kind}: {entries} entries of the journal, {size} bytes", flush=True)
    check(entries <= MOST_ENTRIES * arguments.many and size <= MOST_BYTES * arguments.many, "the journal grows by more than the calls")
    rest = [what for what in more if not what.startswith("journal: ") and what != "bytes of part journal"]
    check(not rest, f"this grows as well: {rest}")


def test(world, arguments):
    world.start_server()
    churn = Churn(world)
    wanted = arguments.kinds or churn.kinds
    check(set(wanted) <= set(churn.kinds), f"there are only these kinds: {churn.kinds}")
    passing = [kind for kind in wanted if kind not in LOADS]
    churn.run("events", 4000)  # the ring's pages have all been used then
    for kind in passing:
        churn.run(kind, arguments.few)
    before = churn.snapshot("before")
    for kind in passing:
        said(kind, arguments.many, churn.run(kind, arguments.many))
    more = grown(before, churn.snapshot("after"))
    check(not more, f"a snapshot grows with what is gone, by {more}")
    for kind in wanted:
        if kind in LOADS:
            loads(churn, kind, arguments)


def add_arguments(parser):
    parser.add_argument("--few", type=int, default=FEW, help="rounds before the first snapshot")
    parser.add_argument("--many", type=int, default=MANY, help="rounds between the two")
    parser.add_argument("kinds", nargs="*", help="all, when none is named")


main(__doc__, test, add_arguments)
