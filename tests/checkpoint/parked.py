#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A session whose client vanished is parked, kept for its time, and dropped; or dropped when told to."""
import ctypes
import os
import signal
import sys
from pathlib import Path

from harness import check, children_of, main, stat_of, tail, wait_for


class held:
    """One thread of another process stands still, as ptrace makes it; the others go on."""
    SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, thread):
        self.thread = thread

    def ask(self, request):
        ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        ptrace.argtypes = [ctypes.c_long] * 4
        check(ptrace(request, self.thread, 0, 0) == 0, f"ptrace: {os.strerror(ctypes.get_errno())}")

    def __enter__(self):
        self.ask(self.SEIZE)
        self.ask(self.INTERRUPT)
        os.waitpid(self.thread, self.WALL)

    def __exit__(self, *_):
        self.ask(self.DETACH)


def executor_of(worker):
    """The thread that executes the calls: it alone asks to be woken on the microsecond."""
    (thread,) = [task for task in os.listdir(f"/proc/{worker}/task") if Path(f"/proc/{task}/timerslack_ns").read_text() == "1000\n"]
    return int(thread)


# A program that has a context, and whose end is no call.
STANDING = """
import ctypes, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
cuda, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
assert cuda.cuInit(0) == 0 and cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
print("there", flush=True)
signal.sigwait({signal.SIGTERM})
print("PASS")
"""


def ends_with_its_server(world):
    """The program has ended in order, and the server is told to end before the worker has seen that: nothing of it is kept."""
    server = world.start_server()
    app = world.start_program([sys.executable, "-c", STANDING])
    app.progress()
    worker = next(child for child in children_of(server.pid) if b"--worker" in Path(f"/proc/{child}/cmdline").read_bytes())
    executor = executor_of(worker)
    looks = 0

    def asleep():  # all that is to be done but what the executor is asked for
        nonlocal looks
        states = [stat_of(f"{pid}/task/{task}") for pid in (worker, server.pid) for task in os.listdir(f"/proc/{pid}/task") if task != str(executor)]
        looks = looks + 1 if all(state and state[0] == "S" for state in states) else 0
        return looks == 25

    with held(executor):
        app.finish()
        os.kill(server.pid, signal.SIGTERM)
        wait_for(lambda: "ending" in server.log.read_text(), "the server to begin to end")
        wait_for(asleep, "server and worker to wait for the executor")
    check(world.children.wait(server.pid, "the server") == 0, f"the server failed:\n{tail(server.log)}")
    check(not any((world.folder / "state").glob("*")), f"a session without a program is kept:\n{tail(server.log)}")
    check("lost" not in server.log.read_text(), f"it is no loss:\n{tail(server.log)}")


def test(world, arguments):
    world.criu
    images = world.folder / "img"

    # Dumped: parked, and still what it was when the program comes back.
    server = world.start_server()
    app = world.start("counter", "--steps", "0")
    app.progress()
    running = world.wait_state(app.pid, "running")
    check(running["program"].endswith("counter"), f"status calls the program '{running['program']}'")
    app.dump(images)
    parked = world.wait_state(app.pid, "parked")
    check(parked["id"] == running["id"], "the parked session is another one")
    check(parked["calls"] >= running["calls"], "calls were forgotten")
    app.restore(images)
    app.progress()
    world.wait_state(app.pid, "running")
    app.finish()
    wait_for(lambda: world.session_of(app.pid) is None, "the session of a program that ended to go")

    # Killed without a goodbye: parked as well, since nobody can tell it from a dump; dropped by word.
    app = world.start("counter", "--steps", "0")
    app.progress()
    app.kill()
    session = world.wait_state(app.pid, "parked")
    world.control("drop", session["id"])
    check(world.session_of(app.pid) is None, "the dropped session is still there")
    server.stop()

    # Dropped by time, with a line in the log.
    server = world.start_server("--park-timeout", "1")
    app = world.start("counter", "--steps", "0")
    app.progress()
    app.kill()
    session = world.wait_state(app.pid, "parked")
    wait_for(lambda: world.session_of(app.pid) is None, "the parked session to be dropped after its second", 20)
    check("drop" in server.log.read_text().lower(), f"no line about it in the server's log:\n{tail(server.log)}")
    world.refused("snapshot", app.pid, world.folder / "gone", naming=app.pid)
    world.refused("snapshot", session["id"], world.folder / "gone", naming=session["id"])
    check(not (world.folder / "gone").exists(), "a refused snapshot left a folder")
    server.stop()

    ends_with_its_server(world)


main(__doc__, test)
