#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A session that stands still, with calls in its ring that are not to be executed yet, needs no processor: criu does then."""
from pathlib import Path

from harness import check, children_of, main, wait_for

LOOKS = 50  # that follow each other, 2 ms apart


def states(pid):
    return [(task / "stat").read_text().rsplit(")", 1)[1].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]


class Asleep:
    """True once no thread was seen to run for so many looks."""

    def __init__(self, pids):
        self.pids, self.looks = pids, 0

    def __call__(self):
        quiet = all(state == "S" for pid in self.pids for state in states(pid))
        self.looks = self.looks + 1 if quiet else 0
        return self.looks == LOOKS


def test(world, arguments):
    server = world.start_server()
    app = world.start("streams", "--steps", "0", "--pairs", "2")
    app.progress()
    workers = children_of(server.pid)
    world.control("quiesce", app.pid)
    calls = world.session_of(app.pid)["calls"]
    wait_for(Asleep([app.pid]), "the program to wait for its calls", 20)
    wait_for(Asleep(workers), lambda: f"the worker to sleep; its threads are {[states(worker) for worker in workers]}", 20)
    check(world.session_of(app.pid)["calls"] == calls, "calls were executed while the session stood")
    world.control("resume", app.pid)
    app.progress()
    print(app.finish().splitlines()[-1])
    server.stop()


main(__doc__, test)
