#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Pinned memory over dumps and restores between which the program makes no CUDA call: what it wrote there itself is kept, and
so is what a kernel writes while, and after, it is dumped, to the byte (pinned.cu).

again: dumped and restored three times, the program writing in between; touched: a kernel runs that writes into the same pages.
short, long: both; the device is awaited by the dump, or not. green: of whose work nobody can tell whether it is over. replaced, replaced-long: with a snapshot and another server. ended: the server is told to end, and another goes on.
twice: the same image is restored a second time, after what the first one wrote came to nothing. left-running: an image of a
program that went on and wrote more. random: dumps at random moments, some before the first call after the one before. polls: the kernel's word is seen without a call. stopped: a worker that does not answer
holds up no dump. unasked: a server that may not use fanotify, after the device stood still.
"""
import os
import signal
import time

from harness import Skip, check, children_of, main_of_parts, wait_for

LONG_MS = 1500


def says(app, line, times=1):
    def said():
        check(app.alive(), f"ended with status {app.world.children.status.get(app.pid)}: {app.describe()}")
        return app.output().splitlines().count(line) >= times

    wait_for(said, lambda: f"'{line}' of {app.describe()}")


class Run:
    """A program that stands where it waits for a signal, and its server."""

    def __init__(self, world, work_ms=0, writes=1, *more, begun="ready", unasked=False):
        self.world, self.written = world, 0
        self.folder = world.folder / f"run{world.next_number()}"
        self.server = world.start_server(environment={"CRICKET_LOG": "debug"})
        if not unasked and "dumps are not noticed" in self.server.log.read_text(errors="replace"):
            raise Skip("the server may not use fanotify here (CAP_SYS_ADMIN)")
        self.app = world.start_program([world.build / "tests/checkpoint/pinned", "--work-ms", str(work_ms), "--writes", str(writes), *more])
        says(self.app, begun)

    def dump(self, name, *options):
        self.app.dump(self.folder / name, *options)

    def restore(self, name):
        self.app.restore(self.folder / name)

    def dump_and_restore(self, name):
        self.dump(name)
        self.restore(name)

    def write(self):
        self.written += 1
        os.kill(self.app.pid, signal.SIGUSR1)
        says(self.app, "written", self.written)

    def replace_server(self, name="gpu"):
        self.world.wait_state(self.app.pid, "parked")
        self.world.control("snapshot", self.app.pid, self.folder / name)
        self.server.kill()
        self.server = self.world.start_server()
        self.world.control("load", self.folder / name)

    def finish(self):
        os.kill(self.app.pid, signal.SIGUSR1)
        print(self.app.finish(stop=False).splitlines()[-1])
        self.server.stop()


def again(world):
    run = Run(world, writes=3)
    for number in range(3):
        run.dump_and_restore(f"{number}")
        run.write()
    run.dump_and_restore("last")
    run.finish()


def beside_kernel(world, work_ms, dumped_again, replaced=False, *more):
    run = Run(world, work_ms, 1, *more)
    run.dump("first")
    if replaced:
        run.replace_server()
    run.restore("first")
    run.write()
    if dumped_again:
        run.dump_and_restore("second")
    run.finish()


def ended(world):
    for work_ms in (0, 300, LONG_MS):
        run = Run(world, work_ms)
        run.dump("image")
        run.server.stop()  # keeps the session in its state folder, the kernel still running perhaps
        run.server = world.start_server()
        run.restore("image")
        run.write()
        run.dump_and_restore("second")
        run.finish()


def twice(world):
    for work_ms in (0, LONG_MS):
        run = Run(world, work_ms)
        run.dump_and_restore("image")
        run.write()
        run.app.kill()
        run.restore("image")
        run.written = 0
        run.write()
        run.finish()


def left_running(world):
    run = Run(world, writes=2)
    run.write()
    run.dump("image", "--leave-running")
    run.write()
    run.app.kill()
    world.wait_state(run.app.pid, "parked")
    run.restore("image")
    run.written = 1
    run.write()
    run.finish()


def random(world):
    for phase_ms in (30, 300):  # the dump awaits the kernel, or does not
        run = Run(world, 0, 0, "--steps", "0", "--phase-ms", str(phase_ms), begun="step 3")
        for cycle in range(12):
            for number in range(world.random.randrange(1, 4)):
                time.sleep(world.random.random() * 0.05)  # not a wait for anything: the moment is the test's input
                run.dump(f"{cycle}-{number}")
                if number == 0 and world.random.random() < 0.3:
                    run.replace_server(f"{cycle}-gpu")
                run.restore(f"{cycle}-{number}")
            run.app.progress()
        print(run.app.finish().splitlines()[-1])
        run.server.stop()


def unasked(world):
    program = world.folder / "unasked-server"
    program.write_text(f'#!/bin/sh\nexec setpriv --bounding-set -sys_admin --inh-caps -sys_admin {world.server_program} "$@"\n')
    program.chmod(0o755)
    privileged, world.server_program = world.server_program, program
    run = Run(world, 0, 2, unasked=True)
    check("dumps are not noticed" in run.server.log.read_text(errors="replace"), "the server may use fanotify")
    for number in range(2):
        wait_for(lambda: "the device stands still after call" in run.server.log.read_text(errors="replace"), "the device to stand still")
        run.dump_and_restore(f"{number}")
        run.write()
    run.dump_and_restore("last")
    run.finish()
    world.server_program = privileged


def polls(world):
    run = Run(world, 50, 1, "--polls", "1")
    run.dump_and_restore("image")
    run.write()
    says(run.app, "seen")
    run.finish()


def stopped(world):
    run = Run(world)
    workers = children_of(run.server.pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    run.dump("image")
    check(time.monotonic() - began < 20, f"the dump took {time.monotonic() - began:.1f} s with a worker that does not answer")
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    run.restore("image")
    run.write()
    run.finish()


PARTS = {
    "again": again,
    "touched": lambda world: beside_kernel(world, LONG_MS, False),
    "short": lambda world: beside_kernel(world, 50, True),
    "long": lambda world: beside_kernel(world, LONG_MS, True),
    "green": lambda world: beside_kernel(world, LONG_MS, True, False, "--green", "1"),
    "replaced": lambda world: beside_kernel(world, 0, True, True),
    "replaced-long": lambda world: beside_kernel(world, LONG_MS, True, True),
    "ended": ended,
    "twice": twice,
    "left-running": left_running,
    "random": random,
    "unasked": unasked,
    "polls": polls,
    "stopped": stopped,
}
main_of_parts(__doc__, PARTS, "nothing is lost", needs_criu=True)
